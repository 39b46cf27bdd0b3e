"""All shared memory of a run: made, formatted and held by the coordinator from before the first spawn until the run ends."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator

from streamcore.errors import RunError
from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.graph.needs import descriptors
from streamcore.shm import entries, ring, segment, status
from streamcore.telemetry.snapshot import Left
from streamcore.wire.messages import LOST, MARK_BITS, OK, REFUSED


class Segments:
    """One memfd per ring (a read-write and a read-only descriptor) and one status page per node. `close()` gives all of it back."""

    def __init__(self, plan: Plan, run_id: str):
        """Raises RunError if the box has not enough descriptors, OSError if it has no memory."""
        _allow_descriptors(descriptors(plan))
        self._plan = plan
        self._writable: dict[int, int] = {}
        self._readonly: dict[int, int] = {}
        self._status: dict[str, int] = {}
        self.readers: dict[str, status.StatusReader] = {}
        try:
            for row in plan.rings:
                fd = self._writable[row.id] = segment.create(row.port, ring.ring_bytes(row))
                ring.format_ring(fd, row, run_id)
                self._readonly[row.id] = segment.reopen_readonly(fd)
            for node in plan.nodes:
                marks = [(edge, plan.rings[plan.edges[edge].ring].entry_count) for edge in node.in_edges]
                edges = [*marks, *((edge, 0) for edge in node.out_edges)]
                fd = self._status[node.id] = segment.create(f"{node.id}.status", status.status_bytes(edges))
                status.format_status(fd, edges)
                self.readers[node.id] = status.StatusReader(fd)
        except BaseException:
            self.close()
            raise

    def rings_of(self, node: NodePlan) -> dict[int, int]:
        """Ring to descriptor: its own for writing, the others that may reach it for reading only."""
        own = {ring_id: self._writable[ring_id] for ring_id in node.outputs.values()}
        return {ring_id: self._readonly[ring_id] for ring_id in node.reads} | own

    def status_of(self, node: NodePlan) -> int:
        return self._status[node.id]

    def left_by(self, node: NodePlan) -> dict[int, Left]:
        """What a dead node has left in its rings, by edge. Exact: nobody else writes them, and consumers mark what they have processed."""
        return {edge: self._left_on(self._plan.edges[edge]) for edge in node.out_edges}

    def _left_on(self, edge: EdgePlan) -> Left:
        counts = [0, 0, 0]
        for _, outcome in self._marked(edge):
            counts[0 if not OK <= outcome < LOST else 2 if outcome >= REFUSED else 1] += 1
        return Left(*counts)

    def _marked(self, edge: EdgePlan) -> Iterator[tuple[int, int]]:
        """(sequence, outcome that its consumer has marked, or -1) of each packet that is pending on an edge, in order."""
        marks = self.readers[edge.to_node].marks(edge.id)
        for row in entries.pending_on(self._writable[edge.ring], self._plan.rings[edge.ring], edge.bit):
            outcome = marks[row.entry] - (row.sequence + 1 << MARK_BITS)
            yield row.sequence, outcome if OK <= outcome <= LOST else -1  # a page may hold anything

    def not_well(self, edge: EdgePlan) -> dict[int, list[int]]:
        """Outcome to sequences: what an edge's consumer, which has ended, has completed otherwise than OK and may not have reported."""
        found: dict[int, list[int]] = {}
        for sequence, outcome in self._marked(edge):
            if outcome > OK:
                found.setdefault(outcome, []).append(sequence)
        return found

    def lost_slots(self, node: NodePlan, gone: Iterable[NodePlan]) -> dict[int, tuple[int, ...]]:
        """Slots of this node's rings, by ring, that what others have left for good still shows: forwarded, and not completed behind them.

        Who lived when the other one went has put them aside (see Outlet.on_gone), but only in its own memory.
        """
        own, found = set(node.outputs.values()), dict[int, set[int]]()
        for edge in (self._plan.edges[number] for other in gone for number in other.out_edges):
            for row in entries.pending_on(self._writable[edge.ring], self._plan.rings[edge.ring], edge.bit):
                if row.ref.ring in own:
                    found.setdefault(row.ref.ring, set()).add(row.ref.slot)
        return {ring_id: tuple(sorted(slots)) for ring_id, slots in found.items()}

    def allocated(self) -> dict[str, int]:
        """Port to bytes of physical memory behind its ring now."""
        return {row.port: segment.allocated_bytes(self._writable[row.id]) for row in self._plan.rings}

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()
        for fds in (self._writable, self._readonly, self._status):
            for fd in fds.values():
                os.close(fd)
            fds.clear()
        self.readers.clear()


def _allow_descriptors(needed: int) -> None:
    """Raise the soft limit if it is too low for the plan; a graph of 300 nodes passes the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise RunError(f"open files: this graph needs {needed}, found a limit of {hard} (ulimit -Hn); raise it or split the graph")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
