"""The end of a log file, however long the file is."""

from __future__ import annotations

import os

TAIL_BYTES_MAX = 64 * 1024  # what is read at most: a node that printed one endless line costs this much and no more


def last_lines(path: str, count: int) -> tuple[str, ...]:
    """At most `count` last lines without their newlines, undecodable bytes replaced; empty if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ()
    with open(fd, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - TAIL_BYTES_MAX))
        lines = log.read(TAIL_BYTES_MAX).decode("utf-8", "replace").splitlines()
    return tuple(lines[-count:]) if count > 0 else ()
