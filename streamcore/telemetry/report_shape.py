"""The shape of a run report, from which its JSON Schema (docs/report.schema.json) is made and by which a report is read.

What a report of an older version lacks has a default here; what a newer one has beside is left alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]


class Quantiles(msgspec.Struct):
    """Of durations in nanoseconds, each off by at most 3.2 %; null of none."""

    count: Annotated[int, Meta(description="How many were measured.", ge=0)] = 0
    mean_ns: Annotated[float | None, Meta(description="Their mean.")] = None
    p50_ns: Annotated[float | None, Meta(description="What half of them did not exceed.")] = None
    p95_ns: Annotated[float | None, Meta(description="What 95 % of them did not exceed.")] = None
    p99_ns: Annotated[float | None, Meta(description="What 99 % of them did not exceed.")] = None


class Node(msgspec.Struct):
    """One node, all its incarnations together."""

    plugin: Annotated[str, Meta(description="Name of its plugin.")]
    role: Annotated[str, Meta(description="source, node or sink.")]
    state: Annotated[str, Meta(description="Its last state, e.g. DONE or FAILED.")]
    exit: Annotated[str, Meta(description="How its last process ended; empty if it was done.")]
    cause: Annotated[str, Meta(description="Why its last failure happened, or its last restart; empty without one.")]
    incarnation: Annotated[int, Meta(description="How many processes it has had.", ge=0)]
    restarts: Annotated[int, Meta(description="How many of them took over from another.", ge=0)]
    consumed: Annotated[int, Meta(description="Packets that it has finished.", ge=0)]
    produced: Annotated[int, Meta(description="Packets that it has sent, each once for all edges.", ge=0)]
    failed: Annotated[int, Meta(description="Packets that it could not process.", ge=0)]
    metrics: Annotated[dict[str, float], Meta(description="What its plugin counts itself.")] = {}
    incidents: Annotated[list[str], Meta(description="Files that were written about its crashes and hangs.")] = []
    work: Annotated[Quantiles, Meta(description="Durations of the calls of its code.")] = msgspec.field(default_factory=Quantiles)
    end_to_end: Annotated[Quantiles, Meta(description="From a packet's capture to the end of this node's work on it.")] = msgspec.field(
        default_factory=Quantiles
    )


class Edge(msgspec.Struct):
    """One edge: sent = completed + dropped + failed + in_flight. What is in flight after the end is lost."""

    from_node: Annotated[str, Meta(description="Id of the node that sends.")]
    to_node: Annotated[str, Meta(description="Id of the node that takes.")]
    policy: Annotated[str, Meta(description="What it does when it is full: block, drop_new, drop_oldest, latest or sample.")]
    depth: Annotated[int, Meta(description="Most packets that wait.", ge=0)]
    window: Annotated[int, Meta(description="Most packets that were sent and are not completed.", ge=0)]
    sent: Annotated[int, Meta(description="Packets offered to it.", ge=0)]
    taken: Annotated[int, Meta(description="Packets that its consumer has begun.", ge=0)]
    completed: Annotated[int, Meta(description="Packets that are finished, and all that uses their payload.", ge=0)]
    dropped: Annotated[int, Meta(description="Packets that its policy let go.", ge=0)]
    failed: Annotated[int, Meta(description="Packets that could not be processed.", ge=0)]
    in_flight: Annotated[int, Meta(description="Packets that were neither when the last process had ended.", ge=0)]
    waiting: Annotated[int, Meta(description="Those of them that were not yet taken.", ge=0)] = 0
    redelivered: Annotated[int, Meta(description="Packets that were delivered more than once.", ge=0)] = 0
    bytes: Annotated[int, Meta(description="Bytes of payload sent.", ge=0)] = 0
    completion: Annotated[str, Meta(description="hop, or delivered: its producer keeps what fails.")] = "hop"
    credit: Annotated[int, Meta(description="Packets that could have been sent at once.", ge=0)] = 0
    wait: Annotated[Quantiles, Meta(description="From sending to taking.")] = msgspec.field(default_factory=Quantiles)


class AccountRow(msgspec.Struct):
    """What became of the packets of one edge."""

    edge: Annotated[str, Meta(description="Its name.")]
    sent: Annotated[int, Meta(description="= completed + dropped + failed + in_flight, if it balances.", ge=0)]
    completed: Annotated[int, Meta(description="Packets that are finished.", ge=0)]
    dropped: Annotated[int, Meta(description="Packets that its policy let go.", ge=0)]
    failed: Annotated[int, Meta(description="Packets that could not be processed.", ge=0)]
    in_flight: Annotated[int, Meta(description="Packets lost: under way when the last process had ended.", ge=0)]
    balanced: Annotated[bool, Meta(description="Whether the equation holds.")]
    policy: Annotated[str, Meta(description="What it does when it is full.")] = ""
    redelivered: Annotated[int, Meta(description="Packets that were delivered more than once, counted once here.", ge=0)] = 0


class Account(msgspec.Struct):
    """The final account of all packets."""

    balanced: Annotated[bool, Meta(description="Whether all edges do.")]
    edges: Annotated[list[AccountRow], Meta(description="One row for each edge.")]
    sources: Annotated[dict[str, Count], Meta(description="Packets that each source has emitted.")] = {}
    sinks: Annotated[dict[str, Count], Meta(description="Packets that each sink has consumed.")] = {}
    unbalanced: Annotated[list[str], Meta(description="Edges that do not balance: an error in streamcore.")] = []
    lost: Annotated[dict[str, Count], Meta(description="Edges with packets under way at the end, and how many.")] = {}


class NodeCourse(msgspec.Struct):
    """The course of one node: an item for each point of the timeline."""

    consumed_per_s: Annotated[list[float], Meta(description="Packets finished per second.")]
    produced_per_s: Annotated[list[float], Meta(description="Packets sent per second.")]
    busy: Annotated[list[float], Meta(description="Share of the time in its code, from 0 to 1.")]
    work_p50_ns: Annotated[list[float | None], Meta(description="What half of the calls of its code took at most.")]
    work_p95_ns: Annotated[list[float | None], Meta(description="What 95 % of the calls of its code took at most.")]
    end_to_end_p50_ns: Annotated[list[float | None], Meta(description="The age of packets when it had finished them, half of them.")]
    end_to_end_p95_ns: Annotated[list[float | None], Meta(description="The age of packets when it had finished them, 95 % of them.")]
    rss_bytes: Annotated[list[int | None], Meta(description="Largest resident memory of its process and children, read every 10 s.")]


class EdgeCourse(msgspec.Struct):
    """The course of one edge: an item for each point of the timeline."""

    sent_per_s: Annotated[list[float], Meta(description="Packets sent per second.")]
    dropped_per_s: Annotated[list[float], Meta(description="Packets dropped per second.")]
    failed_per_s: Annotated[list[float], Meta(description="Packets failed per second.")]
    wait_p50_ns: Annotated[list[float | None], Meta(description="What half of the packets waited at most, from sending to taking.")]
    wait_p95_ns: Annotated[list[float | None], Meta(description="What 95 % of the packets waited at most.")]
    waiting_max: Annotated[list[int], Meta(description="The most packets that were seen waiting, when somebody looked.")]


class Mark(msgspec.Struct):
    """Something that happened to a node."""

    at_s: Annotated[float, Meta(description="Seconds since the run began.")]
    node: Annotated[str, Meta(description="Id of the node.")]
    what: Annotated[str, Meta(description="restart, failed or incident.")]
    text: Annotated[str, Meta(description="The cause, or the file of the incident.")]


class Timeline(msgspec.Struct):
    """The course of the run in at most 240 points, a second each at first; of a long run neighbours are added up."""

    begin_s: Annotated[list[float], Meta(description="Where each point begins, in seconds since the run began.")]
    end_s: Annotated[list[float], Meta(description="Where it ends.")]
    nodes: Annotated[dict[str, NodeCourse], Meta(description="The course of each node.")]
    edges: Annotated[dict[str, EdgeCourse], Meta(description="The course of each edge.")]
    marks: Annotated[list[Mark], Meta(description="Restarts, failures and incidents, as they came.")] = []
    marks_left_out: Annotated[int, Meta(description="How many more there were, in the middle of the run.", ge=0)] = 0

    def __post_init__(self) -> None:
        points = len(self.begin_s)
        for course in (*self.nodes.values(), *self.edges.values()):
            for name in course.__struct_fields__:
                if len(getattr(course, name)) != points:
                    raise ValueError(f"found {len(getattr(course, name))} items in {name}, expected {points}, one for each point")
        if len(self.end_s) != points:
            raise ValueError(f"found {len(self.end_s)} items in end_s, expected {points}, one for each point")


class Report(msgspec.Struct):
    """How a run of streamcore went."""

    ts: Annotated[str, Meta(description="When it ended, UTC, ISO 8601.")]
    status: Annotated[
        Literal["ok", "degraded", "error"],
        Meta(description="error: a node failed for good. degraded: packets failed or were lost, or the account does not balance."),
    ]
    engine: Annotated[str, Meta(description="`streamcore` and its version.", pattern="^streamcore ")]
    graph: Annotated[str, Meta(description="Name of the spec.")]
    graph_version: Annotated[str, Meta(description="Digest of the spec as a whole.")]
    run: Annotated[str, Meta(description="Name of the run.")]
    duration_s: Annotated[float, Meta(description="From the first to the last process.", ge=0)]
    ended: Annotated[str, Meta(description="Why it ended: end of stream, a signal, `down`, --for or a failure.")]
    metrics: Annotated[dict[str, float], Meta(description="All numbers, flat: packets.*_total, node.ID.*, edge.NAME.*.")]
    nodes: Annotated[dict[str, Node], Meta(description="Node ids, in the order of the spec.")]
    edges: Annotated[dict[str, Edge], Meta(description="Edge names, in the order of the spec.")]
    account: Annotated[Account, Meta(description="What became of every packet.")]
    bottleneck: Annotated[str, Meta(description="One sentence: which node holds the graph back.")]
    versions: Annotated[dict[str, str], Meta(description="Of streamcore, Python, libraries, the kernel and the machine.")] = {}
    bottleneck_detail: Annotated[dict[str, Any], Meta(description="The same for programs: node, kind, share, advice, evidence.")] = {}
    warnings: Annotated[list[str], Meta(description="What `up` warned of.")] = []
    events: Annotated[list[dict[str, Any]], Meta(description="The newest events of the run, as `streamctl events` shows them.")] = []
    failures: Annotated[list[str], Meta(description="A sentence for each node that failed for good.")] = []
    timeline: Annotated[
        Timeline | msgspec.UnsetType, Meta(description="The course of the run; absent if none was kept, as by older versions.")
    ] = msgspec.UNSET

    def busy(self, node: str) -> float:
        """Which share of the run the node was in its code, from 0 to 1."""
        return min(1.0, self.metrics.get(f"node.{node}.work_ns", 0.0) / 1e9 / self.duration_s) if self.duration_s else 0.0

    @property
    def slow_node(self) -> str | None:
        """The node that holds the graph back. SYNC: bottleneck.py; of older reports, its sentence says it."""
        if self.bottleneck_detail:
            return str(self.bottleneck_detail.get("node") or "") or None
        return next((node for node in self.nodes if self.bottleneck.startswith(f"'{node}' holds ")), None)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report."""
    made = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "streamcore run report", **made}
