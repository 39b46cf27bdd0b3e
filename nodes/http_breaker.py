"""Whether a server is asked at all: a circuit breaker that tells a server's fault from a packet's. No I/O, no clock of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

NS_PER_S = 1_000_000_000


class Breaker:
    """Closed at first. Open, nothing is sent until `until_ns`; then one packet at a time is, until one gets through.

    A server is away if it cannot be reached, if it says so, or if `packets_max` different packets in a row were not taken. A packet that
    fails alone, however often, never opens it: a server cannot be told from a packet that it stumbles over by that packet alone.
    """

    def __init__(self, packets_max: int, backoff_s: float, backoff_max_s: float, spread: Callable[[], float] = random.random):
        self._packets_max, self._spread = packets_max, spread
        self._backoff_ns, self._backoff_max_ns = round(backoff_s * NS_PER_S), round(backoff_max_s * NS_PER_S)
        self._opened = 0  # times in a row
        self._suspects: dict[str, None] = {}  # packets that were not taken since one was, in order
        self._tried, self._tries = "", 0  # the packet that was not taken last, while the server was away
        self.passed_over = ""  # a packet that lets another one go ahead
        self.until_ns = 0
        self.reason = ""

    @property
    def is_open(self) -> bool:
        return bool(self.reason)

    def admits(self, packet: str, now_ns: int) -> bool:
        """May this packet be sent? While it is open: only when its time is over.

        A packet that got no further in `packets_max` attempts in a row may be what the server stumbles over, so then another one is
        awaited: once, for there may be no other.
        """
        if not self.reason:
            return True
        if now_ns < self.until_ns:
            return False
        if packet == self._tried and self._tries >= self._packets_max and not self.passed_over:
            self.passed_over = packet
            return False
        return True

    def took(self) -> None:
        """The server has decided about a packet, whichever way: it is at work."""
        self._opened, self.reason = 0, ""
        self._suspects.clear()
        self._tried, self._tries, self.passed_over = "", 0, ""

    def away(self, reason: str, now_ns: int, wait_ns: int = 0) -> None:
        """It cannot be reached, or says that it takes nothing, perhaps for how long."""
        if not wait_ns:
            whole_ns = min(self._backoff_max_ns, self._backoff_ns << min(self._opened, 30))
            wait_ns = round(whole_ns * (0.5 + self._spread() / 2))  # boxes that lost it together must not return together
        self._opened += 1
        self.reason, self.until_ns = reason, max(self.until_ns, now_ns + wait_ns)

    def failed(self, packet: str, reason: str, now_ns: int, wait_ns: int = 0) -> bool:
        """It did not take this packet, but may later. True if that is no fault of the packet's: the server is away."""
        self._suspects.pop(packet, None)
        self._suspects[packet] = None
        if len(self._suspects) > self._packets_max:
            del self._suspects[next(iter(self._suspects))]
        is_away = len(self._suspects) >= self._packets_max
        if is_away:
            self._tries = 1 if packet != self._tried or self.passed_over else self._tries + 1
            self._tried, self.passed_over = packet, ""
        if is_away or wait_ns:
            self.away(reason, now_ns, wait_ns)
        elif self.reason:
            self.reason, self._opened = "", 0  # it answers again, if badly
        return is_away
