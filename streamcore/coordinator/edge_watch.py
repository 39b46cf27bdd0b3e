"""Edges that drop packets, told by the episode and not by the packet. Pure; times and counters are handed in.

An episode begins with a drop. It ends when CALM_S have passed without one and the edge has room: a full edge would drop the next packet.
So what is told of an edge is at most two events per CALM_S, whatever flows on it, and an event that is itself dropped begins nothing new
as long as the edge is full. `sample` drops by intent at every moment, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamcore.coordinator.observer import Observer
from streamcore.graph.model import EdgePlan, Plan
from streamcore.shm.status import EdgeCounters, NodeStatus

CALM_S = 10.0
_NEVER_DROPS = ("block", "sample")  # the first at no time, the second at all times
_NOTHING = EdgeCounters()


@dataclass
class _Seen:
    dropped: int = 0  # by the last look
    began: int = 0  # dropped before the episode; -1: there is none
    dropped_ns: int = 0  # the look that saw the last drop


class EdgeWatch:
    """`look` in every round, with the pages as they were just read."""

    def __init__(self, plan: Plan, observer: Observer):
        self._observer = observer
        self._edges = [edge for edge in plan.edges if edge.policy not in _NEVER_DROPS]
        self._seen = {edge.id: _Seen(began=-1) for edge in self._edges}

    def look(self, pages: Mapping[str, NodeStatus], now_ns: int) -> None:
        for edge in self._edges:
            producer, consumer = pages.get(edge.from_node), pages.get(edge.to_node)
            if producer is not None:
                self._look_at(edge, producer.edges.get(edge.id, _NOTHING), consumer, now_ns)

    def _look_at(self, edge: EdgePlan, counters: EdgeCounters, consumer: NodeStatus | None, now_ns: int) -> None:
        seen = self._seen[edge.id]
        if counters.dropped > seen.dropped:
            if seen.began < 0:
                seen.began = seen.dropped
                self._observer.dropping(edge.name, edge.policy)
            seen.dropped, seen.dropped_ns = counters.dropped, now_ns
        elif seen.began >= 0 and now_ns - seen.dropped_ns >= CALM_S * 1e9 and not _is_full(edge, consumer):
            self._observer.flowing(edge.name, seen.dropped - seen.began)
            seen.began = -1


def _is_full(edge: EdgePlan, consumer: NodeStatus | None) -> bool:
    return consumer is not None and consumer.edges.get(edge.id, _NOTHING).waiting >= edge.depth
