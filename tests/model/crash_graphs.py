"""Small graphs for the crash model, drawn by a seed: who feeds whom, with which policy, and what every node does with a packet."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from streamcore import Node, Port, Sink, Source
from streamcore.graph.model import EdgePlan, NodePlan, RingPlan
from streamcore.graph.windows import plan_windows
from streamcore.manifest import Manifest

ANY = Port("n", "any")
SLOT_BYTES = 4096
POLICIES = ("block", "block", "block", "block", "drop_new", "drop_oldest", "latest", "sample")
SHAPES: dict[str, dict[str, tuple[str, ...]]] = {  # consumers of each node's port, producers first
    "one hop": {"a": ("c",), "c": ()},
    "chain": {"a": ("b",), "b": ("c",), "c": ()},
    "long chain": {"a": ("b",), "b": ("m",), "m": ("c",), "c": ()},
    "side sink": {"a": ("b", "d"), "b": ("c",), "c": (), "d": ()},
    "diamond": {"a": ("b", "m"), "b": ("c",), "m": ("c",), "c": ()},
    "short cut": {"a": ("b", "c"), "b": ("c",), "c": ()},
    "two sources": {"a": ("b",), "z": ("b",), "b": ("c",), "c": ()},
}


@dataclass(frozen=True)
class Behaviour:
    """What a node does. `fan` outputs per input, of these `kinds`; keeps up to `retention` inputs; a source with or without positions.

    lets_go: it drops its input when it has made the last output of it, and not when that is emitted.
    """

    fan: int
    kinds: tuple[str, ...]
    retention: int
    batch_max: int
    positions: bool
    on_error: str
    lets_go: bool

    @property
    def is_told(self) -> bool:
        """A source: it has an on_completed. Drawn as `lets_go`, which a source has no use for."""
        return self.lets_go


@dataclass
class Graph:
    """A drawn graph and its plan."""

    shape: str
    packets: int
    completion: str
    nodes: dict[str, Behaviour]
    policies: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # (from, to): policy, depth
    edges: list[EdgePlan] = field(default_factory=list)
    rings: dict[str, RingPlan] = field(default_factory=dict)  # by the node that writes it
    plans: dict[str, NodePlan] = field(default_factory=dict)

    @property
    def consumers(self) -> dict[str, tuple[str, ...]]:
        return SHAPES[self.shape]

    def is_source(self, name: str) -> bool:
        return not any(target == name for _, target in self.policies)

    def neighbours(self, name: str) -> set[str]:
        ends = [(edge.from_node, edge.to_node) for edge in self.edges]
        return {b for a, b in ends if a == name} | {a for a, b in ends if b == name}


def drawn(rng: random.Random) -> Graph:
    """A graph by chance. The numbers are small, so that edges are full, windows used up and rows reused within a dozen packets."""
    shape = rng.choice(sorted(SHAPES))
    kinds = [
        ("whole",),
        ("whole",),
        ("crop", "flip"),
        ("copy",),
        ("loan",),
        ("json",),
        ("whole", "copy"),
        ("whole", "crop", "copy", "json"),
    ]
    nodes = {
        name: Behaviour(
            fan=rng.choice([0, 1, 1, 1, 1, 2, 2]),
            kinds=rng.choice(kinds),
            retention=rng.choice([0, 0, 0, 1, 3]),
            batch_max=rng.choice([1, 1, 1, 3]),
            positions=rng.random() < 0.85,
            on_error=rng.choice(["fail_packet", "retry"]),
            lets_go=rng.random() < 0.5,
        )
        for name in SHAPES[shape]
    }
    graph = Graph(shape, rng.choice([4, 8, 8, 12]), rng.choice(["hop", "hop", "hop", "delivered"]), nodes)
    all_block = rng.random() < 0.5
    for source, targets in SHAPES[shape].items():
        for target in targets:
            graph.policies[source, target] = ("block" if all_block else rng.choice(POLICIES), rng.choice([1, 1, 2, 3, 16]))
    plan(graph)
    return graph


def node_class(name: str, graph: Graph) -> type[Node]:
    """A class with what the plan looks at."""
    base = Source if graph.is_source(name) else Node if graph.consumers[name] else Sink
    ins, outs = {} if base is Source else {"in": ANY}, {} if base is Sink else {"out": ANY}
    does = graph.nodes[name]
    return type(name.upper(), (base,), {"inputs": ins, "outputs": outs, "retention": does.retention, "batch_max": does.batch_max})


def plan(graph: Graph) -> None:
    """Edges, rings and nodes with the numbers that a real run of this graph would get."""
    wired: dict[str, Any] = {}
    for name in graph.nodes:
        wired[name] = SimpleNamespace(spec=SimpleNamespace(id=name), manifest=Manifest.of(node_class(name, graph)), config={})
    loose: list[Any] = []
    for (source, target), (policy, depth) in graph.policies.items():
        spec = SimpleNamespace(policy=policy, depth=depth, completion=graph.completion)
        loose.append(SimpleNamespace(producer=wired[source], consumer=wired[target], from_port="out", to_port="in", spec=spec))
    windows, slots = plan_windows(list(wired.values())[::-1], loose)
    for number, name in enumerate(name for name, targets in graph.consumers.items() if targets):
        count = sum(term.value for term in slots[name, "out"])
        graph.rings[name] = RingPlan(number, f"{name}.out", max(2, count), 512, count, SLOT_BYTES, ())
    bits: dict[str, int] = {}
    for number, (wire, window) in enumerate(zip(loose, windows, strict=True)):
        source, target, policy = wire.producer.spec.id, wire.consumer.spec.id, wire.spec.policy
        bit = bits[source] = bits.get(source, -1) + 1
        numbers = (window.depth, window.packets, (), window.kept, 5.0 if policy == "sample" else 0.0)
        ring = graph.rings[source].id
        passed_on = bool(graph.consumers[target])  # ports of kind "any" may forward
        graph.edges.append(EdgePlan(number, bit, source, "out", target, "in", ring, policy, *numbers, graph.completion, passed_on))
    for name, does in graph.nodes.items():
        ins = tuple(edge.id for edge in graph.edges if edge.to_node == name)
        outs = tuple(edge.id for edge in graph.edges if edge.from_node == name)
        outputs = {"out": graph.rings[name].id} if name in graph.rings else {}
        reads = tuple(ring.id for ring in graph.rings.values()) if ins else ()
        role = "source" if not ins else "node" if outs else "sink"
        more = {"on_error": does.on_error, "retries": 1 if does.on_error == "retry" else 0}
        graph.plans[name] = NodePlan(
            name, "model", "model:Node", role, {}, outputs, reads, ins, outs, does.batch_max, does.retention, **more
        )
