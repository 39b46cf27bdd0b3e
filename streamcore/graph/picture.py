"""A graph as it is drawn: nodes, edges with their words, and groups of the nodes that one line of the spec has made. Pure.

mermaid.py and dot.py write it down. The order is that of the spec, so that the same spec gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamcore.graph.model import EdgePlan, Plan
from streamcore.graph.wiring import Graph, WiredEdge, WiredNode

SOURCE, NODE, SINK, JOB, UNKNOWN = "source", "node", "sink", "job", "unknown"  # by which a node's shape is chosen


@dataclass(frozen=True)
class DrawnNode:
    """`shape`: one of those above."""

    id: str
    plugin: str
    shape: str


@dataclass(frozen=True)
class DrawnEdge:
    """`words`: kind, policy and depth, as far as they are known; ports where a node has several. `back`: it leads back in a cycle."""

    from_node: str
    to_node: str
    words: tuple[str, ...]
    back: bool = False


@dataclass
class Group:
    """Nodes whose ids begin with `id` and a dot: what for_each or include has made of one entry. The outermost has no id."""

    id: str
    nodes: list[DrawnNode] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    title: str
    whole: Group
    edges: tuple[DrawnEdge, ...]


def picture_of(graph: Graph, plan: Plan | None) -> Picture:
    """The picture of a checked graph; without a plan, its structure as it is written."""
    whole = Group("")
    groups = {"": whole}
    for node_id, node in graph.nodes.items():
        if node.spec.hidden:
            continue
        _group(groups, node_id.rpartition(".")[0]).nodes.append(DrawnNode(node_id, _printable(node.spec.plugin), _shape(node)))
    planned = plan.edges if plan else [None] * len(graph.edges)
    edges, begun = [], dict[str, WiredEdge]()
    for edge, numbers in zip(graph.edges, planned, strict=True):
        if edge.consumer.spec.hidden:
            begun[edge.consumer.spec.id] = edge
            continue
        first = begun.get(edge.producer.spec.id, edge)
        words = tuple(map(_printable, _words(edge, numbers, first)))
        edges.append(DrawnEdge(first.producer.spec.id, edge.consumer.spec.id, words, bool(numbers and numbers.feedback)))
    return Picture(graph.spec.name, whole, tuple(edges))


def _group(groups: dict[str, Group], group_id: str) -> Group:
    """The group of this id, made with all that it lies in if it is new."""
    if group_id not in groups:
        groups[group_id] = Group(group_id)
        _group(groups, group_id.rpartition(".")[0]).groups.append(groups[group_id])
    return groups[group_id]


def _printable(text: object) -> str:
    """A spec that was checked without its plugins may name them by anything: control characters, or a secret, which shows as ***."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def _shape(node: WiredNode) -> str:
    if node.manifest is None:
        return UNKNOWN
    return node.manifest.role if node.manifest.inputs or node.manifest.outputs else JOB


def _words(edge: WiredEdge, planned: EdgePlan | None, first: WiredEdge) -> Iterator[str]:
    """What stands at an edge, a line each. `first`: the edge itself, or that which leads to the hidden node before it."""
    yield from _ports(edge, first)
    ports = edge.ports()
    flow = [ports[0].kind] if ports else []
    if edge.spec.policy == "sample":
        flow.append(f"sample {edge.spec.rate or 0:g}/s")
    elif edge.spec.policy == "latest":
        flow.append("latest")
    else:
        depth = planned.depth if planned else edge.spec.depth
        flow.append(edge.spec.policy if depth is None else f"{edge.spec.policy} {depth}")
    hidden = edge.producer.spec.hidden
    if hidden:
        flow[-1] = flow[-1].replace("block", hidden)
    elif edge.spec.completion == "delivered":
        flow.append("delivered")
    yield ", ".join(flow)


def _ports(edge: WiredEdge, first: WiredEdge) -> Iterator[str]:
    """Which of several ports the edge joins; of a node whose ports are not known, what the spec says."""
    shown = [
        _port(first.producer, first.from_port, first.spec.from_, "outputs"),
        _port(edge.consumer, edge.to_port, edge.spec.to, "inputs"),
    ]
    if any(shown):
        yield " to ".join(shown).strip() if shown[1] else shown[0]


def _port(node: WiredNode, port: str, written: str, side: str) -> str:
    if node.manifest is None:
        return written[len(node.spec.id) + 1 :]
    return port if len(getattr(node.manifest, side)) > 1 else ""
