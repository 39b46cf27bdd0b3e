"""What a process prints and logs goes into a file that may not take it: the disk is full, or broken. The process goes on.

sys.stdout and sys.stderr are replaced by streams whose writes never fail. What could not be written is lost; how much that was is noted in
the file itself as soon as it takes anything again. Rejected: keeping it meanwhile, which needs memory for as long as the disk is full.
What a C library or a child process writes goes to the descriptor itself: it meets the error on its own.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable

from streamcore.clock import Clock, log_stamp


class Losses:
    """What the streams of a process could not write."""

    def __init__(self) -> None:
        self._nbytes, self._why, self._torn = 0, "", False
        self._cut: set[int] = set()  # descriptors to which a line is being written whose beginning, or middle, is lost
        self._tell: Callable[[str], None] | None = None
        self._told = False
        self._lock = threading.Lock()

    def tell(self, call: Callable[[str], None]) -> None:
        """Call this with the first cause, once; also if that came before. It must print nothing."""
        self._tell = call
        self._tell_once()

    def write(self, fd: int, data: memoryview) -> None:
        """All of `data`, or as much of it as is taken; the rest of a line that is not whole is lost as well."""
        if fd in self._cut:
            end = bytes(data).find(b"\n") + 1 or len(data)
            self._lose(fd, data[:end])
            data = data[end:]
        if self._nbytes:
            if fd in self._cut or self._put(fd, memoryview(self._note().encode())):
                return self._lose(fd, data)
            self._nbytes = 0
        left = self._put(fd, data)
        self._lose(fd, data[len(data) - left :])

    def _note(self) -> str:
        stamp = log_stamp(Clock.wall_ns())
        return f"{chr(10) if self._torn else ''}{stamp} WARNING {self._nbytes} bytes of this log could not be written: {self._why}\n"

    def _put(self, fd: int, data: memoryview) -> int:
        """How many bytes were not written."""
        try:
            while data:
                taken = os.write(fd, data)
                self._torn = bytes(data[taken - 1 : taken]) != b"\n"
                data = data[taken:]
        except OSError as error:
            self._why = error.strerror or str(error)
        return len(data)

    def _lose(self, fd: int, data: memoryview) -> None:
        if data:
            with self._lock:
                self._nbytes += len(data)
                (self._cut.discard if data[-1] == ord("\n") else self._cut.add)(fd)
            self._tell_once()

    def _tell_once(self) -> None:
        if self._why and not self._told and self._tell is not None:
            self._told = True
            try:
                self._tell(self._why)
            except OSError:  # there is nobody left who could be told
                pass


class _Unfailing(io.BufferedIOBase):
    """Writes to a descriptor at once. The text stream above it gathers a line."""

    def __init__(self, fd: int, losses: Losses):
        self._fd, self._losses = fd, losses

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        self._losses.write(self._fd, view)
        return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)


def keep_printing() -> Losses:
    """From now on writing to sys.stdout and sys.stderr never fails, and each line is in the file as soon as it is complete."""
    losses = Losses()
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        try:
            fd = old.fileno()
        except (AttributeError, OSError, ValueError):  # closed, or what a test has put there
            continue
        old.flush()
        raw = _Unfailing(fd, losses)
        new = io.TextIOWrapper(raw, old.encoding, old.errors, line_buffering=True, write_through=old.write_through)  # type: ignore[type-var]
        setattr(sys, name, new)
    return losses
