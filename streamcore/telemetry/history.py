"""How a run went during the last minute: snapshots of the recent past, and what happened between one of them and now. Pure."""

from __future__ import annotations

from collections import deque

import msgspec

from streamcore.shm.distribution import Distribution
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

WINDOWS_S = (1, 10, 60)
FINE_S, COARSE_S = 12.0, 10.0  # every snapshot of the last FINE_S is kept, of the time before one per COARSE_S
KEPT_S = 75.0
SHORTEST_S = 0.2  # a rate over less is noise


class Quantiles(msgspec.Struct, frozen=True):
    """Of durations, in nanoseconds, each off by at most 3.2 %; null of none."""

    count: int = 0
    mean_ns: float | None = None
    p50_ns: float | None = None
    p95_ns: float | None = None
    p99_ns: float | None = None


class NodeRates(msgspec.Struct, frozen=True):
    """Of one node in a window. Packets per second; shares of the time from 0 to 1; `cpu`: of one core, above 1 with several
    threads; `core_wait`: of the time that it was ready to run and had no core; null where unknown.
    """

    consumed: float
    produced: float
    failed: float
    busy: float
    idle: float
    blocked: float
    work: Quantiles
    end_to_end: Quantiles
    cpu: float | None = None
    core_wait: float | None = None


class EdgeRates(msgspec.Struct, frozen=True):
    """Of one edge in a window. Packets and bytes per second."""

    sent: float
    taken: float
    completed: float
    dropped: float
    failed: float
    bytes: float
    wait: Quantiles


class Window(msgspec.Struct, frozen=True):
    """What happened in the last `seconds`, which may be fewer than asked for: the run is young, or its last snapshot older."""

    seconds: float
    nodes: dict[str, NodeRates]
    edges: dict[str, EdgeRates]


def quantiles(found: Distribution) -> Quantiles:
    if not found.buckets:
        return Quantiles()
    return Quantiles(found.count, found.mean_ns, *(found.quantile_ns(share) for share in (0.5, 0.95, 0.99)))


def between(before: Snapshot, after: Snapshot, seconds: float) -> Window:
    """Rates and distributions of what came between two snapshots of one run. A node that only the later one knows began at nothing."""
    nodes = {row.id: row for row in before.nodes}
    edges = {row.name: row for row in before.edges}
    return Window(
        seconds,
        {row.id: _node_rates(nodes.get(row.id, NodeRow(row.id, row.plugin, row.role)), row, seconds) for row in after.nodes},
        {row.name: _edge_rates(edges.get(row.name, _unused(row)), row, seconds) for row in after.edges},
    )


def _unused(row: EdgeRow) -> EdgeRow:
    return EdgeRow(row.name, row.from_node, row.to_node, row.policy, row.depth, row.window)


def _node_rates(before: NodeRow, after: NodeRow, seconds: float) -> NodeRates:
    def per_s(field: str) -> float:
        return float(max(0, getattr(after, field) - getattr(before, field)) / seconds)

    def share(field: str) -> float:
        return min(1.0, per_s(field) / 1e9)

    def of_a_core(past: float | None, now: float | None) -> float | None:
        return None if now is None else max(0.0, now - (past or 0.0)) / seconds

    work, end_to_end = quantiles(after.work.since(before.work)), quantiles(after.end_to_end.since(before.end_to_end))
    cpu = of_a_core(before.cpu_s, after.cpu_s), of_a_core(before.core_wait_s, after.core_wait_s)
    shares = share("work_ns"), share("wait_ns"), share("credit_wait_ns")

    return NodeRates(per_s("consumed"), per_s("produced"), per_s("failed"), *shares, work, end_to_end, *cpu)


def _edge_rates(before: EdgeRow, after: EdgeRow, seconds: float) -> EdgeRates:
    def per_s(field: str) -> float:
        return float(max(0, getattr(after, field) - getattr(before, field)) / seconds)

    rates = {field: per_s(field) for field in ("sent", "taken", "completed", "dropped", "failed", "bytes")}
    return EdgeRates(**rates, wait=quantiles(after.wait.since(before.wait)))


class History:
    """Snapshots of the last minute, thinned out: some twenty at most."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Snapshot]] = deque()

    def note(self, at_ns: int, snapshot: Snapshot) -> None:
        self._samples.append((at_ns, snapshot))
        fine_ns, kept_ns = at_ns - round(FINE_S * 1e9), at_ns - round(KEPT_S * 1e9)
        last_ns = 0
        kept: deque[tuple[int, Snapshot]] = deque()
        for sample in self._samples:
            if sample[0] >= fine_ns or (sample[0] >= kept_ns and sample[0] - last_ns >= COARSE_S * 1e9):
                kept.append(sample)
                last_ns = sample[0]
        self._samples = kept

    def window(self, seconds: float, now_ns: int, now: Snapshot) -> Window | None:
        """What happened since the snapshot whose age is nearest to `seconds`; None if none is old enough to say anything."""
        found = self.before(seconds, now_ns)
        return None if found is None else between(found[1], now, found[0])

    def before(self, seconds: float, now_ns: int) -> tuple[float, Snapshot] | None:
        """The snapshot whose age is nearest to `seconds`, and its age."""
        ages = [((now_ns - at_ns) / 1e9, snapshot) for at_ns, snapshot in self._samples]
        usable = [entry for entry in ages if entry[0] >= SHORTEST_S]
        return min(usable, key=lambda entry: abs(entry[0] - seconds)) if usable else None
