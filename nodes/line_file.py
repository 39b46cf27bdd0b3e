"""A file of JSON lines that only ever holds complete lines, whenever its writer is killed.

Whole lines go to the kernel in one write each call, at the end of the file. A line torn all the same (a full disk, a power cut) is cut
off when the file is opened again, or at once if the writer lives.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamcore import ConfigError, PayloadError

TAIL_BYTES = 1 << 20  # how far back `last_lines` looks, and the longest torn line that is looked for in one piece

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


def line_of(record: Any) -> bytes:
    """One JSON line with its end. Raises PayloadError for what is not JSON, NaN included."""
    try:
        return _encode(record).encode("utf-8", "surrogateescape") + b"\n"
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

    def append(self, lines: bytes) -> None:
        """Write complete lines; all of them, or none. Raises OSError, e.g. for a full disk."""
        size = os.fstat(self._fd).st_size
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
