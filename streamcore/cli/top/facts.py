"""What `top` knows of a run at one moment: rows with rates and quantiles of a window, what deserves a word, the bottleneck. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from streamcore.cli.wording import plural, rate, span
from streamcore.supervisor.usage import cores
from streamcore.telemetry.bottleneck import bottleneck
from streamcore.telemetry.history import EdgeRates, NodeRates, Quantiles, Window, between
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

STUCK_S = 5.0  # so long under one packet, or without taking one that waits, is worth a word; what is done about it says the spec
BUSY_SHARE = 0.5  # who works so much is not stuck though it takes long for each packet


class NodeLine(msgspec.Struct, frozen=True):
    """One node. Rates in packets per second, shares of the time from 0 to 1, all of the window; counts since the run began.

    `state` of supervisor/states.py. `busy`: the share spent in node code, `idle`: without input, `blocked`: without a credit or a slot.
    `stuck`: it has been under one packet, or has taken none of those that wait, for a while. `cpu_percent` is of one core.
    """

    id: str
    plugin: str
    role: str
    state: str
    paused: bool
    stuck: bool
    pid: int | None
    restarts: int
    in_per_s: float
    out_per_s: float
    failed_per_s: float
    busy: float
    idle: float
    blocked: float
    work: Quantiles
    end_to_end: Quantiles
    cpu_percent: float | None
    rss_bytes: int | None
    consumed: int
    produced: int
    failed: int

    @property
    def shown_state(self) -> str:
        """The state in one word, in small letters; paused and stuck are more than ready."""
        return ("paused" if self.paused else "stuck" if self.stuck else "ready") if self.state == "READY" else self.state.lower()


class EdgeLine(msgspec.Struct, frozen=True):
    """One edge. `waiting` of `depth` are not yet taken, `in_flight` of `window` not yet completed; `credit`: may be sent now."""

    name: str
    from_node: str
    to_node: str
    policy: str
    waiting: int
    depth: int
    in_flight: int
    window: int
    credit: int
    sent_per_s: float
    dropped_per_s: float
    failed_per_s: float
    bytes_per_s: float
    wait: Quantiles
    sent: int
    dropped: int


class Notice(msgspec.Struct, frozen=True):
    """Something about a node or an edge that a person should know. `bad`: a failure, and not only a hint."""

    about: str
    text: str
    bad: bool

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


class Totals(msgspec.Struct, frozen=True):
    """Of the whole graph in the window, per second: what sources emitted, edges dropped and nodes failed."""

    in_per_s: float
    dropped_per_s: float
    failed_per_s: float


class Usage(NamedTuple):
    """Of a process: the share of one core in percent, and resident bytes; None where it is gone."""

    cpu_percent: float | None = None
    rss_bytes: int | None = None


class Picture(msgspec.Struct, frozen=True):
    """A run at one moment. `asked_s` is the window that was asked for, `seconds` the one that there was."""

    run: str
    graph: str
    state: str
    uptime_s: float
    asked_s: int
    seconds: float
    totals: Totals
    nodes: tuple[NodeLine, ...]
    edges: tuple[EdgeLine, ...]
    notices: tuple[Notice, ...]
    bottleneck: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """The object of `top --once --json`."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        shown["window"] = {"asked_s": shown.pop("asked_s"), "seconds": shown.pop("seconds")}
        return {"version": 1, **shown}

    def node(self, node_id: str) -> NodeLine | None:
        return next((line for line in self.nodes if line.id == node_id), None)


def picture(reply: Mapping[str, Any], graph: str, asked_s: int, now_ns: int, usage: Mapping[int, Usage] | None = None) -> Picture:
    """From a reply of the verb `stats`. `now_ns`: the monotonic clock when it was asked; `usage`: by pid."""
    rows = msgspec.convert({"nodes": reply["nodes"], "edges": reply["edges"]}, Snapshot)
    window = _window(reply, rows, asked_s)
    nodes = tuple(
        _node_line(row, window.nodes[row.id], rows, window, now_ns, (usage or {}).get(row.pid or 0, Usage())) for row in rows.nodes
    )
    edges = tuple(_edge_line(row, window.edges[row.name]) for row in rows.edges)
    totals = Totals(
        sum(line.out_per_s for line in nodes if line.role == "source"),
        sum(line.dropped_per_s for line in edges),
        sum(line.failed_per_s for line in nodes),
    )
    notices = sorted(_notices(rows, nodes, edges, now_ns), key=lambda notice: not notice.bad)
    held_back = bottleneck(window, rows, now_ns, cores())
    return Picture(
        run=reply["run"],
        graph=graph,
        state=reply["state"],
        uptime_s=reply["uptime_s"],
        asked_s=asked_s,
        seconds=round(window.seconds, 3),
        totals=totals,
        nodes=nodes,
        edges=edges,
        notices=tuple(notices),
        bottleneck=held_back.sentence,
        advice=held_back.advice,
    )


