"""Where the time of single packets went: spans of traced packets, joined to ways from capture to the last node. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import Span


class Hop(msgspec.Struct, frozen=True):
    """One node on the way of a packet, in nanoseconds. All hops of a path together are its end-to-end time: nothing lies in between.

    `wait_ns` = queued (sent, and not yet taken by this node) + blocked (the node waited for room in an edge) + held (done, and not yet sent
    on: kept by a full lossy edge, or stored). `work_ns`: inside node code.
    """

    node: str
    edge: str
    wait_ns: int
    work_ns: int
    queued_ns: int
    blocked_ns: int
    held_ns: int


class Trace(msgspec.Struct, frozen=True):
    """One packet's way, the longest one if it was passed on to several nodes. `began_ns`: monotonic, its capture.

    `sequence`: on the port of `source`, where the trace begins. `failed`: in the last node of the way. `finished`: that node made nothing
    of it, or nobody takes what it makes; else what it made is still on its way, or was dropped by an edge.
    """

    source: str
    sequence: int
    began_ns: int
    end_to_end_ns: int
    failed: bool
    finished: bool
    hops: tuple[Hop, ...]

    @property
    def last(self) -> str:
        return self.hops[-1].node


class _At(msgspec.Struct, frozen=True):
    """A span and the node that keeps it."""

    node: str
    span: Span


def join(spans: Mapping[str, Iterable[Span]], edges: Mapping[int, tuple[str, str]]) -> list[Trace]:
    """The traces of which the way from the beginning to the end is known, in the order of their beginning.

    `spans`: by node. `edges`: number to (name, node that it comes from).
    """
    groups: dict[int, list[_At]] = defaultdict(list)
    for node, found in spans.items():
        for span in found:
            groups[span.origin_ns].append(_At(node, span))
    traces = [trace for group in groups.values() for trace in _of_group(group, edges)]
    return sorted(traces, key=lambda trace: trace.began_ns)


def slowest(traces: Iterable[Trace], count: int) -> list[Trace]:
    return sorted(traces, key=lambda trace: trace.end_to_end_ns, reverse=True)[:count]


def _of_group(group: list[_At], edges: Mapping[int, tuple[str, str]]) -> list[Trace]:
    """Of one beginning; of several only if two nodes emitted in the same nanosecond."""
    ways = [way for way in (_way_to(last, group, edges) for last in group) if way is not None]
    passed = {id(at) for way in ways for at in way[:-1]}  # a node may still be at work when what it has sent is done with
    longest: dict[str, list[_At]] = {}
    for way in sorted((way for way in ways if id(way[-1]) not in passed), key=lambda way: way[-1].span.ended_ns):
        longest[way[0].node] = way
    return [_trace(way, edges) for way in longest.values()]


def _way_to(last: _At, group: list[_At], edges: Mapping[int, tuple[str, str]]) -> list[_At] | None:
    """From the beginning; None if some of it is not known any more."""
    way = [last]
    while way[0].span.edge != NO_EDGE:
        span = way[0].span
        if span.edge not in edges or len(way) > len(group):
            return None
        feeder = edges[span.edge][1]
        # Of what a node did for this packet more than once, as after a restart, the last before it was sent is what was sent.
        before = [at for at in group if at.node == feeder and at.span.began_ns <= span.sent_ns and at is not way[0]]
        if not before:
            return None
        way.insert(0, max(before, key=lambda at: at.span.began_ns))
    return way


def _trace(way: list[_At], edges: Mapping[int, tuple[str, str]]) -> Trace:
    first, last = way[0].span, way[-1].span
    left = [at.span.sent_ns for at in way[1:]] + [last.ended_ns]  # when the packet left each node
    hops = tuple(_hop(at, left_ns, edges) for at, left_ns in zip(way, left, strict=True))
    finished = not last.outputs or all(feeder != way[-1].node for _, feeder in edges.values())  # nobody takes what it makes
    return Trace(way[0].node, first.sequence, first.sent_ns, last.ended_ns - first.sent_ns, bool(last.failed), finished, hops)


def _hop(at: _At, left_ns: int, edges: Mapping[int, tuple[str, str]]) -> Hop:
    span = at.span
    queued_ns, had_ns = max(0, span.began_ns - span.sent_ns), max(0, left_ns - span.began_ns)
    held_ns = min(had_ns, max(0, left_ns - span.ended_ns))
    blocked_ns = min(span.blocked_ns, had_ns - held_ns)
    name = edges[span.edge][0] if span.edge != NO_EDGE else ""
    return Hop(at.node, name, queued_ns + blocked_ns + held_ns, had_ns - held_ns - blocked_ns, queued_ns, blocked_ns, held_ns)
