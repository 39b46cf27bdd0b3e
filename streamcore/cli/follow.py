"""Reading the logs of nodes while they are written: new lines since the last look, and which of them a person should see."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from streamcore.clock import iso_utc

READ_BYTES_MAX = 256 * 1024  # per node and look: a node that prints without end may not fill the coordinator's memory
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z) (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
SHOWN_LEVELS = ("WARNING", "ERROR", "CRITICAL")
CONTEXT_LINES = 50  # read beyond what is asked for, to find the time of prints
TRACEBACK = "Traceback (most recent call last):"
STACK_LINE = re.compile(r'(File ".*", line \d+,? in |(Current thread|Thread) 0x[0-9a-f]+ |Extension modules: )')
CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


class LogLine(NamedTuple):
    """One line of a node's log. `stamp` and `level` are empty for what the node printed by itself."""

    node: str
    text: str
    stamp: str = ""
    level: str = ""

    @classmethod
    def parse(cls, node: str, line: str) -> LogLine:
        match = LINE.fullmatch(line)
        return cls(node, match[3], match[1], match[2]) if match else cls(node, line)

    def __str__(self) -> str:
        return f"{self.stamp} {self.level} {self.text}" if self.stamp else self.text


class Follower:
    """Follows NODE.log of each of these nodes in a directory. Every `poll` gives the lines that were completed since the one before."""

    def __init__(self, directory: Path, nodes: Iterable[str], from_end: bool = False):
        self._paths = {node: directory / f"{node}.log" for node in nodes}
        self._offsets = dict.fromkeys(self._paths, 0)
        if from_end:
            for node in self._paths:
                self.skip(node)

    def skip(self, node: str) -> None:
        """Leave out what the node has logged so far."""
        self._offsets[node] = _size(self._paths[node])

    def poll(self, *, last: bool = False) -> list[LogLine]:
        """New lines, node by node. With `last`, also a line that was never finished."""
        return [LogLine.parse(node, line) for node, path in self._paths.items() for line in self._new_lines(node, path, last)]

    def _new_lines(self, node: str, path: Path, last: bool) -> list[str]:
        offset, size = self._offsets[node], _size(path)
        if size <= offset:
            return []
        skipped = max(0, size - offset - READ_BYTES_MAX)
        with open(path, "rb") as log:
            log.seek(offset + skipped)
            raw = log.read(READ_BYTES_MAX)
        # A line is complete with its newline, or when it fills the whole read.
        end = len(raw) if last or (len(raw) == READ_BYTES_MAX and b"\n" not in raw) else raw.rfind(b"\n") + 1
        self._offsets[node] = offset + skipped + end
        lines = raw[:end].decode("utf-8", "replace").splitlines()
        return [f"... {skipped} bytes left out; they are in {path}", *lines[1:]] if skipped else lines


class Sieve:
    """Lets through what a person should see while a run is up: warnings and worse, and what nodes print, but no stacks.

    A stack is in the log for whoever needs it; its cause is in the line before or after it. `levels` None lets every level through.
    """

    def __init__(self, levels: Sequence[str] | None = SHOWN_LEVELS) -> None:
        self._levels = levels
        self._indents: dict[str, int] = {}  # of the tracebacks that nodes are in the middle of

    def sift(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            if line.stamp:
                self._indents.pop(line.node, None)
                if self._levels is None or line.level in self._levels:
                    yield line
            elif line.text.strip() and not self._is_stack(line):
                yield line

    def _is_stack(self, line: LogLine) -> bool:
        words = line.text.lstrip()
        if words.startswith(TRACEBACK):
            self._indents[line.node] = len(line.text) - len(words)
            return True
        indent = self._indents.get(line.node)
        if indent is None:
            return words.startswith(CHAINED) or STACK_LINE.match(words) is not None
        if indent and not line.text.startswith(" " * indent):
            del self._indents[line.node]  # a traceback in a log record is indented as a whole, and this is not
            return False
        if not indent and words == line.text:
            del self._indents[line.node]  # the exception itself, which ends a bare traceback
        return True


def last_lines(directory: Path, nodes: Iterable[str], count: int) -> list[LogLine]:
    """The last `count` lines over all these logs, in the order of time as far as it is known.

    What a node printed goes with the line that it logged before. If it has logged nothing lately, the time of its last print counts.
    """
    dated: list[tuple[str, LogLine]] = []
    for node in nodes:
        path = directory / f"{node}.log"
        lines = [LogLine.parse(node, text) for text in _tail(path, count + CONTEXT_LINES)]
        stamp = next((line.stamp for line in lines if line.stamp), "") or _last_written(path)
        for line in lines:
            stamp = line.stamp or stamp
            dated.append((stamp, line))
    dated.sort(key=lambda entry: entry[0])  # stable, so that the lines of one node keep their order
    return [line for _, line in dated[-count:]] if count else []


def log_end(path: Path, node: str, count: int, *, stacks: bool) -> list[LogLine]:
    """The last `count` lines of one log; without stacks, which may be long, the last lines before and after them."""
    tail = [LogLine.parse(node, line) for line in _tail(path, count if stacks else count * 10)]
    return tail if stacks else list(Sieve(levels=None).sift(tail))[-count:]


def _last_written(path: Path) -> str:
    return iso_utc(path.stat().st_mtime_ns) if path.exists() else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # not started yet


def _tail(path: Path, count: int) -> list[str]:
    """The last lines of a file, read backwards in blocks until there are enough; none if there is no such file."""
    if not count or not _size(path):
        return []
    with open(path, "rb") as log:
        position, raw = log.seek(0, os.SEEK_END), b""
        while position > 0 and raw.count(b"\n") <= count:
            step = min(position, READ_BYTES_MAX)
            position -= step
            log.seek(position)
            raw = log.read(step) + raw
    return raw.decode("utf-8", "replace").splitlines()[-count:]
