"""The bytes of one log: where they begin behind what was dropped at its front, and its lines, forward or from near the end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 256 * 1024  # read at a time


class Extent(NamedTuple):
    """The bytes of a log that are there: `begin` is behind what was dropped, and may be in the middle of a line."""

    begin: int
    end: int


def extent(fd: int) -> Extent:
    end = os.fstat(fd).st_size
    try:
        return Extent(os.lseek(fd, 0, os.SEEK_DATA), end)
    except OSError as error:  # ENXIO: empty. Else a file system that knows no holes
        return Extent(end if error.errno == errno.ENXIO else 0, end)


def begin_of(path: Path) -> int:
    try:
        with open(path, "rb") as log:
            return extent(log.fileno()).begin
    except FileNotFoundError:
        return 0


def lines(path: Path, begin: int, end: int) -> Iterator[str]:
    """The lines between two offsets, as far as they are there. If `begin` is not 0: from the first that begins behind it."""
    try:
        with open(path, "rb") as log:
            there = extent(log.fileno())
            at, end = max(begin, there.begin), min(end, there.end)
            whole, rest = at == 0, b""
            while at < end and (raw := os.pread(log.fileno(), min(BLOCK_BYTES, end - at), at)):
                at += len(raw)
                head, newline, rest = (rest + raw).rpartition(b"\n")
                if newline:
                    found = text_lines(head)
                    yield from found if whole else found[1:]
                    whole = True
                elif len(rest) >= BLOCK_BYTES:  # a line without end is given in pieces
                    yield from text_lines(rest) if whole else ()
                    rest = b""
            yield from text_lines(rest) if whole else ()
    except FileNotFoundError:  # not started yet
        return


def text_lines(raw: bytes) -> list[str]:
    """Undecodable bytes replaced; what was dropped while it was read is zeros, and left out."""
    return raw.lstrip(b"\0").decode("utf-8", "replace").splitlines()
