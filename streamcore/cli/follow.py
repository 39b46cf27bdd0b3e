"""Reading the logs of nodes while they are written: new lines since the last look, and which of them a person should see."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from streamcore.cli.log_files import BLOCK_BYTES, Extent, extent, lines, text_lines
from streamcore.limits import LOG_BYTES

READ_BYTES_MAX = BLOCK_BYTES  # per node and look: a node that prints without end may not fill the coordinator's memory
BEHIND_BYTES = 256  # some lines, which begin with their times
ANEW_BYTES_MAX = LOG_BYTES  # of a log that was begun anew
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z) (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
SHOWN_LEVELS = ("WARNING", "ERROR", "CRITICAL")
TRACEBACK = "Traceback (most recent call last):"
STACK_LINE = re.compile(r'(File ".*", line \d+,? in |(Current thread|Thread) 0x[0-9a-f]+ |Extension modules: )')
CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


class LogLine(NamedTuple):
    """One line of a node's log. `stamp` and `level` are empty for what the node printed by itself. is_gap: it stands for lines not read."""

    node: str
    text: str
    stamp: str = ""
    level: str = ""
    is_gap: bool = False

    @classmethod
    def parse(cls, node: str, line: str) -> LogLine:
        match = LINE.fullmatch(line)
        return cls(node, match[3], match[1], match[2]) if match else cls(node, line)

    def __str__(self) -> str:
        return f"{self.stamp} {self.level} {self.text}" if self.stamp else self.text


class _Place:
    """How far one log has been read. `behind`: the bytes before that, by which it is found again in a log that was begun anew."""

    def __init__(self) -> None:
        self.offset, self.behind = 0, b""

    def advance(self, offset: int, read: bytes) -> None:
        self.behind = (self.behind + read)[-BEHIND_BYTES:]
        self.offset = offset

    def leap(self, fd: int, offset: int) -> None:
        first = max(extent(fd).begin, offset - BEHIND_BYTES)
        self.offset, self.behind = offset, os.pread(fd, max(0, offset - first), first)

    def find(self, fd: int, there: Extent) -> None:
        """If the log was begun anew meanwhile, with the end of what was there, go on where that leaves off; else at its beginning."""
        first = self.offset - len(self.behind)
        if there.end >= self.offset and (first < there.begin or os.pread(fd, len(self.behind), first) == self.behind):
            return
        raw = os.pread(fd, ANEW_BYTES_MAX, there.begin)
        known = self.behind
        read = raw.rfind(known) + len(known) if known and known in raw else 0
        while known and not read:  # the end of it, from the beginning of a line on
            known = known.partition(b"\n")[2]
            read = len(known) if raw.startswith(known) else 0
        self.offset, self.behind = there.begin + read, raw[max(0, read - BEHIND_BYTES) : read]


class Follower:
    """Follows NODE.log of each of these nodes in a directory. Every `poll` gives the lines that were completed since the one before.

    A log may lose its front meanwhile, or be begun anew (supervisor/log_space.py): no line is given twice, and where some were dropped
    before they were read a line says how many bytes. A poll reads READ_BYTES_MAX of each log at most: with `whole` the next ones, else the
    last ones, and what comes before them is left out.
    """

    def __init__(self, directory: Path, nodes: Iterable[str], from_end: bool = False, whole: bool = False):
        self._paths = {node: directory / f"{node}.log" for node in nodes}
        self._places = {node: _Place() for node in self._paths}
        self._whole = whole
        if from_end:
            for node in self._paths:
                self.skip(node)

    def skip(self, node: str) -> None:
        """Leave out what the node has logged so far, but for a line that is not complete."""
        try:
            with open(self._paths[node], "rb") as log:
                end = os.fstat(log.fileno()).st_size
                first = max(0, end - READ_BYTES_MAX)
                newline = os.pread(log.fileno(), end - first, first).rfind(b"\n")
                self._places[node].leap(log.fileno(), first + newline + 1 if newline >= 0 else end)
        except FileNotFoundError:
            pass  # not started yet

    def offset(self, node: str) -> int:
        return self._places[node].offset

    def poll(self, *, last: bool = False) -> list[LogLine]:
        """New lines, node by node. With `last`, also a line that was never finished."""
        return [line for node in self._paths for line in self._new_lines(node, last)]

    def _new_lines(self, node: str, last: bool) -> list[LogLine]:
        place, path = self._places[node], self._paths[node]
        if _size(path) == place.offset:
            return []
        try:
            with open(path, "rb") as log:
                there = extent(log.fileno())
                place.find(log.fileno(), there)
                begin = max(place.offset, there.begin, 0 if self._whole else there.end - READ_BYTES_MAX)
                left_out = begin - place.offset
                raw = os.pread(log.fileno(), min(READ_BYTES_MAX, there.end - begin), begin)
        except FileNotFoundError:  # somebody has removed the run directory
            return []
        # A line is complete with its newline, or when it fills the whole read.
        full = len(raw) == READ_BYTES_MAX
        end = len(raw) if (last and not (self._whole and full)) or (full and b"\n" not in raw) else raw.rfind(b"\n") + 1
        place.advance(begin + end, raw[:end])
        found = [LogLine.parse(node, text) for text in text_lines(raw[:end])]
        if not left_out:
            return found
        gone = "were dropped before they were shown" if self._whole else f"left out; they are in {path}"
        return [LogLine(node, f"... {left_out} bytes {gone}", is_gap=True), *found[1:]]


class Stacks:
    """Which lines that no logger made are part of a stack, of each node in turn."""

    def __init__(self) -> None:
        self._indents: dict[str, int] = {}  # of the tracebacks that nodes are in the middle of

    def ends(self, line: LogLine) -> None:
        """The node has logged something: no stack goes on behind that."""
        self._indents.pop(line.node, None)

    def holds(self, line: LogLine) -> bool:
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


class Sieve:
    """Lets through what a person should see while a run is up: warnings and worse, and what nodes print, but no stacks.

    A stack is in the log for whoever needs it; its cause is in the line before or after it. `levels` None lets every level through.
    """

    def __init__(self, levels: Sequence[str] | None = SHOWN_LEVELS) -> None:
        self._levels = levels
        self._stacks = Stacks()
        self._hidden: set[str] = set()  # nodes whose last record was not shown: its further lines, which are indented, are not either

    def sift(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            if line.stamp:
                self._stacks.ends(line)
                self._hidden.add(line.node)
                if self._levels is None or line.level in self._levels:
                    self._hidden.discard(line.node)
                    yield line
            elif line.text.strip() and not self._stacks.holds(line):
                if not line.text[0].isspace():
                    self._hidden.discard(line.node)
                if line.node not in self._hidden:
                    yield line


def log_end(path: Path, node: str, count: int, *, stacks: bool) -> list[LogLine]:
    """The last `count` lines of one log; without stacks, which may be long, the last lines before and after them."""
    end = _size(path)
    tail = [LogLine.parse(node, line) for line in lines(path, max(0, end - READ_BYTES_MAX), end)]
    return (tail if stacks else list(Sieve(levels=None).sift(tail)))[-count:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # not started yet
