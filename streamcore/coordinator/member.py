"""A node as its run knows it: state, the process it has now, and how it came to its end."""

from __future__ import annotations

import dataclasses

from streamcore import limits
from streamcore.coordinator.observer import Failure
from streamcore.graph.model import NodePlan
from streamcore.node.channel import Failed
from streamcore.supervisor import states
from streamcore.supervisor.exits import describe_exit
from streamcore.supervisor.logtail import last_lines
from streamcore.supervisor.loop import Timer
from streamcore.supervisor.process import Process


class Member:
    """`failure` is set as soon as the cause is known, and counts once the state is FAILED. `deadline` is the one that runs at present."""

    def __init__(self, plan: NodePlan, log_path: str):
        self.plan, self.id = plan, plan.id
        self.state = states.PLANNED
        self.incarnation = 0
        self.restarts = 0
        self.process: Process | None = None
        self.exit = ""
        self.failure: Failure | None = None
        self.told_to_go = False  # by this coordinator, by a signal: its death is then no news
        self.deadline: Timer | None = None
        self._log_path = log_path

    def step(self, event: str) -> str:
        """Enter the state that follows. Returns the one before; raises InvalidTransition."""
        before, self.state = self.state, states.step(self.state, event, self.id, self.incarnation)
        return before

    def blame(self, where: str, cause: str, fault: str, traceback: str = "") -> None:
        """Note why it fails. The first cause counts: what comes after it follows from it."""
        if self.failure is None:
            self.failure = Failure(self.id, self.plan.plugin, where, cause, fault, traceback=traceback, log_path=self._log_path)

    def blame_report(self, report: Failed) -> None:
        # A node that was told to go may say that it could not finish. That is what was asked for.
        if not self.told_to_go:
            self.blame(report.where, report.cause, report.fault, report.traceback)

    def note_exit(self, status: int) -> None:
        """Its process was reaped: put exit and log tail to the failure; an unexpected end is one by itself."""
        self.exit = describe_exit(status, self.told_to_go)
        if self.state != states.DONE and not self.told_to_go:
            self.blame("exit", self.exit if status else "exited with 0 before it said that it is done", "plugin")
        self.complete_failure()

    def complete_failure(self) -> None:
        if self.failure is not None:
            self.failure = dataclasses.replace(self.failure, exit=self.exit, log_tail=last_lines(self._log_path, limits.LOG_TAIL_LINES))

    def set_deadline(self, timer: Timer | None) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = timer
