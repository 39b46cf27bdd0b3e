"""Which node holds the graph back, why, how much of the end-to-end time is its doing, and what would help. Pure."""

from __future__ import annotations

import math

import msgspec

from streamcore.telemetry import advice
from streamcore.telemetry.blame import BUSY_SHARE, HELD_SHARE, NO_RATES, WAITS_SHARE, Flow, Kind, Link, Stage
from streamcore.telemetry.history import Window, between
from streamcore.telemetry.snapshot import Snapshot

IDLE_SHARE = 0.5  # a node that works less, and that others wait for, is not slow: something else is in the way
EQUAL_SHARE = 0.9  # nodes this near to the busiest are as busy
CPU_SHARE = 0.5  # who computes more of its working time is bound by it
STARVED_SHARE = 0.3  # of its working time ready to run and without a core: there are too few of them
FULL_SHARE = 0.9  # of all cores
STALLED_S = 1.0  # a window too short for a packet to be taken says nothing
NOT_AT_WORK: dict[str, Kind] = {
    "PLANNED": "starting",
    "STARTING": "starting",
    "BACKOFF": "backoff",
    "EXITED": "backoff",
    "KILLING": "backoff",
}


_BY_ROLE: dict[str, Kind] = {"sink": "sink", "source": "source"}


class Bottleneck(msgspec.Struct, frozen=True):
    """`node`: "" if no node holds the graph back. `kind`: docs/operations.md says what each means.

    `share_of_end_to_end`: see Flow.share_of_end_to_end; null where it was not measured. `advice`: what would help, perhaps "". `evidence`:
    the numbers behind it, those that are known: busy, blocked, cpu and core_wait of the node, work_ms, wait_ms, packets_per_s, held (the
    most that an edge holds back for it), dropped_per_s, seconds.
    """

    node: str
    kind: Kind
    share_of_end_to_end: float | None
    sentence: str
    advice: str
    evidence: dict[str, float]


class Finding(msgspec.Struct, frozen=True):
    """What was found, before it is put into words. `stage`: who holds the graph back, None if nobody does.

    `links`: the edges that hold packets back for it. `others`: of `balanced`, who is as busy; of `fan_in`, who waits for it; the busiest,
    where the graph waits for its sources.
    """

    kind: Kind
    stage: Stage | None = None
    links: tuple[Link, ...] = ()
    others: tuple[Stage, ...] = ()


def of_run(final: Snapshot, active_ns: int, cores: int) -> Bottleneck:
    """Judged from all the time that an ended run was active."""
    seconds = active_ns / 1e9
    return bottleneck(between(Snapshot((), ()), final, seconds) if active_ns > 0 else None, final, 0, cores)


def bottleneck(window: Window | None, now: Snapshot, now_ns: int, cores: int) -> Bottleneck:
    """Judged from what happened in a window before `now`; None: nothing is known yet.

    Followed from edges that wait or drop to the node at the end of them, for a wait passes on upstream: the node that holds the others back
    works, and what feeds it waits for credits. A consumer that takes long for each packet but is seldom asked is not it. Where no edge
    waits the busiest node is it, if it is busy enough, and else none: the graph waits for its sources.

    now_ns: when `now` was taken, on the clock of the status pages; 0 of a run that has ended, whose states say nothing of how it went.
    """
    flow = Flow(window if window is not None else Window(0.0, {}, {}), now, now_ns)
    found = _find(flow, now, cores)
    stage = found.stage
    share = flow.share_of_end_to_end(stage) if stage is not None and found.kind != "fan_in" else None
    sentence, helps = advice.words(found.kind, flow, stage, found.links, found.others, share, cores)
    if stage is None:
        return Bottleneck("", found.kind, None, sentence, helps, {})
    return Bottleneck(
        stage.id, found.kind, None if share is None else round(share, 3), sentence, helps, _evidence(flow, stage, found.links)
    )


def _evidence(flow: Flow, stage: Stage, links: tuple[Link, ...]) -> dict[str, float]:
    found = {"seconds": flow.seconds, "busy": stage.busy, "blocked": stage.blocked, "packets_per_s": stage.packets_per_s}
    found |= {"work_ms": stage.work_s * 1e3, "wait_ms": stage.wait_s * 1e3}
    found |= {name: value for name, value in (("cpu", stage.rates.cpu), ("core_wait", stage.rates.core_wait)) if value is not None}
    if links:
        found["held"] = max(link.held for link in links)
        found["dropped_per_s"] = sum(link.rates.dropped for link in links)
    return {name: round(value, 3) for name, value in found.items()}


def _find(flow: Flow, now: Snapshot, cores: int) -> Finding:
    if len(now.nodes) == 1 and not now.edges:
        return Finding("single")
    held_up = _not_at_work(flow, now) or _stalled(flow)
    if held_up is not None:
        return held_up
    working = [stage for stage in flow.stages.values() if stage.packets_per_s]
    culprits = {stage.id: stage for stage in map(flow.culprit_of, (link for link in flow.links if link.holds))}
    if culprits:
        named = max(culprits.values(), key=lambda stage: (stage.busy, max(link.held for link in flow.held_by(stage))))
        return _why(flow, named, working, cores)
    if not working:
        return _failed(flow) or Finding("nothing")
    busiest = max(working, key=lambda stage: stage.busy)
    if busiest.busy >= BUSY_SHARE:
        return _why(flow, busiest, working, cores)
    return _failed(flow) or Finding("source", others=(busiest,))


