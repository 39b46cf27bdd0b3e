"""A node as its run knows it: state, the process it has now, and how its last one came to its end."""

from __future__ import annotations

import dataclasses
import random
import signal

from streamcore import limits
from streamcore.coordinator.observer import Failure
from streamcore.graph.model import NodePlan
from streamcore.node.channel import Failed
from streamcore.supervisor import exits, states
from streamcore.supervisor.hang import Clocks
from streamcore.supervisor.logtail import last_lines
from streamcore.supervisor.loop import Timer
from streamcore.supervisor.oom import oom_kills
from streamcore.supervisor.poison import Poison
from streamcore.supervisor.process import Process
from streamcore.supervisor.restarts import Restarts
from streamcore.supervisor.rss import RssWatch

INCIDENTS_KEPT = 50  # named in the report; the files of older ones stay where they are


class Member:
    """What belongs to the node lasts as long as the run; `begin` forgets what belonged to its last process.

    failure: set as soon as the cause of an end is known; for good once the state is FAILED. told_to_go: a signal was sent by this
    coordinator, so a death by signal is no news. asked: why the process was asked to end so that a new one takes over; "" if it was not.
    deadline: the one that runs at present. next_plan: what the next incarnation is to be instead of `plan`; None if that stays.
    """

    def __init__(self, plan: NodePlan, log_path: str):
        self.plan, self.id = plan, plan.id
        self.state = states.PLANNED
        self.incarnation = 0
        self.restarts = 0
        self.process: Process | None = None
        self.pid = -1  # of the present or the last process
        self.exit = ""
        self.past_cpu_s = self.past_core_wait_s = 0.0  # of the processes that have ended
        self.status: int | None = None
        self.failure: Failure | None = None
        self.last_cause = ""
        self.told_to_go = False
        self.asked = ""
        self.paused = False
        self.incidents: list[str] = []
        self.deadline: Timer | None = None
        self.next_plan: NodePlan | None = None
        self.poison = Poison(plan.poison_limit)
        self._take(plan)
        self.log_path = log_path
        self._oom_before: int | None = None

    def _take(self, plan: NodePlan) -> None:
        """What it was before does not count against it; the packets that killed it stay where they are."""
        self.plan = plan
        self.history = Restarts(plan.restart, random.random)
        self.poison.limit = plan.poison_limit
        self.clocks = Clocks(plan)
        self.memory = RssWatch(plan.rss_bytes_max)

    def begin(self) -> None:
        """A new incarnation is about to start."""
        if self.next_plan is not None:
            self._take(self.next_plan)
            self.next_plan = None
        self.incarnation += 1
        self.restarts = self.incarnation - 1
        self.failure, self.status, self.told_to_go, self.asked = None, None, False, ""
        self._oom_before = oom_kills()

    def step(self, event: str) -> str:
        """Enter the state that follows. Returns the one before; raises InvalidTransition."""
        before, self.state = self.state, states.step(self.state, event, self.id, self.incarnation)
        return before

    def blame(self, where: str, cause: str, fault: str, traceback: str = "", kind: str = "") -> None:
        """Note why it fails. The first cause counts: what comes after it follows from it."""
        if self.failure is None:
            kind = kind or exits.kind_of(where, cause, None, stops_on_error=self._stops_on_error)
            self.failure = Failure(self.id, self.plan.plugin, where, cause, fault, traceback=traceback, log_path=self.log_path, kind=kind)
            self.last_cause = cause

    @property
    def _stops_on_error(self) -> bool:
        return self.plan.on_error == "stop" and self.plan.role != "source"

    def blame_report(self, report: Failed) -> None:
        # A node that was told to go may say that it could not finish. That is what was asked for.
        if not self.told_to_go:
            self.blame(report.where, report.cause, report.fault, report.traceback)

    def note_exit(self, status: int) -> None:
        """Its process was reaped: put exit and log tail to the failure; an unexpected end is one by itself."""
        grown = self._oom_kills_since()
        self.status, self.exit = status, exits.describe_exit(status, self.told_to_go, grown)
        if self.state != states.DONE and not self.told_to_go and not self.ended_as_asked:
            cause = self.exit if status else "exited with 0 before it said that it is done"
            kind = exits.kind_of("exit", cause, status, stops_on_error=False, oom_kills=grown)
            self.blame("exit", cause, "box" if kind == exits.MEMORY else "plugin", kind=kind)
        self.complete_failure()

    @property
    def ended_as_asked(self) -> bool:
        """It ended because of our TERM and not, say, of a crash in the packet that it was to finish first."""
        return bool(self.asked) and self.failure is None and self.status in (exits.EXIT_TERMINATED, -signal.SIGTERM)

    def _oom_kills_since(self) -> int | None:
        now = oom_kills()
        return None if now is None or self._oom_before is None else now - self._oom_before

    def complete_failure(self, because: str = "") -> None:
        """Add to the failure what is known at the end; `because` says why there is no further try."""
        if self.failure is not None:
            cause = f"{self.failure.cause}; {because}" if because else self.failure.cause
            tail = last_lines(self.log_path, limits.LOG_TAIL_LINES)
            self.failure = dataclasses.replace(self.failure, cause=cause, exit=self.exit, log_tail=tail)

    def add_incident(self, path: str) -> None:
        if path and path not in self.incidents:
            self.incidents = [*self.incidents, path][-INCIDENTS_KEPT:]
        if self.failure is not None:
            self.failure = dataclasses.replace(self.failure, incident=path)

    def set_deadline(self, timer: Timer | None) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = timer
