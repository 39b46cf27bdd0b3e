"""How another thread learns of a run: it asks, the loop's thread looks, between two events. Who asks never waits longer than ANSWER_S."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from streamcore.clock import Clock
from streamcore.supervisor.loop import Loop

ANSWER_S = 1.0  # a turn of the loop takes milliseconds
Found = TypeVar("Found")


class _Question(Generic[Found]):
    def __init__(self, asked_ns: int):
        self.asked_ns = asked_ns
        self.answered = threading.Event()
        self.found: Found | None = None


class Asking(Generic[Found]):
    """`ask` from any thread, everything else in that of the loop."""

    def __init__(self, loop: Loop, clock: Clock, look: Callable[[], Found]):
        self._loop, self._clock, self._look = loop, clock, look
        self._lock = threading.Lock()  # for the two below
        self._open: _Question[Found] | None = None
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.watch(self._fd, self._on_question)

    def ask(self) -> Found | None:
        """None if the loop does not answer in time. Nobody waits a second time for a loop that has not answered the last question yet."""
        with self._lock:
            if self._fd < 0:
                return None
            question = self._open
            if question is None:
                question = self._open = _Question(self._clock.monotonic_ns())
                os.eventfd_write(self._fd, 1)
        question.answered.wait(max(0.0, ANSWER_S - (self._clock.monotonic_ns() - question.asked_ns) / 1e9))
        return question.found

    def _on_question(self) -> None:
        os.eventfd_read(self._fd)
        with self._lock:
            question, self._open = self._open, None
        if question is not None:
            question.found = self._look()
            question.answered.set()

    def close(self) -> None:
        """Who waits now, or asks later, gets None."""
        self._loop.unwatch(self._fd)
        with self._lock:
            os.close(self._fd)
            self._fd = -1
            question, self._open = self._open, None
        if question is not None:
            question.answered.set()