# --- nodes that do not work at all


def _not_at_work(flow: Flow, now: Snapshot) -> Finding | None:
    """A node that is paused or between two processes holds back what waits for it, and, if it is a source, everything."""
    if not flow.live:
        return None
    order: tuple[Kind, ...] = ("backoff", "paused", "starting")
    for kind in order:
        for row in now.nodes:
            if kind == ("paused" if row.paused else NOT_AT_WORK.get(row.state)):
                stage = flow.stages.get(row.id)
                if (
                    stage is None
                    or row.role == "source"
                    or any(link.edge.in_flight or link.holds for link in stage.inputs)
                    or kind == "starting"
                ):
                    return Finding(kind, stage or Stage(row, NO_RATES, 0.0, 0.0))
    return None


def _failed(flow: Flow) -> Finding | None:
    """A node that is gone for good does not make others wait: what is for it fails."""
    stage = next((stage for stage in flow.stages.values() if flow.live and stage.row.state == "FAILED"), None)
    return None if stage is None else Finding("failed", stage)


def _stalled(flow: Flow) -> Finding | None:
    """Packets wait and none was taken, though nothing behind the node is in its way."""
    if not flow.live or flow.seconds < STALLED_S:
        return None
    for stage in flow.stages.values():
        in_one_call = stage.calls_s >= FULL_SHARE * flow.seconds
        if stage.row.state == "READY" and not stage.rates.consumed and stage.blocked < HELD_SHARE:
            links = [link for link in stage.inputs if link.edge.waiting or (in_one_call and link.edge.in_flight)]
            if links and not any(link.rates.taken for link in stage.inputs):
                return Finding("stalled", stage, tuple(links))
    return None


# --- why the named one is slow


def _why(flow: Flow, stage: Stage, working: list[Stage], cores: int) -> Finding:
    links = tuple(flow.held_by(stage))
    if flow.live and stage.row.state == "FAILED":
        return Finding("failed", stage, links)
    if stage.busy < IDLE_SHARE and links:
        return _not_slow(flow, stage, links)
    if not stage.packets_per_s:
        return Finding("stalled", stage, links)
    wants_cpu = stage.wants_cpu or 0.0
    if wants_cpu >= CPU_SHARE and _box_is_full(flow, stage, cores):
        return Finding("cores", stage, links)
    drops = links and all(not link.blocks for link in links)
    if not drops:
        others = tuple(other for other in working if other is not stage and other.busy >= max(BUSY_SHARE, EQUAL_SHARE * stage.busy))
        others = tuple(other for other in others if other.blocked < HELD_SHARE)
        if others:
            return Finding("balanced", stage, links, others)
    if wants_cpu >= CPU_SHARE:
        return Finding("cpu_bound", stage, links)
    if drops:
        return Finding("drops", stage, links)
    return Finding(_BY_ROLE.get(stage.row.role, "slow_code"), stage, links)


def _box_is_full(flow: Flow, stage: Stage, cores: int) -> bool:
    """It waits for a core, whoever has them; or several nodes use all that there are."""
    if (stage.rates.core_wait or 0.0) >= STARVED_SHARE * stage.busy:
        return True
    used = [other.rates.cpu or 0.0 for other in flow.stages.values()]
    return sum(used) >= FULL_SHARE * cores and sum(one >= WAITS_SHARE for one in used) > 1


def _not_slow(flow: Flow, stage: Stage, links: tuple[Link, ...]) -> Finding:
    """Others wait for a node that is idle half of the time."""
    if any(link.producer.backlog for link in links):
        return Finding("queue", stage, links)
    starving = [link for link in stage.inputs if not link.held and link.producer.blocked < HELD_SHARE and not link.edge.waiting]
    if starving and len(stage.inputs) > 1:
        slowest = min(starving, key=lambda link: link.rates.sent)
        return Finding("fan_in", _busy_one(flow, slowest.producer), links, (stage,))
    if flow.live and any(link.edge.in_flight >= link.edge.window and link.edge.waiting < link.edge.depth for link in links):
        return Finding("holds_packets", stage, links)
    if not stage.packets_per_s:
        return Finding("stalled", stage, links)
    return Finding("shallow_edge" if any(link.blocks for link in links) else "drops", stage, links)


def _busy_one(flow: Flow, stage: Stage) -> Stage:
    """Who makes a producer slow: itself, or the busiest of those that feed it; if nobody is busy, its source."""
    way = [stage, *flow.upstream(stage)]
    busiest = max(way, key=lambda one: one.busy)
    return busiest if busiest.busy >= BUSY_SHARE else min((one for one in way if one.row.role == "source"), key=_given, default=stage)


def _given(stage: Stage) -> float:
    return stage.rates.produced or math.inf
