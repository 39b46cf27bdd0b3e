"""Small graphs for the edge model, drawn by a seed, with windows and slots planned as those of a real run."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace

from streamcore import Node, Port, Sink, Source
from streamcore.graph.model import EdgePlan as Edge
from streamcore.graph.model import RingPlan
from streamcore.graph.windows import plan_windows
from streamcore.manifest import Manifest

POLICIES = ("block", "block", "block", "drop_new", "drop_oldest", "latest", "sample")
SHAPES = {  # consumers of each node, in the order of the stream
    "one hop": {"a": ["c"], "c": []},
    "chain": {"a": ["b"], "b": ["c"], "c": []},
    "long chain": {"a": ["b"], "b": ["m"], "m": ["c"], "c": []},
    "side sink": {"a": ["b", "d"], "b": ["c"], "c": [], "d": []},
    "diamond": {"a": ["b", "m"], "b": ["c"], "m": ["c"], "c": []},
    "short cut": {"a": ["b", "c"], "b": ["c"], "c": []},
    "two sources": {"a": ["b"], "z": ["b"], "b": ["c"], "c": []},
}
ANY = Port("n", "any")


@dataclass(frozen=True)
class Behaviour:
    """What a node does: outputs per input, of which kinds, and how many inputs it keeps until further ones come."""

    fan: int
    outputs: tuple[str, ...]
    retention: int


@dataclass
class Topology:
    shape: str
    nodes: dict[str, Behaviour]
    completion: str  # of all edges: hop or delivered
    policies: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # (from, to): policy, depth

    @classmethod
    def drawn(cls, rng: random.Random) -> Topology:
        shape = rng.choice(sorted(SHAPES))
        kinds = [("whole",), ("crop", "flip"), ("copy",), ("json",), ("whole", "copy"), ("whole", "crop", "copy", "json")]
        nodes = {name: Behaviour(rng.choice([0, 1, 1, 1, 2]), rng.choice(kinds), rng.choice([0, 0, 1, 3])) for name in SHAPES[shape]}
        made = cls(shape, nodes, rng.choice(["hop", "hop", "hop", "delivered"]))
        for source, targets in SHAPES[shape].items():
            for target in targets:
                depth = rng.choice([1, 1, 2, 3, 16])
                made.policies[source, target] = (rng.choice(POLICIES), depth)
        return made


def node_class(name: str, topology: Topology) -> type[Node]:
    """A class with the ports that the plan looks at."""
    has_inputs = any(target == name for _, target in topology.policies)
    base = Source if not has_inputs else Node if SHAPES[topology.shape][name] else Sink
    inputs, outputs = {"in": ANY} if has_inputs else {}, {"out": ANY} if base is not Sink else {}
    return type(name.upper(), (base,), {"inputs": inputs, "outputs": outputs, "retention": topology.nodes[name].retention})


def planned(topology: Topology) -> tuple[Port, list[Edge], list[RingPlan]]:
    """Edges and rings with the numbers that graph/windows.py gives them."""
    manifests = {name: Manifest.of(node_class(name, topology)) for name in topology.nodes}
    wired = {name: SimpleNamespace(spec=SimpleNamespace(id=name), manifest=manifests[name], config={}) for name in topology.nodes}
    loose = []
    for (source, target), (policy, depth) in topology.policies.items():
        spec = SimpleNamespace(policy=policy, depth=depth, completion=topology.completion)
        loose.append(SimpleNamespace(producer=wired[source], consumer=wired[target], from_port="out", to_port="in", spec=spec))
    windows, slots = plan_windows(list(wired.values())[::-1], loose)  # type: ignore[arg-type]
    rings = {name: number for number, name in enumerate(name for name in wired if SHAPES[topology.shape][name])}
    bits: dict[str, int] = {}
    edges = []
    for number, (wire, window) in enumerate(zip(loose, windows, strict=True)):
        source, target = wire.producer.spec.id, wire.consumer.spec.id
        bit = bits[source] = bits.get(source, -1) + 1
        numbers = (window.depth, window.packets, (), window.kept, 5.0 if wire.spec.policy == "sample" else 0.0)
        edges.append(Edge(number, bit, source, "out", target, "in", rings[source], wire.spec.policy, *numbers, topology.completion))
    counts = {name: sum(term.value for term in slots[name, "out"]) for name in rings}
    return ANY, edges, [RingPlan(rings[n], f"{n}.out", max(2, counts[n]), 512, counts[n], 4096, ()) for n in rings]
