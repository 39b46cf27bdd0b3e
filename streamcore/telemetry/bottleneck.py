"""One sentence that names the node that holds the graph back. Pure."""

from __future__ import annotations

from streamcore.telemetry.snapshot import NodeRow, Snapshot

BUSY_SHARE = 0.7  # a node that works this much of the time has no room for more; below, the graph waits for its sources
HELD_SHARE = 0.1  # a wait for credits below this share is the ordinary jitter of a pipeline


def bottleneck(snapshot: Snapshot, duration_ns: int) -> str:
    """Judged from the shares of `duration_ns` that nodes worked and waited for credits.

    The node that holds the others back works most of the time, and what feeds it waits for credits. A consumer that takes long for
    each packet but is seldom asked is not it.
    """
    rows = [row for row in snapshot.nodes if row.consumed or row.produced]
    if not rows or duration_ns <= 0:
        return "No packet flowed."
    busiest = max(rows, key=lambda row: row.work_ns)
    share = min(1.0, busiest.work_ns / duration_ns)
    held = _held_by(snapshot, busiest, duration_ns)
    packets = busiest.consumed or busiest.produced
    work = f"it works {share:.0%} of the time, {busiest.work_ns / packets / 1e6:.3g} ms per packet"
    if share >= BUSY_SHARE or held:
        waiting = ", ".join(f"{row.id} waits for it {min(1.0, row.credit_wait_ns / duration_ns):.0%}" for row in held)
        return f"'{busiest.id}' holds the graph back: {work}" + (f"; {waiting}." if waiting else ".")
    return f"No node holds the graph back: the busiest is '{busiest.id}', {work}."


def _held_by(snapshot: Snapshot, slow: NodeRow, duration_ns: int) -> list[NodeRow]:
    """Nodes that feed it, however far upstream, and spent a real share of their time without credit."""
    feeders: set[str] = set()
    reached = [slow.id]
    while reached:
        consumer = reached.pop()
        new = {edge.from_node for edge in snapshot.edges if edge.to_node == consumer} - feeders
        feeders |= new
        reached.extend(new)
    return [row for row in snapshot.nodes if row.id in feeders and row.id != slow.id and row.credit_wait_ns >= HELD_SHARE * duration_ns]
