"""The coordinator's event loop: descriptors, deadlines and signals in one thread. It sleeps until one of them has something to say."""

from __future__ import annotations

import heapq
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from itertools import count
from types import FrameType
from typing import Any

from streamcore.clock import Clock

Callback = Callable[[], None]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = (*STOP_SIGNALS, signal.SIGCHLD)


class Timer:
    """A deadline that can be called off."""

    __slots__ = ("callback", "deadline_ns")

    def __init__(self, deadline_ns: int, callback: Callback):
        self.deadline_ns, self.callback = deadline_ns, callback

    def cancel(self) -> None:
        self.callback = _nothing


def _nothing() -> None:
    pass


class Loop:
    """Waits for readable descriptors and due deadlines, and calls what was registered for them."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()  # deadlines at the same nanosecond are met in the order of their registration

    def watch(self, fd: int, callback: Callback) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def now_ns(self) -> int:
        return self._clock.monotonic_ns()

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, `seconds` from now; 0 means on the next turn."""
        timer = Timer(self._clock.monotonic_ns() + round(seconds * 1e9), callback)
        heapq.heappush(self._timers, (timer.deadline_ns, next(self._order), timer))
        return timer

    def turn(self) -> None:
        """Sleep until something is due, then handle all that is. Callbacks may add and remove descriptors and deadlines."""
        for key, _ in self._selector.select(self._timeout_s()):
            # An earlier callback of this turn may have closed this descriptor, or given its number to another one.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now_ns = self._clock.monotonic_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            heapq.heappop(self._timers)[2].callback()

    def _timeout_s(self) -> float | None:
        while self._timers and self._timers[0][2].callback is _nothing:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, (self._timers[0][0] - self._clock.monotonic_ns()) / 1e9)

    def close(self) -> None:
        self._timers.clear()
        self._selector.close()


class Signals:
    """Turns signals into bytes on a descriptor, so that a handler never runs in the middle of anything. Main thread only."""

    def __init__(self, numbers: Iterable[signal.Signals] = SIGNALS):
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self.fd = self._receiver.fileno()
        self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._before: dict[int, Any] = {number: signal.signal(number, _ignore) for number in numbers}

    def read(self) -> list[int]:
        """The numbers of the signals that came since the last call."""
        try:
            return list(self._receiver.recv(4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Put back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        self._receiver.close()
        self._sender.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """The byte on the wake-up descriptor says it all; SIG_IGN would not write one."""
