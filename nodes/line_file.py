"""A file of JSON lines that holds complete lines only, whenever its writer is killed.

One write() per line is not enough for that: the kernel looks for a SIGKILL between the pages of a write, and a line that crosses a page's
end can stay torn (measured on ext4: 3 of 60 kills of a process that writes 400-byte lines flat out). So a line that fits a page never
crosses one: the line before it is filled up to the page's end with blanks, which JSON allows there. What is torn all the same (lines
longer than a page, a power cut) is cut off when the file is opened again; what a full disk tears is taken back at once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streamcore import ConfigError, PayloadError

PAGE_BYTES = 4096  # the smallest page that Linux uses: larger ones only leave more room
FORGET_AFTER = 64
TAIL_BYTES = 1 << 20  # how far back `last_lines` looks, and the longest torn line that is looked for in one piece

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


def line_of(record: Any) -> bytes:
    """One JSON line, without its end. Raises PayloadError for what is not JSON, NaN included."""
    try:
        return _encode(record).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"not to be written as a JSON line: {error}") from None


class LineFile:
    """Appends lines to `path`; one process at a time may hold it.

    `cut_bytes` tells how much of a torn last line was cut off when it was opened.

    Raises:
      ConfigError: the file cannot be made or written, or another process writes it.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"file {path}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise ConfigError(f"file {path}: another process is writing it") from None
        self.cut_bytes = self._cut_torn_line()
        self._longest = 0  # of the lines so far, slowly forgotten

    def _cut_torn_line(self) -> int:
        size = end = os.fstat(self._fd).st_size
        while end:
            start = max(0, end - TAIL_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            if os.pread(self._fd, 1, end) != b"{":  # somebody else's file: nothing of it is cut
                os.close(self._fd)
                raise ConfigError(f"file {self.path}: its last line is neither complete nor JSON, expected a file of JSON lines")
            os.ftruncate(self._fd, end)
        return size - end

    def last_lines(self) -> Iterator[bytes]:
        """The last lines, as far as TAIL_BYTES reach back, oldest first."""
        size = os.fstat(self._fd).st_size
        start = max(0, size - TAIL_BYTES)
        lines = os.pread(self._fd, size - start, start).split(b"\n")
        yield from (line for line in (lines if start == 0 else lines[1:]) if line)

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines, given without their ends; all of them, or none. Raises OSError, e.g. for a full disk."""
        size = end = os.fstat(self._fd).st_size
        try:
            for line in lines:
                left = memoryview(line + self._ending(len(line) + 1, end))
                end += len(left)
                while left:
                    left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def _ending(self, nbytes: int, start: int) -> bytes:
        """The newline of a line of `nbytes` at `start`, with blanks before it if the next line would not fit the rest of the page."""
        if nbytes <= PAGE_BYTES:
            self._longest = max(nbytes, self._longest - self._longest // FORGET_AFTER)
        rest = -(start + nbytes) % PAGE_BYTES
        return b" " * rest + b"\n" if rest < self._longest * 5 // 4 else b"\n"  # the next may be a little longer

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
