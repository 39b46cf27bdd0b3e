"""Names to things: each node with its class and config, each edge with its two ports. Collects what does not resolve."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cerberus
import msgspec

from streamcore import limits
from streamcore.errors import PluginError
from streamcore.node.api import Node, Port
from streamcore.spec.model import EdgeSpec, NodeSpec, Spec, Where
from streamcore.spec.problems import Problems, names, show
from streamcore.spec.schema import Checker

Classes = Mapping[str, "type[Node] | PluginError"]


@dataclass
class WiredNode:
    """A node of the spec with its class (None if it could not be loaded) and its config with the plugin's defaults."""

    spec: NodeSpec
    cls: type[Node] | None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class WiredEdge:
    """An edge both of whose nodes exist. A port is "" if it could not be resolved."""

    spec: EdgeSpec
    producer: WiredNode
    from_port: str
    consumer: WiredNode
    to_port: str

    def ports(self) -> tuple[Port, Port] | None:
        """Both ports, or None if one is unknown."""
        if not (self.from_port and self.to_port and self.producer.cls and self.consumer.cls):
            return None
        return self.producer.cls.outputs[self.from_port], self.consumer.cls.inputs[self.to_port]


@dataclass
class Graph:
    """A wired spec.

    `loose`: an edge names a node that does not exist, so nothing may be concluded from an edge that is missing. `excused`: nodes of which
    an edge names a port that does not exist; the same for these alone.
    """

    spec: Spec
    problems: Problems
    nodes: dict[str, WiredNode] = field(default_factory=dict)
    edges: list[WiredEdge] = field(default_factory=list)
    loose: bool = False
    excused: set[str] = field(default_factory=set)

    def successors(self) -> dict[str, list[str]]:
        """Node ids to the ids of their consumers."""
        successors: dict[str, list[str]] = {node_id: [] for node_id in self.nodes}
        for edge in self.edges:
            successors[edge.producer.spec.id].append(edge.consumer.spec.id)
        return successors


def wire(spec: Spec, classes: Classes) -> Graph:
    """Resolve every name in the spec. What cannot be resolved is a problem, and left out."""
    graph = Graph(spec, Problems(spec.file, spec.places, spec.bad), loose=spec.partial)
    _wire_nodes(graph, classes)
    _wire_edges(graph)
    return graph


def _wire_nodes(graph: Graph, classes: Classes) -> None:
    problems, checkers = graph.problems, _Checkers()
    if len(graph.spec.nodes) > limits.NODES_MAX:
        problems.add(("nodes",), f"{len(graph.spec.nodes)} nodes", f"at most {limits.NODES_MAX}: each is a process", at_key=True)
    for index, node in enumerate(graph.spec.nodes):
        where = node.where or ("nodes", index)
        if not re.fullmatch(limits.ID_PATTERN, node.id):
            problems.add((*where, "id"), show(node.id), f"an id that matches {limits.ID_PATTERN}")
        if node.id in graph.nodes:
            first = graph.spec.mark((*graph.nodes[node.id].spec.where, "id")).line
            hint = f"first on line {first}" if first else ""
            problems.add((*where, "id"), f"{show(node.id)} again", "an id that no other node has", hint)
            continue
        found = classes.get(node.plugin)
        if isinstance(found, type):
            config = checkers.normalise(found, node, (*where, "config"), problems)
            graph.nodes[node.id] = WiredNode(node, found, config)
            continue
        graph.nodes[node.id] = WiredNode(node, None)
        said = getattr(found, "found", show(node.plugin)), getattr(found, "expected", str(found or "a plugin that is loaded"))
        problems.add((*where, "plugin"), *said, getattr(found, "hint", ""))


