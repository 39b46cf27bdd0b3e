"""Graphs from Python: the same model, the same checks and the same words as a spec in YAML; the place of a problem is a line of Python."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.errors import ConfigError, Problem, RunError, SpecError
from streamcore.graph.hidden import reveal
from streamcore.graph.model import Plan
from streamcore.graph.named_code import check_code
from streamcore.graph.plan import plan_graph
from streamcore.graph.validate import check
from streamcore.graph.wiring import Graph as Wired
from streamcore.graph.wiring import wire
from streamcore.interpreter import command_of
from streamcore.manifest import target_of
from streamcore.node.api import Node
from streamcore.plugins import loading
from streamcore.plugins.manifests import Asked, find
from streamcore.plugins.policy import POLICY_FILE, Policy, asked, load_machine
from streamcore.secret import secrets_in
from streamcore.spec.expand import Entry, Expanded
from streamcore.spec.freeze import freeze
from streamcore.spec.loading import check_tree, load
from streamcore.spec.model import Place, Spec
from streamcore.spec.plain import Wrong, plain
from streamcore.spec.problems import Problems
from streamcore.spec.rules import VERSION
from streamcore.spec.writing import to_yaml

_OF_FILES = {
    "for_each": "a loop of Python that adds the nodes",
    "include": "the nodes themselves, or a spec file that includes it, for Graph.from_yaml",
}


@dataclass(frozen=True)
class NodeRef:
    """A node of a Graph; `camera["frames"]` is its port."""

    id: str

    def __getitem__(self, port: str) -> NodeRef:
        return NodeRef(f"{self.id}.{port}")

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Finished:
    """A run that has ended: the exit status of `streamctl up` and its report, empty if none was written."""

    status: int
    report: Mapping[str, Any]


class Graph:
    """A graph built in code.

        graph = Graph("door")
        camera = graph.node("camera", "video.file", config={"path": "a.mp4"})
        motion = graph.node("motion", my_nodes.Motion, restart="always")
        graph.edge(camera, motion, policy="latest")
        graph.run(for_s=10)

    Args:
      name: of the graph and its runs.   drain_s, limits, allow, checks, http: as in a spec.
    """

    def __init__(
        self,
        name: str,
        *,
        drain_s: float | None = None,
        limits: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        checks: str | None = None,
        http: int | Mapping[str, Any] | None = None,
    ):
        self._file, line = _caller()
        self._wrong: Wrong = []
        given = {"name": name, "drain_s": drain_s, "limits": limits, "allow": allow or None, "checks": checks, "http": http}
        self._top: dict[str, Any] = {"version": VERSION}
        self._top |= {key: plain(value, (key,), self._wrong) for key, value in given.items() if value is not None}
        self._places = Place(line, 1)
        for key in self._top:
            self._places.children[key] = Place(line, 1)
        self._entries: dict[str, list[dict[str, Any]]] = {"nodes": [], "edges": []}
        for key in self._entries:
            self._places.children[key] = Place(line, 1)
        self._targets: set[str] = set()  # of classes that were given as such
        self._loaded: Spec | None = None

    @classmethod
    def from_yaml(cls, path: str | Path, sets: Mapping[str, str] = {}, folders: Sequence[str] = ()) -> Graph:
        """The graph of a spec file, which can be validated, run and written like one that was built, but not added to.

        Raises:
          SpecError: with all its problems.
        """
        spec = load(path, sets, folders)
        graph = cls(spec.name)
        graph._loaded = spec
        return graph

    def node(self, node_id: str, plugin: str | type[Node], config: Mapping[str, Any] | None = None, **keys: Any) -> NodeRef:
        """Add a node. `plugin`: a name as in a spec, or a class from a module that other processes can import; `keys`: those of a spec.

        A path, a tuple, an enum or a number of numpy counts as the text, list or number that it is; `SecretRef("env:NAME")` or
        `SecretRef("file:PATH")` stands for a value that is never shown.
        """
        name = self._name_of(plugin) if isinstance(plugin, type) else plugin
        self._add("nodes", {"id": node_id, "plugin": name, **({} if config is None else {"config": config}), **keys})
        return NodeRef(node_id)

    def edge(self, producer: NodeRef | str, consumer: NodeRef | str, **keys: Any) -> None:
        """Connect two nodes, or two of their ports; `keys`: policy, depth, rate, completion, outbox, spill."""
        self._add("edges", {"from": str(producer), "to": str(consumer), **keys})

    def validate(self) -> list[Problem]:
        """All problems, as `streamctl validate` has them; none for a good graph."""
        try:
            self._wired()
        except SpecError as error:
            return error.problems
        return []

    def plan(self, run: str | None = None) -> Plan:
        """What `up` would start. Raises SpecError with all problems."""
        wired = self._wired(run)
        if len(wired.nodes) > limits.NODES_MAX:
            found = f"{len(wired.nodes)} nodes"
            raise SpecError([Problem(wired.spec.file, 0, 0, "nodes", found, f"at most {limits.NODES_MAX}: each is a process")])
        return plan_graph(wired, run, None)

    def to_yaml(self) -> str:
        """The graph as a spec. Raises SpecError with all problems that its shape has, ConfigError for a secret that cannot be written."""
        spec, problems = self._spec()
        if problems or spec is None:
            raise SpecError(problems)
        leave = {_module_of(target).partition(".")[0] for target in self._targets}
        return to_yaml(replace(spec, allow=(*spec.allow, *sorted(leave - set(spec.allow)))))

    def run(self, for_s: float | None = None, name: str | None = None) -> Finished:
        """Run it by `streamctl up` in a process of its own, until it ends or Ctrl-C; its events appear on standard error.

        Raises:
          SpecError: with all problems; nothing was started.
          RunError: the run could not be started.
        """
        self.plan(name)
        with tempfile.TemporaryDirectory(prefix="streamcore-") as folder:
            spec, report = Path(folder, "graph.yaml"), Path(folder, "report.json")
            spec.write_text(self.to_yaml(), encoding="utf-8")
            words = ["up", str(spec), "--report", str(report), *(["--for", f"{round(for_s * 1000)}ms"] if for_s is not None else [])]
            words += ["--name", name or str(self._top["name"])]
            process = subprocess.Popen([*command_of("streamcore"), *words], env=_environment())
            status = _wait(process)
            if not report.exists():
                raise RunError(f"the graph was not started: streamctl up ended with {status}; what it said is on standard error")
            return Finished(status, json.loads(report.read_text(encoding="utf-8")))

    # --- inside

    def _add(self, key: str, entry: dict[str, Any]) -> None:
        if self._loaded is not None:
            raise ConfigError("this graph was loaded from a file, and nothing can be added to it; include the file in a spec instead")
        file, line = _caller()
        place = Place(line, 1)
        place.children = {name: Place(line, 1) for name in entry}
        if file != self._file:
            place.file = file
        entries = self._entries[key]
        self._places.children[key].children[len(entries)] = place
        entries.append(plain(entry, (key, len(entries)), self._wrong))

    def _name_of(self, cls: type[Node]) -> str:
        target = target_of(cls)
        if cls.__module__ == "__main__":
            stem = _importable_main()
            if not stem:
                raise ConfigError(
                    f"{cls.__name__} is defined in the program itself, which other processes cannot import; put it into a module beside it"
                )
            target = f"{stem}:{cls.__qualname__}"
        self._targets.add(target)
        return target

    def _spec(self) -> tuple[Spec | None, list[Problem]]:
        if self._loaded is not None:
            return self._loaded, []
        problems = Problems(self._file, self._places)
        for where, found, expected in self._wrong:
            problems.add(where, found, expected)
        for index, entry in enumerate(self._entries["nodes"]):
            for key in _OF_FILES.keys() & entry.keys():
                problems.add(("nodes", index, key), f"{key} in a graph that is built in Python", _OF_FILES[key], at_key=True)
        problems.hide(secret.reveal() for secret in secrets_in(self._entries))
        nodes, edges = ([Entry((key, i), entry) for i, entry in enumerate(entries)] for key, entries in self._entries.items())
        made = Expanded(nodes, edges)
        whole = {**self._top, **{key: [entry.value for entry in getattr(made, key)] for key in self._entries}}
        normalised = check_tree(whole, made, problems)
        if normalised is None:
            return None, problems.listed()
        return freeze(normalised, self._file, {}, made, problems), problems.listed()

    def _wired(self, run: str | None = None) -> Wired:
        """Raises SpecError with all problems."""
        if loading.under_way:
            raise ConfigError(
                f"module '{loading.under_way[-1]}', which is imported here for its classes, checks or runs a graph; what does so belongs "
                "below `if __name__ == '__main__':`"
            )
        spec, problems = self._spec()
        if spec is None:
            raise SpecError(problems)
        spec = reveal(spec, run)
        words = [_module_of(target) for target in sorted(self._targets)]
        policy = Policy(asked(words, spec, os.environ), load_machine(POLICY_FILE))
        found = find([Asked(node.plugin, node.config) for node in spec.nodes], policy)
        wired = wire(spec, found.manifests, found.checked)
        check_code(wired, policy)
        problems += check(wired)
        if problems:
            raise SpecError(problems)
        return wired


def _module_of(target: str) -> str:
    return target.partition(":")[0]


def _caller() -> tuple[str, int]:
    """File and line of the code outside of this module that calls it."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("<python>", 0)


def _importable_main() -> str:
    """The name by which another process can import the program that runs; "" if it cannot."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    stem = Path(file).stem if file else ""
    spec = importlib.util.find_spec(stem) if stem.isidentifier() else None
    return stem if spec is not None and spec.origin and os.path.samefile(spec.origin, str(file)) else ""


def _environment() -> dict[str, str]:
    """That of this process, with the folders that it imports from beyond those that every interpreter has."""
    ours = [path for path in sys.path if path and not path.startswith((sys.prefix, sys.base_prefix)) and os.path.isdir(path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(ours)} if ours else dict(os.environ)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C goes to both processes; the run drains and this one waits for it."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
