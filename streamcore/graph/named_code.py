"""Python code that a config names, as `job.entry` does: may it be loaded, and is it there? Nothing is imported for the answer.

A plugin declares such a key with `"meta": {"code": True}` in its schema; the value reads `module:callable`. The rules are those for node
classes, so that a config is no way around `allow`. What cannot be known without running code (a module that makes its names, a finder
of its own) is left to the start.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec

from streamcore.graph.wiring import Graph, WiredNode
from streamcore.plugins import PluginRefused
from streamcore.plugins.policy import Policy
from streamcore.spec.problems import Near, show

SOURCE_BYTES_MAX = 4 << 20  # of a module that is read for its names; a generated one beyond that is left to the start
_MAKERS = {"*", "__getattr__", "globals", "vars", "exec", "setattr"}  # where one of these stands, names may come from elsewhere


def check_code(graph: Graph, policy: Policy) -> None:
    """Adds the problems of all nodes to those of the graph."""
    for index, node in enumerate(graph.nodes.values()):
        for key, target in code_of(node):
            where = (*(node.spec.where or ("nodes", index)), "config", key)
            if graph.problems.is_bad(where):
                continue
            module, _, name = target.partition(":")
            try:
                policy.admit_module(target, module, f"a function of '{module}'", "a function of an allowed package")
            except PluginRefused as refused:
                if not refused.follows:
                    graph.problems.add(where, refused.found, refused.expected, refused.hint)
                continue
            fault = _fault(module, name)
            if fault:
                graph.problems.add(where, *fault[:2], near=fault[2])


def code_of(node: WiredNode) -> Iterator[tuple[str, str]]:
    """The keys of a node's config that name code, and what they name."""
    for key, rule in node.manifest.config.items() if node.manifest is not None else ():
        target = node.config.get(key)
        if isinstance(rule, Mapping) and rule.get("meta", {}).get("code") and isinstance(target, str):
            yield key, target


def _fault(module: str, name: str) -> tuple[str, str, Near | None] | None:
    """(found, expected, near) of code that is certainly not there."""
    spec = _find(module)
    if spec is None:
        return f"no module {module!r}", "a module in PYTHONPATH, installed, or in the working directory", None
    defined = _names_of(spec)
    if defined is None or name in defined:
        return None
    return f"no {show(name)} in '{module}'", f"a function that '{module}' defines", (name, defined)


def _find(module: str) -> ModuleSpec | None:
    """As importlib finds it, but without importing the packages around it. The working directory comes last, as for plugins."""
    unknown = ModuleSpec(module, None)
    path: list[str] | None = None
    found: ModuleSpec | None = None
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        if path == []:
            return unknown  # in a module that is no package; it may have put something in its place, as os does
        try:
            found = _find_in(".".join(parts[:length]), path)
            path = list(found.submodule_search_locations or ()) if found else []
        except KeyError:  # a namespace package in one that is not imported cannot say where it lies
            return unknown
        if found is None:
            return None
    return found


def _find_in(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for where in (path, [os.getcwd()]) if path is None else (path,):
        for finder in [*sys.meta_path]:  # one of ours puts another in its place when it is asked
            found = finder.find_spec(name, where)
            if found is not None:
                return found
    return None


def _names_of(spec: ModuleSpec) -> list[str] | None:
    """What a module of Python source defines outside its functions and classes; None if that cannot be told from its text."""
    if not spec.origin or not spec.origin.endswith(".py"):
        return None
    try:
        with open(spec.origin, "rb") as file:
            tree = ast.parse(file.read(SOURCE_BYTES_MAX))
    except (OSError, SyntaxError, ValueError):  # the import will say what is wrong, with the place in that file
        return None
    found: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name):
            found.append(node.id)  # those that are only read do no harm: they excuse a name, and one that is misspelt is not read
        waiting.extend(ast.iter_child_nodes(node))
    return None if _MAKERS & set(found) else sorted(set(found))
