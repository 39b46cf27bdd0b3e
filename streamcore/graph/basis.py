"""A plan together with what it was made of: the spec, its files, and those of the plugins. What `up --reload` compares and watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import streamcore
from streamcore.clock import Clock
from streamcore.graph.check import examine
from streamcore.graph.model import Plan
from streamcore.graph.named_code import code_of
from streamcore.graph.plan import plan_graph
from streamcore.graph.wiring import Graph
from streamcore.plugins.location import top_of
from streamcore.plugins.policy import POLICY_FILE
from streamcore.plugins.reach import Reach
from streamcore.spec.model import Spec

STAMP_NS = 20_000_000  # the clock that stamps files goes in steps of some milliseconds
_OWN = os.path.dirname(streamcore.__file__) + os.sep  # imported once for all nodes, by the fork server: not to be had anew


@dataclass(frozen=True)
class Basis:
    """Hashes are sha256; "" of a file that changed while it was read, and so is like no content.

    spec_files: the spec and all that it includes.   code: the files of the plugins, and of what configs name; of those packages alone.
    runs: node to those of the files that it runs.   unknown: plugins, by their names in the spec, of which no file is known.
    folder: where streamcore was called, with a slash: what people leave out of a path.
    """

    plan: Plan
    spec: Spec
    spec_files: Mapping[str, str]
    code: Mapping[str, str]
    runs: Mapping[str, frozenset[str]]
    unknown: tuple[str, ...] = ()
    folder: str = ""

    def with_code_of(self, old: Basis, plugins: Iterable[str]) -> Basis:
        """Of these plugins, of which no file is known, the files that were known before."""
        wanted = set(plugins)
        runs = {node.id: old.runs[node.id] for node in self.spec.nodes if node.plugin in wanted and old.runs.get(node.id)}
        code = {path: old.code[path] for files in runs.values() for path in files if path in old.code}
        return replace(self, code={**code, **self.code}, runs={**self.runs, **runs})


def lay(
    path: str | Path,
    sets: Mapping[str, str] = {},
    allow: Sequence[str] = (),
    run: str | None = None,
    run_root: Path | None = None,
    policy_file: str = POLICY_FILE,
    folders: Sequence[str] = (),
) -> Basis:
    """As check.prepare, with what the plan was made of. Raises the same."""
    clock = Clock()
    begun_ns = clock.wall_ns() - STAMP_NS
    graph = examine(path, sets, allow, run, policy_file, folders)
    plan = plan_graph(graph, run, run_root / (run or graph.spec.name) if run_root else None)
    ended_ns = clock.wall_ns() + STAMP_NS
    spec_files = {name: _hash(name, begun_ns, ended_ns) for name in (str(path), *graph.spec.includes)}
    code = {plugin: {name: digest for name, digest in files.items() if not name.startswith(_OWN)} for plugin, files in graph.code.items()}
    unknown = tuple(plugin for plugin, files in code.items() if not files)
    every = {name: digest for files in code.values() for name, digest in files.items()}
    runs = _runs(graph, code)
    named = frozenset[str]().union(*runs.values()) - every.keys()
    every.update({name: _hash(name, begun_ns, ended_ns) for name in named})
    return Basis(plan, graph.spec, spec_files, every, runs, unknown, os.path.join(os.getcwd(), ""))


def _hash(path: str, begun_ns: int, ended_ns: int) -> str:
    """A stamp from the future says nothing: the file comes from a box with another clock."""
    try:
        with open(path, "rb") as file:
            content = file.read()
            return "" if begun_ns <= os.fstat(file.fileno()).st_mtime_ns <= ended_ns else sha256(content).hexdigest()
    except OSError:
        return ""


def _runs(graph: Graph, code: Mapping[str, Mapping[str, str]]) -> dict[str, frozenset[str]]:
    """A file that no import statement leads to belongs to every node whose plugin may have loaded it: a restart too many loses nothing."""
    modules = {}
    for node_id, node in graph.nodes.items():
        assert node.manifest  # the graph was checked
        modules[node_id] = [node.manifest.module, *(target.partition(":")[0] for _, target in code_of(node))]
    named = {top_of(module) for _, *others in modules.values() for module in others} - set(sys.stdlib_module_names)
    reach = Reach((name for files in code.values() for name in files), named)
    runs = {node_id: frozenset[str]().union(*map(reach.of, names)) for node_id, names in modules.items()}
    claimed = frozenset[str]().union(*runs.values())
    return {node_id: files | (code[graph.nodes[node_id].spec.plugin].keys() - claimed) for node_id, files in runs.items()}
