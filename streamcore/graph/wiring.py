"""Names to things: each node with its manifest and config, each edge with its two ports. Collects what does not resolve."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec

from streamcore import limits
from streamcore.errors import PluginError
from streamcore.graph.hidden import reveal
from streamcore.manifest import Manifest
from streamcore.node.api import Port
from streamcore.plugins.configs import Checked, Configs
from streamcore.secret import Secret, keep_secrets, secrets_in
from streamcore.spec.expand import heads
from streamcore.spec.model import EdgeSpec, NodeSpec, PortSpec, Spec, Where
from streamcore.spec.problems import Problems, names, show

Manifests = Mapping[str, "Manifest | PluginError"]
_UNCHECKED = Checked(fault="a config schema that has code, and nobody has run it")


@dataclass
class WiredNode:
    """A node of the spec with its manifest (None if there is none) and its config with the plugin's defaults."""

    spec: NodeSpec
    manifest: Manifest | None
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
        if not (self.from_port and self.to_port and self.producer.manifest and self.consumer.manifest):
            return None
        return self.producer.manifest.outputs[self.from_port], self.consumer.manifest.inputs[self.to_port]


@dataclass
class Graph:
    """A wired spec.

    `loose`: an edge names a node that does not exist, so nothing may be concluded from an edge that is missing. `excused`: nodes of which
    an edge names a port that does not exist; the same for these alone. `structure_only`: no plugin is known, which is no problem.
    """

    spec: Spec
    problems: Problems
    nodes: dict[str, WiredNode] = field(default_factory=dict)
    edges: list[WiredEdge] = field(default_factory=list)
    loose: bool = False
    excused: set[str] = field(default_factory=set)
    fed: dict[str, tuple[str, str]] = field(default_factory=dict)  # hidden node to (node, output) whose packets pass through it
    open: set[tuple[str, str]] = field(default_factory=set)  # (node, input) that the spec leaves to a graph that includes it
    shown: list[tuple[PortSpec, Port]] = field(default_factory=list)  # ports of sub-graphs, with those behind them
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of each plugin: the files that its manifest was made of
    structure_only: bool = False

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """What each included graph holds, by its prefix ("" for the spec, "door." for the graph `door`): ids without it, none hidden."""
        found: dict[str, list[str]] = {"": []}
        for node_id, node in self.nodes.items():
            if not node.spec.hidden:
                found[""].append(node_id)
                for dot in re.finditer(r"\.", node_id):
                    found.setdefault(node_id[: dot.end()], []).append(node_id[dot.end() :])
        return found

    def successors(self) -> dict[str, list[str]]:
        """Node ids to the ids of their consumers."""
        successors: dict[str, list[str]] = {node_id: [] for node_id in self.nodes}
        for edge in self.edges:
            successors[edge.producer.spec.id].append(edge.consumer.spec.id)
        return successors


def wire(spec: Spec, manifests: Manifests | None, checked: Mapping[int, Checked] = {}) -> Graph:
    """Resolve every name in the spec, its hidden nodes revealed. What cannot be resolved is a problem, and left out.

    Args:
      manifests: of every plugin, or the reason why it has none. None: nothing is known of any, and only the structure is wired.
      checked: by the index of the node, what became of configs whose schema has code.
    """
    spec = reveal(spec)
    graph = Graph(spec, Problems(spec.file, spec.places, spec.bad), loose=spec.partial, structure_only=manifests is None)
    graph.problems.hide(secret.reveal() for node in spec.nodes for secret in secrets_in((node.config, node.process.env)))
    _wire_nodes(graph, manifests, checked)
    wrong: set[tuple[str, str]] = set()  # ends behind ports of included graphs: an edge to such a port is not to blame
    for port in spec.ports:
        node, name = _end(graph, port.where, port.end, port.side)
        if not name and "include" in port.where:
            wrong.add((port.side, port.end))
        if node is not None and node.manifest and name:
            graph.shown.append((port, getattr(node.manifest, port.side)[name]))
            if port.side == "inputs" and port.where[:1] == ("ports",):
                graph.open.add((node.spec.id, name))
    _wire_edges(graph, wrong)
    return graph


def _wire_nodes(graph: Graph, manifests: Manifests | None, checked: Mapping[int, Checked]) -> None:
    problems, configs = graph.problems, Configs()
    for index, node in enumerate(graph.spec.nodes):
        where = node.where or ("nodes", index)
        if not re.fullmatch(limits.FLAT_ID_PATTERN, node.id):
            problems.add((*where, "id"), show(node.id), f"an id that matches {limits.ID_PATTERN}")
        wired = WiredNode(node, None)
        if node.id in graph.nodes:  # what else is wrong with it is said all the same
            first = graph.spec.mark((*graph.nodes[node.id].spec.where, "id")).line
            hint = f"first on line {first}" if first else ""
            problems.add((*where, "id"), f"{show(node.id)} again", "an id that no other node has", hint)
        else:
            graph.nodes[node.id] = wired
        if manifests is None:
            continue
        found = manifests.get(node.plugin)
        if isinstance(found, Manifest):
            wired.manifest = found
            if found.has_code:
                _take_config(wired, found, checked.get(index, _UNCHECKED), where, problems)
            else:
                _take_config(wired, found, configs.check(found.target, found.config, node.config), where, problems)
            continue
        if getattr(found, "follows", False):
            continue
        said = getattr(found, "found", show(node.plugin)), getattr(found, "expected", str(found or "a plugin that is loaded"))
        problems.add((*where, "plugin"), *said, getattr(found, "hint", ""))


