"""The numbers of all nodes and edges at one moment, put together from their status pages. Shapes of `ps` and `stats`.

Of an edge both nodes keep a row. The producer's is the truth for what it sent and what became of it, the consumer's for what it took.
A snapshot of a working graph is a photograph with a shutter time: rows of different nodes are some microseconds apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.shm.status import EdgeCounters, NodeStatus

NO_COUNTERS = EdgeCounters()


class NodeRow(msgspec.Struct):
    """One node. Counts since the run began; times in nanoseconds; `state` of supervisor/states.py; `pid` null without a process.

    `cpu_percent` (of one core) and `rss_bytes` are null where nobody asked for them or the process is gone. `exit` and `cause` are
    sentences, empty as long as there is nothing to say.
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
    leases: int = 0
    copied: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    exit: str = ""
    cause: str = ""
    metrics: dict[str, float] = {}


class EdgeRow(msgspec.Struct):
    """One edge. Quiet, `sent = completed + dropped + failed + in_flight`; `waiting` of those in flight were not yet taken."""

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


class Snapshot(msgspec.Struct):
    """All nodes and edges, in the order of the plan."""

    nodes: tuple[NodeRow, ...]
    edges: tuple[EdgeRow, ...]

    def node(self, node_id: str) -> NodeRow:
        return next(row for row in self.nodes if row.id == node_id)


_NOT_FROM_THE_PAGE = ("pid", "state", "incarnation")  # the coordinator knows better: a dead process cannot update them
_SAME_NAME = tuple(name for name in NodeRow.__struct_fields__ if name in NodeStatus.__struct_fields__ and name not in _NOT_FROM_THE_PAGE)


def take(plan: Plan, pages: Mapping[str, NodeStatus], dead: Collection[str] = ()) -> Snapshot:
    """Counters only: who knows of processes (pid, state, exit) fills those fields in.

    `dead`: nodes whose process ended before it was done. Their pages have stopped, so their consumers' say what was completed since.
    """
    return Snapshot(
        tuple(_node_row(node, pages[node.id]) for node in plan.nodes),
        tuple(_edge_row(edge, pages[edge.from_node], pages[edge.to_node], edge.from_node in dead) for edge in plan.edges),
    )


def _node_row(plan: NodePlan, page: NodeStatus) -> NodeRow:
    return NodeRow(plan.id, plan.plugin, plan.role, **{name: getattr(page, name) for name in _SAME_NAME})


def _edge_row(plan: EdgePlan, producer: NodeStatus, consumer: NodeStatus, orphaned: bool) -> EdgeRow:
    offered = producer.edges.get(plan.id, NO_COUNTERS)
    taken = consumer.edges.get(plan.id, NO_COUNTERS)
    completed, in_flight = offered.completed, offered.in_flight
    if orphaned:
        # Nobody received the last receipts. What the consumer took and no longer holds is completed.
        completed = max(completed, taken.taken - taken.in_flight - offered.failed)
        in_flight = max(0, offered.sent - completed - offered.dropped - offered.failed)
    return EdgeRow(
        name=plan.name,
        from_node=plan.from_node,
        to_node=plan.to_node,
        policy=plan.policy,
        depth=plan.depth,
        window=plan.window,
        sent=offered.sent,
        taken=taken.taken,
        completed=completed,
        dropped=offered.dropped,
        failed=offered.failed,
        in_flight=in_flight,
        waiting=taken.waiting,
        redelivered=taken.redelivered,
        bytes=max(offered.bytes, taken.bytes),
    )
