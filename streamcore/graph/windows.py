"""How many packets may be under way: windows of edges, and from them slots of rings. Arithmetic only; every number with its terms.

    window(edge)  = depth + work + retention of the consumer + hold of the consumer's ports by which the payload may leave (the largest)
    hold(port)    = the largest window of its block edges + the sum over its other edges of (window + kept)
    slots(port)   = hold(port) + loans

Block edges of one port run in lockstep: a packet goes to all of them or waits, so the slowest decides. An edge that drops runs on its
own, and holds other packets than its neighbours do, so its packets add up.

Where the largest is taken, what is retained behind the others is added: nodes that keep packets until more arrive (joins, windows) may
keep different ones, and with too few slots for all of them each would wait for ever for the packet that none of them lets through.
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
    """The plan of one edge: `terms` sum up to the window. `retained`: of these, what may stay until further packets come."""

    depth: int
    kept: int
    terms: tuple[Term, ...]
    retained: int

    @property
    def packets(self) -> int:
        return sum(term.value for term in self.terms)


@dataclass(frozen=True)
class Hold:
    """Most packets of one port that are under way, and how many of them may stay until further packets come."""

    packets: int
    retained: int


def plan_windows(consumers_first: Sequence[WiredNode], edges: Sequence[WiredEdge]) -> tuple[list[Window], dict[PortKey, tuple[Term, ...]]]:
    """The window of every edge, in their order, and for every output port the terms of its slot count.

    Args:
      consumers_first: all nodes, none before the nodes that consume from it.
    """
    windows: dict[int, Window] = {}
    slots: dict[PortKey, tuple[Term, ...]] = {}
    holds: dict[PortKey, Hold] = {}
    outgoing: dict[PortKey, list[int]] = {}
    for index, edge in enumerate(edges):
        outgoing.setdefault((edge.producer.spec.id, edge.from_port), []).append(index)
    for node in consumers_first:
        for port in node.manifest.outputs if node.manifest else ():
            key = (node.spec.id, port)
            mine = outgoing.get(key, [])
            for index in mine:
                windows[index] = _window(edges[index], holds)
            terms = _hold_terms([(edges[index], windows[index]) for index in mine])
            holds[key] = Hold(sum(term.value for term in terms), sum(windows[index].retained for index in mine))
            slots[key] = (*terms, *_loan_terms(node))
    return [windows[index] for index in range(len(edges))], slots


def _window(edge: WiredEdge, holds: dict[PortKey, Hold]) -> Window:
    depth = _depth(edge)
    consumer, manifest = edge.consumer.spec.id, edge.consumer.manifest
    assert manifest
    terms = [Term("depth", depth), Term("work", number_of(manifest, "batch_max", edge.consumer.config))]
    retention = number_of(manifest, "retention", edge.consumer.config)
    terms.append(Term(f"retention of {consumer}", retention))
    # With completion `delivered` an input waits for everything derived from it, so every output holds it, forwarded or not.
    leaves = [port for port in manifest.outputs if edge.spec.completion == "delivered" or edge.to_port in forwarded_inputs(manifest, port)]
    leaves.sort(key=lambda port: holds[consumer, port].packets, reverse=True)
    verb = "derived" if edge.spec.completion == "delivered" else "forwarded"
    terms += [Term(f"{verb} by {consumer}.{port}", holds[consumer, port].packets) for port in leaves[:1]]
    terms += [Term(f"retained behind {consumer}.{port}", holds[consumer, port].retained) for port in leaves[1:]]
    kept = {"drop_oldest": depth, "latest": 1}.get(edge.spec.policy, 0)
    retained = retention + sum(holds[consumer, port].retained for port in leaves)
    return Window(depth, kept, tuple(term for term in terms if term.value), retained)


def _depth(edge: WiredEdge) -> int:
    assert edge.producer.manifest
    if edge.spec.policy == "latest":
        return 1
    if edge.spec.depth is not None:
        return edge.spec.depth
    return limits.DEPTH_FRAMES if carries_arrays(edge.producer.manifest.outputs[edge.from_port].profile) else limits.DEPTH_SMALL


def _hold_terms(planned: list[tuple[WiredEdge, Window]]) -> list[Term]:
    blocking = [(edge, window) for edge, window in planned if edge.spec.policy == "block"]
    blocking.sort(key=lambda pair: pair[1].packets, reverse=True)
    largest = " (largest of the block edges)" if len(blocking) > 1 else ""
    terms = [Term(f"window of {_to(edge)}{largest}", window.packets) for edge, window in blocking[:1]]
    terms += [Term(f"retained behind {_to(edge)}", window.retained) for edge, window in blocking[1:] if window.retained]
    for edge, window in planned:
        if edge.spec.policy != "block":
            terms.append(Term(f"window of {_to(edge)}", window.packets))
            if window.kept:
                terms.append(Term(f"kept for {_to(edge)}", window.kept))
    return terms


def _loan_terms(node: WiredNode) -> list[Term]:
    assert node.manifest
    terms = [Term("loans", limits.LOANS)]
    batch = number_of(node.manifest, "batch_max", node.config)
    if batch > 1:  # process_batch may return a list of as many outputs, all of them loans
        terms.append(Term("loans of a batch", batch - 1))
    return terms


def _to(edge: WiredEdge) -> str:
    return f"{edge.consumer.spec.id}.{edge.to_port}"