class _Checkers:
    """Config checks, one schema compiled per class; the result for an empty config is kept, as most nodes have none."""

    def __init__(self) -> None:
        self._checkers: dict[type[Node], Checker | None] = {}
        self._defaults: dict[type[Node], dict[str, Any]] = {}

    def normalise(self, cls: type[Node], node: NodeSpec, where: Where, problems: Problems) -> dict[str, Any]:
        if not node.config and cls in self._defaults:
            return dict(self._defaults[cls])
        try:
            if cls not in self._checkers:
                self._checkers[cls] = None
                self._checkers[cls] = Checker(cls.config)
            checker = self._checkers[cls]
            if checker is None:
                return {}
            config, findings = checker.check(node.config)
            if not findings:
                msgspec.json.encode(config)  # it travels to the node's process as JSON; a coerce function may make anything
        except Exception as error:  # foreign code: the plugin's own schema and its check_with functions; reported at the plugin
            fault = "is not valid" if isinstance(error, cerberus.SchemaError) else "fails"
            found = f"a config schema that {fault}: {show(f'{type(error).__name__}: {error}')}"
            problems.add((*where[:-1], "plugin"), found, f"a working schema in {cls.__qualname__}")
            return {}
        for finding in findings:
            problems.add((*where, *finding.where), *finding[1:])
        if not node.config and not findings:
            self._defaults[cls] = config
        return dict(config)


def _wire_edges(graph: Graph) -> None:
    seen: dict[tuple[str, str, str, str], Where] = {}
    fan_out: Counter[tuple[str, str]] = Counter()
    for index, edge in enumerate(graph.spec.edges):
        where = edge.where or ("edges", index)
        producer, from_port = _end(graph, (*where, "from"), edge.from_, "outputs")
        consumer, to_port = _end(graph, (*where, "to"), edge.to, "inputs")
        if producer is None or consumer is None:
            graph.loose = True
            continue
        wired = WiredEdge(edge, producer, from_port, consumer, to_port)
        if not (from_port and to_port):
            graph.excused |= {node.spec.id for node, port in ((producer, from_port), (consumer, to_port)) if not port}
        else:
            name = (producer.spec.id, from_port, consumer.spec.id, to_port)
            if name in seen:
                line = graph.spec.mark(seen[name]).line
                found = f"a second edge {name[0]}.{name[1]} -> {name[2]}.{name[3]}"
                graph.problems.add(where, found, "one edge between two ports", f"first on line {line}" if line else "")
                continue
            seen[name] = where
            fan_out[name[:2]] += 1
            if fan_out[name[:2]] == limits.EDGES_PER_PORT_MAX + 1:
                found = f"more than {limits.EDGES_PER_PORT_MAX} edges from {name[0]}.{name[1]}"
                graph.problems.add((*where, "from"), found, f"at most {limits.EDGES_PER_PORT_MAX}", "put flow.tee between")
        graph.edges.append(wired)


def _end(graph: Graph, where: Where, text: str, side: str) -> tuple[WiredNode | None, str]:
    """The node and port that an edge's end names; (None, "") or (node, "") after a problem was reported."""
    node_id, dot, port = text.partition(".")
    node = graph.nodes.get(node_id)
    if node is None:
        if not graph.spec.partial:
            found = f"no node of the id {show(node_id)}"
            graph.problems.add(where, found, f"one of the nodes: {names(graph.nodes)}", near=(node_id, graph.nodes))
        return None, ""
    if node.cls is None:
        return node, ""
    ports: Mapping[str, Port] = getattr(node.cls, side)
    if not ports:
        what = "a source" if side == "inputs" else "a sink" if node.cls.inputs else "a job"
        graph.problems.add(where, f"'{node_id}', which is {what} and has no {side}", f"a node with {side}")
    elif not dot and len(ports) == 1:
        return node, next(iter(ports))
    elif not dot:
        graph.problems.add(where, f"'{node_id}', which has {len(ports)} {side}", f"one of: {names(f'{node_id}.{name}' for name in ports)}")
    elif port in ports:
        return node, port
    else:
        expected = f"one of its {side}: {names(ports)}"
        graph.problems.add(where, f"no port {show(port)} of '{node_id}'", expected, near=(port, ports))
    return node, ""