def _window(reply: Mapping[str, Any], rows: Snapshot, asked_s: int) -> Window:
    """The window that was asked for. A run too young to have one, or of a version without, is looked at from its beginning."""
    found = reply.get("windows", {}).get(str(asked_s))
    if found is not None:
        window = msgspec.convert(found, Window)
        if all(row.id in window.nodes for row in rows.nodes) and all(row.name in window.edges for row in rows.edges):
            return window
    return between(Snapshot((), ()), rows, max(reply["uptime_s"], 0.001))


def _node_line(row: NodeRow, rates: NodeRates, rows: Snapshot, window: Window, now_ns: int, usage: Usage) -> NodeLine:
    return NodeLine(
        id=row.id,
        plugin=row.plugin,
        role=row.role,
        state=row.state,
        paused=row.paused,
        stuck=_under_one_packet_s(row, rows, now_ns) >= STUCK_S or _takes_nothing(row, rates, rows, window),
        pid=row.pid,
        restarts=row.restarts,
        in_per_s=rates.consumed,
        out_per_s=rates.produced,
        failed_per_s=rates.failed,
        busy=rates.busy,
        idle=rates.idle,
        blocked=rates.blocked,
        work=rates.work,
        end_to_end=rates.end_to_end,
        cpu_percent=usage.cpu_percent,
        rss_bytes=usage.rss_bytes,
        consumed=row.consumed,
        produced=row.produced,
        failed=row.failed,
    )


def _edge_line(row: EdgeRow, rates: EdgeRates) -> EdgeLine:
    return EdgeLine(
        name=row.name,
        from_node=row.from_node,
        to_node=row.to_node,
        policy=row.policy,
        waiting=row.waiting,
        depth=row.depth,
        in_flight=row.in_flight,
        window=row.window,
        credit=row.credit,
        sent_per_s=rates.sent,
        dropped_per_s=rates.dropped,
        failed_per_s=rates.failed,
        bytes_per_s=rates.bytes,
        wait=rates.wait,
        sent=row.sent,
        dropped=row.dropped,
    )


def _under_one_packet_s(row: NodeRow, rows: Snapshot, now_ns: int) -> float:
    """How long it has been so; 0 for who waits for room in an edge. The clock of a status page is that of the whole box."""
    fed = any(edge.to_node == row.id for edge in rows.edges)  # a source is always under one call: its run()
    if not row.busy_since_ns or row.pid is None or not fed or _has_no_room(row, rows):
        return 0.0
    return max(0.0, (now_ns - row.busy_since_ns) / 1e9)


def _takes_nothing(row: NodeRow, rates: NodeRates, rows: Snapshot, window: Window) -> bool:
    if row.state != "READY" or row.paused or window.seconds < STUCK_S or rates.consumed or rates.busy >= BUSY_SHARE:
        return False
    return any(edge.waiting for edge in rows.edges if edge.to_node == row.id) and not _has_no_room(row, rows)


def _has_no_room(row: NodeRow, rows: Snapshot) -> bool:
    return any(edge.from_node == row.id and edge.policy == "block" and not edge.credit for edge in rows.edges)


def _notices(rows: Snapshot, nodes: tuple[NodeLine, ...], edges: tuple[EdgeLine, ...], now_ns: int) -> Iterator[Notice]:
    for row, line in zip(rows.nodes, nodes, strict=True):
        since_s = _under_one_packet_s(row, rows, now_ns)
        if row.state == "FAILED":
            yield Notice(row.id, f"failed for good: {row.cause or row.exit or 'see its log'}", True)
        elif row.state in ("BACKOFF", "EXITED", "KILLING"):
            yield Notice(row.id, row.cause or row.exit or f"is {row.state.lower()}", True)
        elif since_s >= STUCK_S:
            yield Notice(row.id, f"under one packet for {span(since_s)}; t shows where it is", True)
        elif line.stuck:
            yield Notice(row.id, "takes none of the packets that wait for it", True)
        if line.failed_per_s:
            yield Notice(row.id, f"{rate(line.failed_per_s)} packets/s fail, {row.failed:,} so far", True)
        if row.restarts and row.state in ("READY", "STARTING"):
            yield Notice(
                row.id,
                f"restarted {plural(row.restarts, 'time')}" + (f", last: {row.cause or row.exit}" if row.cause or row.exit else ""),
                False,
            )
        if row.paused:
            yield Notice(row.id, "paused: it begins no further packet", False)
    for edge in edges:
        if edge.dropped_per_s:
            yield Notice(edge.name, f"drops {rate(edge.dropped_per_s)} packets/s ({edge.policy}), {edge.dropped:,} so far", False)
