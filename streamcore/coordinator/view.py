"""What can be seen of a run at one moment and over the last minute: read from status pages, without asking a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamcore.clock import Clock
from streamcore.coordinator.member import Member
from streamcore.graph.model import Plan
from streamcore.shm.status import Span
from streamcore.supervisor import states
from streamcore.supervisor.segments import Segments
from streamcore.supervisor.usage import core_wait_s, cpu_s
from streamcore.telemetry import snapshot as snapshots
from streamcore.telemetry.account import statement
from streamcore.telemetry.history import WINDOWS_S, History, Window

ACCOUNT_LOOKS = 5


class View:
    """Only while the segments are there. All calls come from the loop's thread."""

    def __init__(self, plan: Callable[[], Plan], members: Mapping[str, Member], segments: Segments, clock: Clock):
        self._plan, self._members, self._segments, self._clock = plan, members, segments, clock
        self._history = History()

    def snapshot(self, distributions: bool = True, cpu: bool = True) -> snapshots.Snapshot:
        """The state and counters of all nodes and edges now, without memory. Cheap: it reads status pages.

        distributions: these as well. cpu: with them, the CPU times of each node, which have to be asked of the kernel.
        """
        pages = {node: reader.read(distributions) for node, reader in self._segments.readers.items()}
        members = self._members.values()
        dead = [member for member in members if member.incarnation and member.process is None and member.state != states.DONE]
        left = {edge: what for member in dead for edge, what in self._segments.left_by(member.plan).items()}
        taken = snapshots.take(self._plan(), pages, left)
        for row in taken.nodes:
            member = self._members[row.id]
            row.state, row.incarnation, row.restarts, row.exit = member.state, member.incarnation, member.restarts, member.exit
            row.pid = member.process.pid if member.process else None
            row.cause, row.paused, row.incidents = member.last_cause, member.paused, len(member.incidents)
            if distributions and cpu:
                row.cpu_s = member.past_cpu_s + ((row.pid and cpu_s(row.pid)) or 0.0)
                row.core_wait_s = member.past_core_wait_s + ((row.pid and core_wait_s(row.pid)) or 0.0)
        return taken

    def note(self) -> tuple[int, snapshots.Snapshot]:
        """Remember how things stand, to tell later what has happened since. Returns the time and what was seen."""
        seen = self._clock.monotonic_ns(), self.snapshot()
        self._history.note(*seen)
        return seen

    def before(self, seconds: float) -> tuple[float, snapshots.Snapshot] | None:
        """How things stood about so long ago, and when that was."""
        return self._history.before(seconds, self._clock.monotonic_ns())

    def windows(self, now: snapshots.Snapshot) -> dict[int, Window | None]:
        """What happened in the last seconds before `now`, for each of WINDOWS_S."""
        now_ns = self._clock.monotonic_ns()
        return {seconds: self._history.window(seconds, now_ns, now) for seconds in WINDOWS_S}

    def spans(self, count: int) -> dict[str, list[Span]]:
        """What the nodes keep of traced packets, by node, the latest first."""
        return {node: reader.spans(count) for node, reader in self._segments.readers.items()}

    def account(self) -> dict[str, Any]:
        """The `account` of protocol.py. A node may be between two counts at the moment of the look: then it is looked at again."""
        for _ in range(ACCOUNT_LOOKS):
            found = statement(self.snapshot(distributions=False))
            if found["balanced"]:
                break
        return found
