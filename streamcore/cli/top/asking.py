"""Asks a run from a thread of its own, so that keys are answered while a coordinator, or a process whose stacks are wanted, is not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from streamcore.errors import StreamcoreError

Work = Callable[[], Any]
Heard = Callable[[Any], None]
END_S = 0.2  # an answer that takes longer is not waited for at the end


class Asker:
    """Does one piece of work after the other. What came of it, a value or a StreamcoreError, is handed over in `deliver`."""

    def __init__(self, wake: Callable[[], None]):
        self._wake = wake
        self._asked: queue.SimpleQueue[tuple[Work, Heard] | None] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[tuple[Heard, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="asking", daemon=True)
        self._thread.start()

    def ask(self, work: Work, heard: Heard) -> None:
        self._asked.put((work, heard))

    def deliver(self) -> None:
        """Call, in the caller's thread, who waits for what has been answered since the last time. Raises what is no StreamcoreError."""
        while not self._heard.empty():
            heard, what = self._heard.get()
            if isinstance(what, Exception) and not isinstance(what, StreamcoreError):
                raise what
            heard(what)

    def close(self) -> bool:
        """True if the thread has ended. Else it still waits for an answer, and ends with the process."""
        self._asked.put(None)
        self._thread.join(END_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while asked := self._asked.get():
            work, heard = asked
            try:
                what = work()
            except Exception as error:  # whatever it is: it would end this thread, and nobody would hear of it
                what = error
            self._heard.put((heard, what))
            self._wake()
