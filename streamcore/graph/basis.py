"""A plan together with what it was made of: the spec, its files, and those of the plugins. What `up --reload` compares and watches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import streamcore
from streamcore.clock import Clock
from streamcore.graph.check import examine
from streamcore.graph.model import Plan
from streamcore.graph.plan import plan_graph
from streamcore.graph.wiring import Graph
from streamcore.plugins.policy import POLICY_FILE
from streamcore.plugins.reach import Reach
from streamcore.spec.model import Spec

STAMP_NS = 20_000_000  # the clock that stamps files goes in steps of some milliseconds
_OWN = os.path.dirname(streamcore.__file__) + os.sep  # imported once for all nodes, by the fork server: not to be had anew


@dataclass(frozen=True)
class Basis:
    """Hashes are sha256; "" of a file that changed while it was read, and so is like no content.

    spec_files: the spec and all that it includes.   code: the files of the plugins, of their own packages alone.
    runs: plugin, by its name in the spec, to those of the files that it runs.   unknown: plugins of which no file is known.
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
        runs = {plugin: old.runs[plugin] for plugin in plugins if old.runs.get(plugin)}
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
    return Basis(plan, graph.spec, spec_files, every, _runs(graph, code), unknown, os.path.join(os.getcwd(), ""))


def _hash(path: str, begun_ns: int, ended_ns: int) -> str:
    """A stamp from the future says nothing: the file comes from a box with another clock."""
    try:
        with open(path, "rb") as file:
            content = file.read()
            return "" if begun_ns <= os.fstat(file.fileno()).st_mtime_ns <= ended_ns else sha256(content).hexdigest()
    except OSError:
        return ""


def _runs(graph: Graph, code: Mapping[str, Mapping[str, str]]) -> dict[str, frozenset[str]]:
    """A file that no import statement leads to belongs to every plugin that may have loaded it: a restart too many loses nothing."""
    reach = Reach(name for files in code.values() for name in files)
    runs = {node.spec.plugin: reach.of(node.manifest.module) for node in graph.nodes.values() if node.manifest}
    claimed: frozenset[str] = frozenset().union(*runs.values())
    return {plugin: files | (code[plugin].keys() - claimed) for plugin, files in runs.items()}
