"""How many packets may be under way: windows of edges, and from them slots of rings. Arithmetic only; every number with its terms.

    window(edge)  = depth + work + retention of the consumer + hold of the consumer's ports by which the payload may leave (the largest)
    hold(port)    = the largest window of its block edges + the sum over its other edges of (window + kept)
    slots(port)   = hold(port) + loans

Block edges of one port run in lockstep: a packet goes to all of them or waits, so the slowest decides. An edge that drops runs on its
own, and holds other packets than its neighbours do, so its packets add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamcore import limits
from streamcore.graph.model import Term
from streamcore.graph.wiring import WiredEdge, WiredNode
from streamcore.node.api import forwarded_inputs, number_of
from streamcore.packet import carries_arrays

PortKey = tuple[str, str]  # (node id, output port)


@dataclass(frozen=True)
class Window:
    """The plan of one edge: `terms` sum up to the window."""

    depth: int
    kept: int
    terms: tuple[Term, ...]

    @property
    def packets(self) -> int:
        return sum(term.value for term in self.terms)


def plan_windows(consumers_first: Sequence[WiredNode], edges: Sequence[WiredEdge]) -> tuple[list[Window], dict[PortKey, tuple[Term, ...]]]:
    """The window of every edge, in their order, and for every output port the terms of its slot count.

    Args:
      consumers_first: all nodes, none before the nodes that consume from it.
    """
    windows: dict[int, Window] = {}
    slots: dict[PortKey, tuple[Term, ...]] = {}
    holds: dict[PortKey, int] = {}
    outgoing: dict[PortKey, list[int]] = {}
    for index, edge in enumerate(edges):
        outgoing.setdefault((edge.producer.spec.id, edge.from_port), []).append(index)
    for node in consumers_first:
        for port in node.cls.outputs if node.cls else ():
            key = (node.spec.id, port)
            mine = outgoing.get(key, [])
            for index in mine:
                windows[index] = _window(edges[index], holds)
            terms = _hold_terms([(edges[index], windows[index]) for index in mine])
            holds[key] = sum(term.value for term in terms)
            slots[key] = (*terms, *_loan_terms(node))
    return [windows[index] for index in range(len(edges))], slots


def _window(edge: WiredEdge, holds: dict[PortKey, int]) -> Window:
    depth = _depth(edge)
    consumer, cls = edge.consumer.spec.id, edge.consumer.cls
    assert cls
    terms = [Term("depth", depth), Term("work", number_of(cls, "batch_max", edge.consumer.config))]
    retention = number_of(cls, "retention", edge.consumer.config)
    if retention:
        terms.append(Term(f"retention of {consumer}", retention))
    # With completion `delivered` an input waits for everything derived from it, so every output holds it, forwarded or not.
    leaves = [port for port in cls.outputs if edge.spec.completion == "delivered" or edge.to_port in forwarded_inputs(cls, port)]
    widest = max(leaves, key=lambda port: holds[consumer, port], default=None)
    if widest is not None and holds[consumer, widest]:
        verb = "derived" if edge.spec.completion == "delivered" else "forwarded"
        terms.append(Term(f"{verb} by {consumer}.{widest}", holds[consumer, widest]))
    kept = {"drop_oldest": depth, "latest": 1}.get(edge.spec.policy, 0)
    return Window(depth, kept, tuple(terms))


def _depth(edge: WiredEdge) -> int:
    assert edge.producer.cls
    if edge.spec.policy == "latest":
        return 1
    if edge.spec.depth is not None:
        return edge.spec.depth
    return limits.DEPTH_FRAMES if carries_arrays(edge.producer.cls.outputs[edge.from_port].profile) else limits.DEPTH_SMALL


def _hold_terms(planned: list[tuple[WiredEdge, Window]]) -> list[Term]:
    blocking = [(edge, window) for edge, window in planned if edge.spec.policy == "block"]
    terms = []
    if blocking:
        edge, window = max(blocking, key=lambda pair: pair[1].packets)
        others = " (largest of the block edges)" if len(blocking) > 1 else ""
        terms.append(Term(f"window of {_to(edge)}{others}", window.packets))
    for edge, window in planned:
        if edge.spec.policy != "block":
            terms.append(Term(f"window of {_to(edge)}", window.packets))
            if window.kept:
                terms.append(Term(f"kept for {_to(edge)}", window.kept))
    return terms


def _loan_terms(node: WiredNode) -> list[Term]:
    assert node.cls
    terms = [Term("loans", limits.LOANS)]
    batch = number_of(node.cls, "batch_max", node.config)
    if batch > 1:  # process_batch may return a list of as many outputs, all of them loans
        terms.append(Term("loans of a batch", batch - 1))
    return terms


def _to(edge: WiredEdge) -> str:
    return f"{edge.consumer.spec.id}.{edge.to_port}"
