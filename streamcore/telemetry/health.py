"""How a run is: a verdict per node, each with its reason, and one for the whole. Pure.

failed     it gave up, and is not started again
stalled    packets wait and none is taken, or a source is silent, for much longer than is usual for it
starting   its first process is not ready yet
degraded   it works, but not as it should: restarted, packets failed or dropped within the last minute, or paused
ok         none of these
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from streamcore.graph.model import NodePlan, Plan
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

FAILED, STALLED, STARTING, DEGRADED, OK = VERDICTS = ("failed", "stalled", "starting", "degraded", "ok")  # the worst first
LATELY_S = 60
SHORTEST_STALL_S = 5.0  # less is a garbage collection, a slow disk, a busy box
USUAL_CALLS = 10  # times the duration that 99 % of the calls of a node do not exceed
SHORTEST_SILENCE_S = 10.0  # a camera takes so long to connect again
USUAL_GAPS = 20  # times the time between two packets of a source, on average since the run began
BY_DESIGN = ("latest", "sample")  # policies whose drops are what they are for; those of the others say that a consumer is too slow
_GETS_A_PROCESS = ("EXITED", "KILLING", "BACKOFF")


class Verdict(msgspec.Struct, frozen=True):
    """`reason`: a few words, also of what is ok."""

    verdict: str
    reason: str


class SourceHealth(msgspec.Struct, frozen=True):
    """`silent_s`: since its last packet, null if it is not in its code."""

    verdict: str
    reason: str
    emitted: int
    silent_s: float | None


class Health(msgspec.Struct, frozen=True):
    """`verdict` is the worst of all, `reason` that of the first node which has it. `ready`: every node is, and the run takes packets."""

    verdict: str
    reason: str
    ready: bool
    nodes: dict[str, Verdict]
    sources: dict[str, SourceHealth]

    @property
    def works(self) -> bool:
        return self.verdict in (OK, DEGRADED)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class Moment(msgspec.Struct, frozen=True):
    """What is judged. `earlier`: (age in seconds, snapshot) of some LATELY_S ago, None in a run that has just begun. `is_ready`: all nodes
    were told to begin, and the run was not asked to end. Times are monotonic.
    """

    taken: Snapshot
    earlier: tuple[float, Snapshot] | None
    now_ns: int
    started_ns: int
    is_ready: bool
    is_ending: bool


def judge(plan: Plan, moment: Moment) -> Health:
    plans = {node.id: node for node in plan.nodes}
    age_s, before = moment.earlier or (0.0, Snapshot((), ()))
    nodes_before, edges_before = {row.id: row for row in before.nodes}, {row.name: row for row in before.edges}
    inputs: dict[str, list[tuple[EdgeRow, int]]] = defaultdict(list)
    for edge in moment.taken.edges:
        dropped_before = edges_before[edge.name].dropped if edge.name in edges_before else 0
        inputs[edge.to_node].append((edge, edge.dropped - dropped_before))
    since = f"in the last {round(age_s)} s" if moment.earlier else "since it began"
    found = {}
    for row in moment.taken.nodes:
        earlier = nodes_before.get(row.id, NodeRow(row.id, row.plugin, row.role))
        found[row.id] = _of_node(plans[row.id], row, earlier, inputs[row.id], moment, since)
    worst = min((verdict.verdict for verdict in found.values()), key=VERDICTS.index, default=OK)
    first = next((f"{node}: {verdict.reason}" for node, verdict in found.items() if verdict.verdict == worst), "")
    ready = moment.is_ready and all(row.state in ("READY", "DRAINING", "DONE") for row in moment.taken.nodes)
    sources = {row.id: _of_source(row, found[row.id], moment) for row in moment.taken.nodes if row.role == "source"}
    return Health(worst, "every node works" if worst == OK else first, ready, found, sources)


def _of_source(row: NodeRow, verdict: Verdict, moment: Moment) -> SourceHealth:
    silent_s = round(_since_s(row.busy_since_ns, moment), 3) if row.busy_since_ns else None
    return SourceHealth(verdict.verdict, verdict.reason, row.emitted, silent_s)


def _of_node(plan: NodePlan, row: NodeRow, before: NodeRow, inputs: list[tuple[EdgeRow, int]], moment: Moment, since: str) -> Verdict:
    if row.state == "FAILED":
        return Verdict(FAILED, row.cause or "it gave up")
    if row.state == "DONE":
        return Verdict(OK, "it is done")
    if moment.is_ending and row.state not in ("READY", "DRAINING"):
        return Verdict(OK, "the run ends")
    if row.state in _GETS_A_PROCESS:
        return Verdict(DEGRADED, f"it gets a new process: {row.cause or row.exit or row.state.lower()}")
    if row.state in ("PLANNED", "STARTING"):
        return (
            Verdict(DEGRADED, f"its new process starts: {row.cause or row.exit}")
            if row.restarts
            else Verdict(STARTING, "its process starts")
        )
    stalled = "" if row.paused or not moment.is_ready else _stalled(plan, row, [edge for edge, _ in inputs], moment)
    if stalled:
        return Verdict(STALLED, stalled)
    reasons = list(_degraded(row, before, inputs, since))
    return Verdict(DEGRADED, "; ".join(reasons)) if reasons else Verdict(OK, "it works" if moment.is_ready else "it is ready")


def _degraded(row: NodeRow, before: NodeRow, inputs: list[tuple[EdgeRow, int]], since: str) -> Iterator[str]:
    if row.paused:
        yield "it is paused"
    if row.restarts > before.restarts:
        yield f"restarted {_times(row.restarts - before.restarts)} {since}" + (f": {row.cause}" if row.cause else "")
    if row.failed > before.failed:
        yield f"{_packets(row.failed - before.failed)} failed {since}"
    for edge, dropped in inputs:
        if dropped > 0 and edge.policy not in BY_DESIGN:
            yield f"{_packets(dropped)} for it dropped by {edge.policy} {since}"


def _stalled(plan: NodePlan, row: NodeRow, inputs: list[EdgeRow], moment: Moment) -> str:
    """Why, or "". Sooner than the node would be taken for hung, and without any consequence but this word."""
    if row.waits_for_credit:
        return ""  # its consumers are slow, or a source waits for its time
    waiting = sum(edge.waiting for edge in inputs)
    if row.busy_since_ns:
        silent_s = _since_s(row.busy_since_ns, moment)
        if row.role == "source":
            return f"it has given no packet for {silent_s:.1f} s" if 0 < _silence_s(plan, row, moment) <= silent_s else ""
        return f"one packet has been in process() for {silent_s:.1f} s" if 0 < _longest_call_s(plan, row) <= silent_s else ""
    silent_s = _since_s(row.heartbeat_ns, moment)
    if waiting and row.heartbeat_ns and 0 < _longest_call_s(plan, row) <= silent_s:
        return f"{_packets(waiting)} wait{'s' if waiting == 1 else ''} and none was taken for {silent_s:.1f} s"
    return ""


def _longest_call_s(plan: NodePlan, row: NodeRow) -> float:
    """0: it is not judged. A node whose calls are all new has only `progress_s`."""
    usual_ns = row.work.quantile_ns(0.99)
    return plan.progress_s if usual_ns is None else _at_most(max(SHORTEST_STALL_S, USUAL_CALLS * usual_ns / 1e9), plan.progress_s)


def _silence_s(plan: NodePlan, row: NodeRow, moment: Moment) -> float:
    if not row.emitted or plan.is_job:
        return plan.progress_s
    usual_s = (row.busy_since_ns - moment.started_ns) / 1e9 / row.emitted
    return _at_most(max(SHORTEST_SILENCE_S, USUAL_GAPS * usual_s), plan.progress_s)


def _at_most(seconds: float, progress_s: float) -> float:
    return min(seconds, progress_s) if progress_s else seconds


def _since_s(at_ns: int, moment: Moment) -> float:
    return max(0.0, (moment.now_ns - at_ns) / 1e9)


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count:,} packets"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
