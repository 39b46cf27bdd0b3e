"""What holds a graph back, in words: one sentence that says it, one that says what would help. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamcore.telemetry.blame import HELD_SHARE, WAITS_SHARE, Flow, Kind, Link, Stage


def words(
    kind: Kind, flow: Flow, stage: Stage | None, links: Sequence[Link], others: Sequence[Stage], share: float | None, cores: int
) -> tuple[str, str]:
    """(sentence, advice) of a finding of bottleneck.py."""
    if stage is None:
        if others:
            return _nobody(flow, others[0])
        return ("One node works alone: there is no graph to hold back." if kind == "single" else "No packet flowed."), ""
    said, helps = _SAID.get(kind, _busy)(flow, stage, links, others)
    if kind == "cores":
        used = sum(other.rates.cpu or 0.0 for other in flow.stages.values())
        waits = f", and it waits for a core {stage.rates.core_wait:.0%} of the time" if stage.rates.core_wait else ""
        said += f"; all nodes together use {used:.2g} of {cores} core{'s' * (cores > 1)}{waits}"
    if share is not None:
        said += f"; {share:.0%} of the end-to-end time is its doing"
    if kind == "balanced":
        return f"'{stage.id}' holds the graph back, and so {'does' if len(others) == 1 else 'do'} {_names(others)}: {said}.", helps
    return f"'{stage.id}' holds the graph back: {said}.", helps or _HELPS.get(kind, _no_help)(flow, stage, links)


def _nobody(flow: Flow, busiest: Stage) -> tuple[str, str]:
    work = f"the busiest is '{busiest.id}', it works {busiest.busy:.0%} of the time, {_ms(busiest.work_s)} per packet"
    sources = [stage for stage in flow.stages.values() if stage.row.role == "source" and stage.rates.produced]
    given = " and ".join(f"'{stage.id}' gives {_per_s(stage.rates.produced)}" for stage in sources[:3])
    room = f"about {0.95 / busiest.busy:.2g} times as many" if busiest.busy >= 0.05 else "far more"
    helps = f"Nothing has to be done; there is room for {room} packets."
    return f"No node holds the graph back: {work}" + (f"; the graph waits for its source: {given}." if given else "."), helps


# --- why: each (what follows "'b' holds the graph back: ", advice or "")


def _busy(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    said = f"it works {stage.busy:.0%} of the time, {_ms(stage.work_s)} per packet"
    cpu = stage.rates.cpu
    if cpu is not None and stage.busy:
        waits = (stage.wants_cpu or 0.0) < WAITS_SHARE
        said += f", mostly waiting in its own code ({cpu:.0%} of a core)" if waits else f", on {cpu:.0%} of a core"
    return said + _waits(flow, links), ""


def _waits(flow: Flow, links: Sequence[Link]) -> str:
    """Who waits for it, in the order of the plan, and what is dropped before it."""
    feeders = {link.producer.id for link in links if link.blocks and not link.producer.backlog}
    waiting = [
        f"{one.id} waits for it {one.blocked:.0%}" for one in flow.stages.values() if one.id in feeders and one.blocked >= HELD_SHARE
    ]
    dropped = [f"{link.edge.name} drops {link.dropped_share:.0%} of its packets" for link in links if not link.blocks]
    kept = [f"{link.producer.backlog:,.0f} packets wait in {link.producer.id}" for link in links if link.blocks and link.producer.backlog]
    parts = [", ".join(part) for part in (waiting, dropped, kept) if part]
    return "".join(f"; {part}" for part in parts)


def _paused(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    return f"it is paused{_in_front(stage)}", f"`streamctl resume {stage.id}` lets it go on."


def _backoff(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    times = f", restart {stage.row.restarts + 1} of this run" if stage.row.restarts else ""
    return f"its process has ended and a new one is to come{times}{_in_front(stage)}", _incident(stage)


def _failed(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    return "it has failed for good, and what is sent to it fails too", _incident(stage)


def _starting(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    return f"it is not ready yet{_in_front(stage)}", f"`streamctl logs {stage.id}` says what its setup() does."


def _stalled(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    since = f", and one call of its code has lasted {stage.calls_s:.3g} s" if stage.calls_s else ""
    return f"it has taken no packet for {flow.seconds:.2g} s{_in_front(stage)}{since}", f"`streamctl stack {stage.id}` shows where it is."


def _fan_in(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    join = others[0].id
    said = f"'{join}' waits for what comes from it, {_per_s(stage.packets_per_s)}{_waits(flow, links).replace(' for it', f' for {join}')}"
    return said, f"Let the sources that meet in '{join}' give equally many packets, or make '{stage.id}' faster."


def _shallow(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    edge = max((link for link in links if link.blocks), key=lambda link: link.held).edge
    said = f"it works only {stage.busy:.0%} of the time, but {edge.name} has too little room (depth {edge.depth}){_waits(flow, links)}"
    return said, f"`depth: {max(4, 2 * edge.depth)}` on {edge.name} lets its producer work ahead."


def _holds(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    said = (
        f"it works only {stage.busy:.0%} of the time, but keeps {stage.row.leases} packets, and their memory is wanted{_waits(flow, links)}"
    )
    return said, "Let it keep fewer packets, or declare a larger `retention` in its class."


def _queue(flow: Flow, stage: Stage, links: Sequence[Link], others: Sequence[Stage]) -> tuple[str, str]:
    link = next(link for link in links if link.producer.backlog)
    comes, goes = sum(into.rates.taken for into in link.producer.inputs), link.rates.completed
    said = f"{link.producer.id} takes {_per_s(comes)} and gets rid of {goes:.3g}/s{_waits(flow, links)}"
    said += f", and {link.rates.failed:.3g}/s come back undelivered" if link.rates.failed else ""
    return said, f"Its destination is away or slower than what comes: `streamctl logs {stage.id}`, `streamctl queue ls`."


# --- what would help


def _no_help(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    return ""


def _help_slow(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    return f"`streamctl stack {stage.id}` shows what it waits for; {_relief(flow, stage, links)}."


def _help_cpu(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    own = "give it a core of its own with `cpu_affinity`"
    return f"Make its work cheaper, for instance by smaller frames, or {own}; {_relief(flow, stage, links)}."


def _help_cores(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    return "The cores are taken: lower the `rate` or the frame size at the source, or run less beside it; more processes would not help."


def _help_balanced(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    return "One of them alone made faster changes little: lower the `rate` at the source, or make all of them cheaper."


def _help_source(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    return "The nodes behind it have room: more packets come only from a faster source."


def _help_drops(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    manages = f" to the {_per_s(stage.packets_per_s)} that it manages" if stage.packets_per_s else ""
    edges = " and ".join(link.edge.name for link in links if not link.blocks)
    return f"If every packet counts, `policy: block` on {edges}; else all is well, and a lower `rate` at the source{manages} saves work."


def _help_sink(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    edge = next((link.edge.name for link in links if link.blocks and link.edge.completion == "hop" and link.consumer is stage), "")
    waves = f"if it is slow only at times, `outbox: true` on {edge} takes the waves; " if edge else ""
    return f"What it writes to is slow: {waves}`batch_max` lets a sink that knows batches write several packets at once."


def _relief(flow: Flow, stage: Stage, links: Sequence[Link]) -> str:
    """What takes load from a node: one copy per source where several meet in it, dropping where the source is live, or fewer packets."""
    if len(stage.inputs) > 1:
        return f"one copy of it for each of its {len(stage.inputs)} inputs, with `for_each`, shares its work"
    blocking = [link.edge.name for link in links if link.blocks and link.edge.completion == "hop" and link.consumer is stage]
    if blocking:
        return f"`batch_max` if it gains from batches; `policy: latest` on {blocking[0]} if old packets need not be processed"
    return "a lower `rate` at the source if fewer packets do"


# --- small words


def _in_front(stage: Stage) -> str:
    waiting = sum(max(link.edge.waiting, link.edge.in_flight) for link in stage.inputs)
    return f", while {waiting:,} packet{'s' * (waiting != 1)} wait{'s' * (waiting == 1)} for it" if waiting else ""


def _incident(stage: Stage) -> str:
    return f"`streamctl incidents show {stage.id}` says why."


def _names(stages: Sequence[Stage]) -> str:
    names = [f"'{stage.id}' ({stage.busy:.0%})" for stage in stages[:4]]
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] + (" and more" if len(stages) > 4 else "")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _per_s(rate: float) -> str:
    return f"{rate:.3g} packets/s"


_Said = Callable[[Flow, Stage, Sequence[Link], Sequence[Stage]], tuple[str, str]]
_SAID: dict[Kind, _Said] = {
    "paused": _paused,
    "backoff": _backoff,
    "failed": _failed,
    "starting": _starting,
    "stalled": _stalled,
    "fan_in": _fan_in,
    "shallow_edge": _shallow,
    "holds_packets": _holds,
    "queue": _queue,
}
_HELPS: dict[Kind, Callable[[Flow, Stage, Sequence[Link]], str]] = {
    "slow_code": _help_slow,
    "cpu_bound": _help_cpu,
    "cores": _help_cores,
    "balanced": _help_balanced,
    "source": _help_source,
    "drops": _help_drops,
    "sink": _help_sink,
}
