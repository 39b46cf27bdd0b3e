"""When a node that failed gets another incarnation, and how long it waits for it. Pure: clock and random numbers are handed in.

The delay doubles with every restart within the window, up to a maximum, and is drawn from its upper half: nodes that died of one cause
must not come back in step. A node that was quiet for a whole window begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamcore.graph.model import RestartPlan
from streamcore.supervisor.exits import is_retried

JITTER_SHARE = 0.5  # of the delay that is left to chance


@dataclass(frozen=True)
class Again:
    """Start the next incarnation after `delay_s`."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """The node has failed for good. `why` adds to the cause of its last end; empty if that says it all."""

    why: str = ""


class Restarts:
    """The restarts of one node. `draw` gives a number from 0 to 1."""

    def __init__(self, plan: RestartPlan, draw: Callable[[], float]):
        self.plan, self._draw = plan, draw
        self._at_ns: deque[int] = deque()  # of those within the window, oldest first

    def after(self, kind: str, now_ns: int) -> Again | GiveUp:
        """Decide about an end of class `kind` (supervisor/exits.py); a restart that is granted counts at once."""
        plan = self.plan
        if not is_retried(kind, plan.policy):
            return GiveUp()
        self._forget_old(now_ns)
        if len(self._at_ns) >= plan.max_restarts:
            count = "restart" if plan.max_restarts == 1 else "restarts"
            return GiveUp(f"given up after {plan.max_restarts} {count} within {plan.window_s:g} s")
        delay_s = self._delay_s(len(self._at_ns))
        self._at_ns.append(now_ns)
        return Again(delay_s)

    def _forget_old(self, now_ns: int) -> None:
        oldest_ns = now_ns - round(self.plan.window_s * 1e9)
        while self._at_ns and self._at_ns[0] <= oldest_ns:
            self._at_ns.popleft()

    def _delay_s(self, already: int) -> float:
        plan = self.plan
        # Not 2 ** already: after thousands of restarts that is no float any more.
        delay_s = plan.backoff_s
        for _ in range(already):
            delay_s *= 2
            if delay_s >= plan.backoff_max_s:
                break
        return min(delay_s, plan.backoff_max_s) * (1 - JITTER_SHARE * self._draw())

    def strike_out(self, count: int) -> None:
        """Forget the last restarts: their cause has been removed. See poison.py."""
        for _ in range(min(count, len(self._at_ns))):
            self._at_ns.pop()
