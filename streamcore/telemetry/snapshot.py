"""The numbers of all nodes and edges at one moment, put together from their status pages. Shapes of `ps` and `stats`.

Of an edge both nodes keep a row. The producer's is the truth for what it sent and what became of it, the consumer's for what it took.
A snapshot of a working graph is a photograph with a shutter time: rows of different nodes are some microseconds apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.status import EdgeCounters, NodeStatus

NO_COUNTERS = EdgeCounters()


class NodeRow(msgspec.Struct):
    """One node. Counts since the run began; times in nanoseconds; `state` of supervisor/states.py; `pid` null without a process.

    `cpu_percent` (of one core) and `rss_bytes` are null where nobody asked for them or the process is gone; `rss_growth_bytes_per_s` is
    that of the last minute, null for a young process. `cpu_s` is the CPU time of all its processes, `core_wait_s` how long their main
    threads were ready to run and had no core; null where nobody asked. `exit` and `cause` are sentences about the last process that ended,
    empty as long as there was none. `incidents`: files that were written about it. `work`: durations of calls of node code; `end_to_end`:
    from the capture of a packet to the end of this node's work on it; both are empty in a snapshot without distributions.
    `busy_since_ns`, `heartbeat_ns`, `waits_for_credit`: of the status page, on the monotonic clock.
    """

    id: str
    plugin: str
    role: str
    pid: int | None = None
    state: str = "PLANNED"
    incarnation: int = 0
    restarts: int = 0
    consumed: int = 0
    produced: int = 0
    emitted: int = 0
    failed: int = 0
    refused: int = 0
    work_ns: int = 0
    wait_ns: int = 0
    credit_wait_ns: int = 0
    busy_since_ns: int = 0
    waits_for_credit: int = 0
    leases: int = 0
    copied: int = 0
    cpu_percent: float | None = None
    cpu_s: float | None = None
    core_wait_s: float | None = None
    rss_bytes: int | None = None
    rss_growth_bytes_per_s: float | None = None
    paused: bool = False
    incidents: int = 0
    exit: str = ""
    cause: str = ""
    metrics: dict[str, float] = {}
    work: Distribution = NOTHING
    end_to_end: Distribution = NOTHING
    heartbeat_ns: int = 0


class EdgeRow(msgspec.Struct):
    """One edge. Quiet, `sent = completed + dropped + failed + in_flight`; `waiting` of those in flight were not yet taken.

    What fails on an edge of `completion: delivered` its producer hears of: a durable queue sends it again. `credit`: packets that may be
    sent now. `wait`: from sending to taking, empty in a snapshot without distributions.
    """

    name: str
    from_node: str
    to_node: str
    policy: str
    depth: int
    window: int
    sent: int = 0
    taken: int = 0
    completed: int = 0
    dropped: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    redelivered: int = 0
    bytes: int = 0
    completion: str = "hop"
    credit: int = 0
    wait: Distribution = NOTHING

    @property
    def failed_for_good(self) -> int:
        return 0 if self.completion == "delivered" else self.failed


class Left(NamedTuple):
    """What the ring of a dead producer holds for one edge, judged by the consumer's marks: `under_way` are neither."""

    under_way: int = 0
    completed: int = 0
    failed: int = 0


class Snapshot(msgspec.Struct):
    """All nodes and edges, in the order of the plan."""

    nodes: tuple[NodeRow, ...]
    edges: tuple[EdgeRow, ...]

    def node(self, node_id: str) -> NodeRow:
        return next(row for row in self.nodes if row.id == node_id)


_NOT_FROM_THE_PAGE = ("pid", "state", "incarnation")  # the coordinator knows better: a dead process cannot update them
_SAME_NAME = tuple(name for name in NodeRow.__struct_fields__ if name in NodeStatus.__struct_fields__ and name not in _NOT_FROM_THE_PAGE)


def take(plan: Plan, pages: Mapping[str, NodeStatus], left: Mapping[int, Left] | None = None) -> Snapshot:
    """Counters only: who knows of processes (pid, state, exit) fills those fields in.

    `left`: edges whose producer is dead. Its page has stopped, perhaps between two counts, and the last receipts went to nobody.
    """
    left = left or {}
    return Snapshot(
        tuple(_node_row(node, pages[node.id]) for node in plan.nodes),
        tuple(_edge_row(edge, pages[edge.from_node], pages[edge.to_node], left.get(edge.id)) for edge in plan.edges),
    )


def _node_row(plan: NodePlan, page: NodeStatus) -> NodeRow:
    row = NodeRow(plan.id, plan.plugin, plan.role, **{name: getattr(page, name) for name in _SAME_NAME})
    row.produced = max(row.produced, row.emitted)  # a source that waits for room has not published the former
    return row


def _edge_row(plan: EdgePlan, producer: NodeStatus, consumer: NodeStatus, left: Left | None) -> EdgeRow:
    offered = producer.edges.get(plan.id, NO_COUNTERS)
    taken = consumer.edges.get(plan.id, NO_COUNTERS)
    if left is not None:
        offered = _reconciled(offered, left)
    return EdgeRow(
        name=plan.name,
        from_node=plan.from_node,
        to_node=plan.to_node,
        policy=plan.policy,
        depth=plan.depth,
        window=plan.window,
        sent=offered.sent,
        taken=taken.taken,
        completed=offered.completed,
        dropped=offered.dropped,
        failed=offered.failed,
        in_flight=offered.in_flight,
        waiting=taken.waiting,
        redelivered=taken.redelivered,
        bytes=max(offered.bytes, taken.bytes),
        completion=plan.completion,
        credit=max(0, min(plan.depth - taken.waiting, plan.window - offered.in_flight)),
        wait=consumer.waits.get(plan.id, NOTHING),
    )


def _reconciled(page: EdgeCounters, left: Left) -> EdgeCounters:
    """As a successor would go on from it: the ring is the truth, the counts may lack the last packet. SYNC: EdgeCredit.resume."""
    missing = page.sent - page.completed - page.dropped - page.failed - sum(left)
    return msgspec.structs.replace(
        page,
        sent=page.sent - min(0, missing),
        completed=page.completed + max(0, missing) + left.completed,
        failed=page.failed + left.failed,
        in_flight=left.under_way,
    )
