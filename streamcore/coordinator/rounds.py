"""The coordinator's round: at most once a second it looks at what sends no event, namely hangs and memory; seldom while nothing moves.

Hangs are found on time all the same: the clocks (supervisor/hang.py) know when they run out, and the next round comes at the earliest of
these times. What has begun since the last round cannot have run out before `progress_s` has passed, so an idle run needs no more rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streamcore.clock import Clock
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.member import Member
from streamcore.coordinator.memory_watch import MemoryWatch
from streamcore.coordinator.observer import Observer
from streamcore.shm.status import NodeStatus, StatusReader
from streamcore.supervisor import hang, states
from streamcore.supervisor.loop import Loop
from streamcore.supervisor.usage import Usage, is_stopped

ROUND_S = 1.0  # while packets flow, or a memory limit is watched: as often as an idle process may wake
IDLE_ROUND_S = 5.0
LATE_S = 2.0  # a round that comes so late says that the box stood still: nobody is blamed for that time
MEASURE_S = 10.0  # between two readings of everybody's memory, for its growth

RESTART = "restart"  # of on_exceed
_WATCHED = (states.STARTING, states.READY, states.DRAINING)
_UNSETTLED = (states.STARTING, states.KILLING, states.EXITED, states.BACKOFF)  # soon it is at work again


class Rounds:
    """`start` once the processes are being made."""

    def __init__(
        self,
        crew: Crew,
        readers: Mapping[str, StatusReader],
        loop: Loop,
        clock: Clock,
        usage: Usage,
        observer: Observer,
        restart_for_memory: Callable[[Member, str], None],
    ):
        self._restart_for_memory = restart_for_memory
        self._crew, self._readers, self._loop, self._clock, self._usage, self._observer = crew, readers, loop, clock, usage, observer
        self._limited = any(member.plan.rss_bytes_max for member in crew.members.values())
        self._due_ns, self._measure_ns = 0, 0  # memory is read in the first round too, so that short runs have a reading
        # What begins after a round cannot be due before the shortest progress_s has passed.
        self._idle_ns = round(1e9 * min([IDLE_ROUND_S, *(member.plan.progress_s or IDLE_ROUND_S for member in crew.members.values())]))
        self.pages: dict[str, NodeStatus] = {}  # as they were read in this round; of a node without a process, as they were left
        self.moved = False  # in this round something has
        self._stalled: set[str] = set()
        self._moved_before: dict[str, tuple[int, int]] = {}
        self._more: list[Callable[[], None]] = []

    def also(self, look: Callable[[], None], *, often: bool) -> None:
        """Call this in every round. Often: once a second even if nothing moves."""
        self._limited = self._limited or often
        self._more.append(look)

    def start(self) -> None:
        self._again(ROUND_S)

    def _again(self, seconds: float) -> None:
        self._due_ns = self._clock.monotonic_ns() + round(seconds * 1e9)
        self._loop.after(seconds, self._round)

    def _round(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._due_ns > LATE_S * 1e9:
            for member in self._crew.members.values():
                member.clocks.excuse(now_ns)
        moved, due_ns = False, now_ns + self._idle_ns
        for member in self._crew.members.values():
            moved = member.state in _UNSETTLED or moved
            if member.process is None or member.state not in _WATCHED:
                continue
            page = self.pages[member.id] = self._readers[member.id].read()
            moved = self._note_move(member, page) or moved
            due_ns = min(due_ns, self._look_at_clocks(member, page, now_ns))
        self.moved = moved
        if self._limited or now_ns >= self._measure_ns:
            self._look_at_memory(now_ns)
        for look in self._more:
            look()
        self._again(self._pause_s(moved, due_ns - now_ns))

    def _pause_s(self, moved: bool, until_due_ns: int) -> float:
        """Sooner than a second only if a clock runs out by then, which no clock of an idle node does."""
        usual_s = ROUND_S if moved or self._limited else IDLE_ROUND_S
        due_s = max(0.0, until_due_ns / 1e9)
        return min(usual_s, due_s if moved else max(ROUND_S, due_s))

    def _note_move(self, member: Member, page: NodeStatus) -> bool:
        """Is it at work, or has it turned since the last round. A source that waits for its time, or for room, is not at work."""
        seen = (page.incarnation, page.loop_count)
        before, self._moved_before[member.id] = self._moved_before.get(member.id), seen
        return (page.busy_since_ns != 0 and not page.waits_for_credit) or seen != before

    def _look_at_clocks(self, member: Member, page: NodeStatus, now_ns: int) -> int:
        """When to look again at the latest. A node that is hung is killed here."""
        if member.process is None:
            return now_ns + self._idle_ns
        if member.state == states.STARTING:
            stopped = is_stopped(member.process.pid)
            why, due_ns = member.clocks.look_at_start(now_ns, stopped=stopped)
        elif member.paused:
            return now_ns + self._idle_ns
        else:
            stopped = hang.silent(page, now_ns) and is_stopped(member.process.pid)
            why, due_ns = member.clocks.look(page, now_ns, stopped=stopped)
            self._tell_of_stall(member, "" if why else member.clocks.stalled)
        if why:
            self._crew.kill_hung(member, why, stopped=stopped)
        return due_ns

    def _tell_of_stall(self, member: Member, why: str) -> None:
        """Once when it begins, and once when it is over."""
        if why and member.id not in self._stalled:
            self._stalled.add(member.id)
            self._observer.stalled(member.id, why)
        elif not why and member.id in self._stalled:
            self._stalled.remove(member.id)
            if member.clocks.stalled == "":
                self._observer.moving(member.id)

    # --- memory

    def _look_at_memory(self, now_ns: int) -> None:
        """Of everybody now and then, to see growth; of those with a limit in every round, their children included."""
        everybody = now_ns >= self._measure_ns
        if everybody:
            self._measure_ns = now_ns + round(MEASURE_S * 1e9)
        for member in self._crew.members.values():
            if member.process is None or not (everybody or member.plan.rss_bytes_max):
                continue
            rss_bytes = self._usage.rss_with_children(member.process.pid)
            if rss_bytes is not None:
                crossed = member.memory.note(member.incarnation, now_ns, rss_bytes)
                if member.memory.above and member.state in (states.READY, states.DRAINING):
                    self._on_exceeded(member, crossed, now_ns)

    def _on_exceeded(self, member: Member, crossed: bool, now_ns: int) -> None:
        what = str(member.memory)
        if member.plan.on_exceed == RESTART and not member.asked and member.memory.restart_helps(now_ns):
            member.memory.note_restart(now_ns)
            self._observer.warning(f"node '{member.id}': {what}; it is restarted between two packets")
            self._restart_for_memory(member, what)
        elif crossed:
            self._observer.warning(f"node '{member.id}': {what}")


class DirectoryWatch:
    """Says once that the run directory is gone. Sockets that are open go on; nobody can connect to one any more."""

    def __init__(self, path: str, in_place: Callable[[], bool], observer: Observer):
        self._path, self._in_place, self._observer = path, in_place, observer
        self._said = False

    def look(self) -> None:
        if not self._said and not self._in_place():
            self._said = True
            self._observer.warning(
                f"run directory {self._path} was removed: `ps`, `logs` and `down` cannot reach this run, and neither can a node that was "
                "still starting; end the run with Ctrl-C or SIGTERM and start it again"
            )


def watch_rings(
    watch: MemoryWatch, allocated: Callable[[], dict[str, int]], observer: Observer, on_limit: Callable[[str, str], None]
) -> None:
    """One look at what the rings occupy. `on_limit` gets the node whose ring is largest, and a sentence."""
    found = allocated()
    warning, error = watch.look(found)
    if warning:
        observer.warning(warning)
    if error:
        on_limit(watch.culprit(found), error)
