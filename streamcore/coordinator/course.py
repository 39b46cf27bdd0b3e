"""The course of a run from start to end, and the ways to end it: orderly, then TERM, then KILL.

STARTING   processes exist, not all are ready: nothing has been processed yet
READY      all were told to begin
DRAINING   sources were told to stop; the rest finishes what is under way within drain_s
KILLING    what is left was told to go: TERM, and KILL after TERM_S
ENDED      no process is left
"""

from __future__ import annotations

import functools
import signal

from streamcore import limits
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.member import Member
from streamcore.coordinator.observer import Observer
from streamcore.supervisor import states
from streamcore.supervisor.exits import signal_name
from streamcore.supervisor.loop import Loop

STARTING, READY, DRAINING, KILLING, ENDED = "STARTING", "READY", "DRAINING", "KILLING", "ENDED"
END_OF_STREAM = "end of stream"
TOGETHER_S = 0.1  # no person presses Ctrl-C twice so fast
STUCK_S = 10.0  # a process that KILL does not end waits inside the kernel, e.g. in a device driver; the run must not wait with it


class Course:
    """`phase` is one of the above. `reason` is the first reason to end, or the end of the stream. `stuck`: give up waiting."""

    def __init__(self, drain_s: float, crew: Crew, loop: Loop, observer: Observer):
        self.phase, self.reason, self.stuck = STARTING, END_OF_STREAM, False
        self._drain_s, self._crew, self._loop, self._observer = drain_s, crew, loop, observer
        self._signalled_ns: int | None = None

    def begin(self) -> None:
        """All nodes are ready."""
        self.phase = READY

    def stop(self, reason: str, now: bool = False) -> None:
        """Ask the run to end: orderly, or at once. Asking again, orderly, changes nothing."""
        before = self.phase
        if before in (STARTING, READY):
            self.reason = reason
        if now:
            self._kill(reason)
        elif before == STARTING:
            self._observer.stopping(reason)
            self._let_go(reason)  # nothing was processed: there is nothing to drain
        elif before == READY:
            self._observer.stopping(reason)
            self._drain()

    def on_signal(self, number: int) -> None:
        """The first asks, the second insists; one alone never kills, not even if the run is ending for another reason.

        `timeout` of the GNU tools signals its child and then the whole group, the child included: what comes together counts once.
        """
        now_ns = self._loop.now_ns()
        if self._signalled_ns is not None and now_ns - self._signalled_ns < TOGETHER_S * 1e9:
            return
        self.stop(signal_name(number), now=self._signalled_ns is not None)
        self._signalled_ns = now_ns

    def _drain(self) -> None:
        """Who is paused goes on, and who waits for its next incarnation gets it: both have packets of others to finish."""
        self.phase = DRAINING
        self._crew.resume(self._crew.members.values())
        self._crew.hurry(self._crew.members.values())
        self._crew.announce_end(self._crew.living())
        self._loop.after(self._drain_s, lambda: self._let_go(f"not drained within {self._drain_s:g} s"))
        for member in self._crew.unfinished():
            if 0 < member.plan.drain_s < self._drain_s:
                self._loop.after(member.plan.drain_s, functools.partial(self._let_one_go, member))

    def _let_one_go(self, member: Member) -> None:
        """A node with a `drain_s` of its own: TERM, then KILL, and the others go on draining."""
        if self.phase != DRAINING or member.process is None or member.state == states.DONE:
            return
        self._observer.warning(f"node '{member.id}' has not drained within its {member.plan.drain_s:g} s; it is told to go")
        self._crew.tell_to_go([member], signal.SIGTERM)
        self._loop.after(limits.TERM_S, lambda: self._crew.tell_to_go([member], signal.SIGKILL) if member.process else None)

    def _let_go(self, reason: str) -> None:
        if self.phase == DRAINING:
            self._observer.killing(reason)
        elif self.phase != STARTING:
            return
        self.phase = KILLING
        self._crew.tell_to_go(self._crew.unfinished(), signal.SIGTERM)
        self._loop.after(limits.TERM_S, lambda: self._kill(reason))

    def _kill(self, reason: str) -> None:
        """At once, whatever the phase."""
        if self.phase == ENDED or not self._crew.unfinished():
            return
        if self.phase != KILLING:
            self._observer.killing(reason)
        self.phase = KILLING
        self._crew.tell_to_go(self._crew.unfinished(), signal.SIGKILL)
        self._loop.after(STUCK_S, self._give_up)

    def _give_up(self) -> None:
        self.stuck = True
