"""The course of a whole run in a bounded number of points: what each node and edge did in one stretch of time after the other. Pure.

Kept are the totals of some moments; a point is what came between two of them. When there are POINTS_MAX, one in between is forgotten, and
what came on both sides of it is one point: it says of both together what one look at both would have said. Time resolution is lost and
nothing else. A run of a minute has a point a second; one of a week has points of an hour.

Totals are kept as MessagePack, a twentieth of what the same takes as objects: some 5 bytes for each bucket in use. Work or waits that vary
by a factor of ten use about 55 buckets, which makes 150 kB for a node and 80 kB for an edge. A histogram has BUCKETS of them: no run takes
more than 2 MB for a node and 1 MB for an edge. Of marks, MARKS_MAX are kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.histogram import lower_ns
from streamcore.telemetry.snapshot import Snapshot

POINTS_MAX = 240
FINEST_S = 0.9  # rounds come once a second, a little earlier or later
SHORTEST_S = 0.2  # a rate over less is noise
MARKS_MAX = 300

RESTART, FAILED, INCIDENT = "restart", "failed", "incident"  # what a mark says of its node


class NodeTotals(msgspec.Struct, array_like=True):
    """Of one node since the run began."""

    consumed: int = 0
    produced: int = 0
    work_ns: int = 0
    work: Distribution = NOTHING
    end_to_end: Distribution = NOTHING


class EdgeTotals(msgspec.Struct, array_like=True):
    """Of one edge since the run began."""

    sent: int = 0
    dropped: int = 0
    failed: int = 0
    wait: Distribution = NOTHING


class Totals(msgspec.Struct, array_like=True):
    """At one moment; nodes and edges in the order of the snapshots."""

    nodes: list[NodeTotals]
    edges: list[EdgeTotals]


class Mark(msgspec.Struct):
    """Something that happened to a node at one moment. `what`: one of those above."""

    at_s: float
    node: str
    what: str
    text: str


class _Point(NamedTuple):
    """A stretch of time: the totals at its end, and the largest that were seen in it. rss: 0 where nobody measured."""

    end_ns: int
    totals: bytes
    rss: list[int]
    waiting: list[int]


class Timeline:
    """`note` a snapshot, with distributions, in each round and at the end; `mark` what happens in between. Times are monotonic."""

    def __init__(self, began_ns: int):
        self._began_ns = began_ns
        self._points: list[_Point] = []
        self._resolution_s = 1.0  # of points to come
        self._last: Snapshot = Snapshot((), ())
        self._rss: list[int] = []  # the largest since the last point
        self._waiting: list[int] = []
        self._marks: list[Mark] = []
        self._marks_left_out = 0

    # --- while the run lasts

    def note(self, at_ns: int, snapshot: Snapshot, *, last: bool = False) -> None:
        """`last`: the run has ended; what is left makes a point of its own, or a part of the one before if it is too short for that."""
        self._last = snapshot
        self._rss = _largest(self._rss, [row.rss_bytes or 0 for row in snapshot.nodes])
        self._waiting = _largest(self._waiting, [row.waiting for row in snapshot.edges])
        span_s = (at_ns - self._begin_ns(len(self._points))) / 1e9
        if span_s < FINEST_S * self._resolution_s and not last:
            return
        self._points.append(_Point(at_ns, _ENCODER.encode(_totals(snapshot)), self._rss, self._waiting))
        self._rss, self._waiting = [], []
        if last and span_s < SHORTEST_S and len(self._points) > 1:
            self._join(len(self._points) - 2)
        if len(self._points) > POINTS_MAX:
            self._join(self._oldest_short_pair())

    def mark(self, at_ns: int, node: str, what: str, text: str) -> None:
        """The first and the latest are kept."""
        self._marks.append(Mark(self._at_s(at_ns), node, what, text))
        if len(self._marks) > MARKS_MAX:
            del self._marks[MARKS_MAX // 2]
            self._marks_left_out += 1

    def _begin_ns(self, index: int) -> int:
        return self._points[index - 1].end_ns if index else self._began_ns

    def _oldest_short_pair(self) -> int:
        """The first of two neighbours that together last no longer than two new points, whose length doubles if there are none.

        One pair at a time: when all are joined, they are as long as points will be from then on, and there are as many as before.
        """
        while True:
            longest_ns = 2.2e9 * self._resolution_s
            for index, second in enumerate(self._points[1:]):
                if second.end_ns - self._begin_ns(index) <= longest_ns:
                    return index
            self._resolution_s *= 2

    def _join(self, index: int) -> None:
        first, second = self._points[index : index + 2]
        joined = second._replace(rss=_largest(first.rss, second.rss), waiting=_largest(first.waiting, second.waiting))
        self._points[index : index + 2] = [joined]

    # --- when it has ended

    def as_json(self) -> dict[str, Any]:
        """The `timeline` of a report: one list per quantity, with an item per point; null where nothing was measured."""
        begins_ns = [self._begin_ns(index) for index in range(len(self._points))]
        spans_s = [max(1, point.end_ns - begin_ns) / 1e9 for point, begin_ns in zip(self._points, begins_ns, strict=True)]
        nodes: list[dict[str, list[Any]]] = [{name: [] for name in _NODE_COURSE} for _ in self._last.nodes]
        edges: list[dict[str, list[Any]]] = [{name: [] for name in _EDGE_COURSE} for _ in self._last.edges]
        before = Totals([NodeTotals() for _ in nodes], [EdgeTotals() for _ in edges])
        for point, span_s in zip(self._points, spans_s, strict=True):
            totals = _DECODER.decode(point.totals)
            for course, old, new, rss in zip(nodes, before.nodes, totals.nodes, point.rss, strict=True):
                _extend(course, (*_node_values(old, new, span_s), rss or None))
            for course, older, newer, waiting in zip(edges, before.edges, totals.edges, point.waiting, strict=True):
                _extend(course, (*_edge_values(older, newer, span_s), waiting))
            before = totals
        return {
            "begin_s": [self._at_s(begin_ns) for begin_ns in begins_ns],
            "end_s": [self._at_s(point.end_ns) for point in self._points],
            "nodes": {row.id: course for row, course in zip(self._last.nodes, nodes, strict=True)},
            "edges": {row.name: course for row, course in zip(self._last.edges, edges, strict=True)},
            "marks": [msgspec.structs.asdict(mark) for mark in self._marks],
            "marks_left_out": self._marks_left_out,
        }

    def _at_s(self, at_ns: int) -> float:
        return round((at_ns - self._began_ns) / 1e9, 6)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Totals)
_NODE_COURSE = (
    "consumed_per_s",
    "produced_per_s",
    "busy",
    "work_p50_ns",
    "work_p95_ns",
    "end_to_end_p50_ns",
    "end_to_end_p95_ns",
    "rss_bytes",
)
_EDGE_COURSE = ("sent_per_s", "dropped_per_s", "failed_per_s", "wait_p50_ns", "wait_p95_ns", "waiting_max")


def _totals(snapshot: Snapshot) -> Totals:
    return Totals(
        [NodeTotals(row.consumed, row.produced, row.work_ns, row.work, row.end_to_end) for row in snapshot.nodes],
        [EdgeTotals(row.sent, row.dropped, row.failed, row.wait) for row in snapshot.edges],
    )


def _largest(first: list[int], second: list[int]) -> list[int]:
    return list(map(max, first, second)) if first else second


def _extend(course: dict[str, list[Any]], values: tuple[Any, ...]) -> None:
    for items, value in zip(course.values(), values, strict=True):
        items.append(value)


def _node_values(old: NodeTotals, new: NodeTotals, span_s: float) -> tuple[float | None, ...]:
    """In the order of _NODE_COURSE."""
    return (
        _rate(old.consumed, new.consumed, span_s),
        _rate(old.produced, new.produced, span_s),
        round(min(1.0, max(0, new.work_ns - old.work_ns) / 1e9 / span_s), 4),
        *_quantiles(old.work, new.work),
        *_quantiles(old.end_to_end, new.end_to_end),
    )


def _edge_values(old: EdgeTotals, new: EdgeTotals, span_s: float) -> tuple[float | None, ...]:
    """In the order of _EDGE_COURSE."""
    counts = ((old.sent, new.sent), (old.dropped, new.dropped), (old.failed, new.failed))
    return (*(_rate(before, after, span_s) for before, after in counts), *_quantiles(old.wait, new.wait))


def _rate(before: int, after: int, span_s: float) -> float:
    return round(max(0, after - before) / span_s, 3)


def _quantiles(before: Distribution, after: Distribution, shares: Sequence[float] = (0.5, 0.95)) -> list[float | None]:
    """`after.since(before).quantile_ns` of each share, but quicker: a long run of many nodes has 100,000 of them."""
    if not after.buckets or before.buckets == after.buckets:
        return [None] * len(shares)
    earlier = dict(before.buckets).get
    counts = [count - earlier(bucket, 0) for bucket, count in after.buckets]
    if min(counts) < 0:  # a page that was damaged
        counts = [max(0, count) for count in counts]
    seen = list(accumulate(counts))
    if not seen[-1]:
        return [None] * len(shares)
    found = [after.buckets[bisect_left(seen, math.ceil(share * seen[-1]))][0] for share in shares]
    return [(lower_ns(bucket) + lower_ns(bucket + 1)) // 2 for bucket in found]