def _take_config(node: WiredNode, manifest: Manifest, checked: Checked, where: Where, problems: Problems) -> None:
    if checked.fault:
        problems.add((*where, "plugin"), checked.fault, f"a working schema in {manifest.class_name}")
    for finding in checked.findings:
        found = "a secret" if isinstance(_value_at(node.spec.config, finding.where), Secret) else finding.found
        problems.add((*where, "config", *finding.where), found, *finding[2:])
    node.config = dict(keep_secrets(node.spec.config, checked.config))


def _value_at(config: Any, where: Where) -> Any:
    for part in where:
        try:
            config = config[part]
        except (KeyError, IndexError, TypeError):
            return None
    return config


def _wire_edges(graph: Graph, wrong: set[tuple[str, str]]) -> None:
    seen: dict[tuple[str, str, str, str], Where] = {}
    fan_out: Counter[tuple[str, str]] = Counter()
    for index, edge in enumerate(graph.spec.edges):
        where = edge.where or ("edges", index)
        if ("outputs", edge.from_) in wrong or ("inputs", edge.to) in wrong:
            graph.loose = True
            continue
        producer, from_port = _end(graph, (*where, "from"), edge.from_, "outputs")
        consumer, to_port = _end(graph, (*where, "to"), edge.to, "inputs")
        if producer is None or consumer is None:
            graph.loose = True
            continue
        wired = WiredEdge(edge, producer, from_port, consumer, to_port)
        if _is_impossible(producer, "outputs") or _is_impossible(consumer, "inputs"):
            graph.excused |= {producer.spec.id, consumer.spec.id}
            continue
        if not (from_port and to_port):
            graph.excused |= {node.spec.id for node, port in ((producer, from_port), (consumer, to_port)) if not port}
        else:
            if consumer.spec.hidden:
                graph.fed[consumer.spec.id] = producer.spec.id, from_port
                _pass_through(consumer, producer, from_port)
            name = (*graph.fed.get(producer.spec.id, (producer.spec.id, from_port)), consumer.spec.id, to_port)
            if name in seen:
                line = graph.spec.mark(seen[name]).line
                found = f"a second edge {name[0]}.{name[1]} -> {name[2]}.{name[3]}"
                graph.problems.add(where, found, "one edge between two ports", f"first on line {line}" if line else "")
                continue
            seen[name] = where
            out = (producer.spec.id, from_port)
            fan_out[out] += 1
            if fan_out[out] == limits.EDGES_PER_PORT_MAX + 1:
                found = f"more than {limits.EDGES_PER_PORT_MAX} edges from {out[0]}.{out[1]}"
                graph.problems.add((*where, "from"), found, f"at most {limits.EDGES_PER_PORT_MAX}", "put flow.tee between")
        graph.edges.append(wired)


def _pass_through(hidden: WiredNode, producer: WiredNode, port: str) -> None:
    """What leaves a hidden node is what its producer gives: its ports are checked and planned like that one's."""
    if hidden.manifest is None or producer.manifest is None:
        return
    given = producer.manifest.outputs[port]
    sides = (hidden.manifest.inputs, hidden.manifest.outputs)
    inputs, outputs = ({name: replace(own, kind=given.kind, profile=given.profile) for name, own in side.items()} for side in sides)
    hidden.manifest = msgspec.structs.replace(hidden.manifest, inputs=inputs, outputs=outputs)


def _is_impossible(node: WiredNode, side: str) -> bool:
    """Has this node no such port at all? Such an edge is reported, and no part of a cycle."""
    return node.manifest is not None and not getattr(node.manifest, side)


def _below(text: str, levels: Mapping[str, list[str]]) -> tuple[str, list[str]]:
    """The id that an end names, and those that it might: in an included graph, as the file of that graph has them."""
    prefix, rest = "", text
    while "." in rest:
        head, _, tail = rest.partition(".")
        if f"{prefix}{head}." not in levels:
            break
        prefix, rest = f"{prefix}{head}.", tail
    return rest.partition(".")[0], levels[prefix]


def _end(graph: Graph, where: Where, text: str, side: str) -> tuple[WiredNode | None, str]:
    """The node and port that an edge's end names; (None, "") or (node, "") after a problem was reported."""
    node_id = next(iter(heads(text, graph.nodes)), text.partition(".")[0])
    dot, port = text[len(node_id) : len(node_id) + 1], text[len(node_id) + 1 :]
    node = graph.nodes.get(node_id)
    if node is None:
        if not graph.spec.partial:
            node_id, known = _below(text, graph.levels)
            expected = f"one of the nodes: {names(known)}" if known else "a node; there is none"
            graph.problems.add(where, f"no node of the id {show(node_id)}", expected, near=(node_id, known))
        return None, ""
    if node.manifest is None:
        return node, ""
    ports: Mapping[str, Port] = getattr(node.manifest, side)
    if not ports:
        other = node.manifest.outputs if side == "inputs" else node.manifest.inputs
        what = "a job" if not other else "a source" if side == "inputs" else "a sink"
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
