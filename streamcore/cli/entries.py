"""What nodes have logged and printed, as entries: a line with all that belongs to it, selected, in the order of time."""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from streamcore.cli.follow import LogLine, Stacks
from streamcore.cli.log_files import BLOCK_BYTES, begin_of, lines
from streamcore.clock import log_stamp
from streamcore.supervisor.masking import mask_text

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ENTRY_LINES_MAX = 1000  # a node that prints nothing but indented lines begins another entry after so many


class Entry(NamedTuple):
    """`text` has several lines if a traceback or indented lines follow the first. What a node printed has no time of its own: `stamp` is
    that of what it logged before, and its level is INFO. is_gap: it stands for lines that were dropped before they were read."""

    node: str
    stamp: str
    level: str
    text: str
    printed: bool = False
    is_gap: bool = False

    def __str__(self) -> str:
        return self.text if self.printed else f"{self.stamp} {self.level} {self.text}"

    def as_json(self) -> dict[str, Any]:
        return {"node": self.node, "ts": self.stamp, "level": self.level, "text": self.text, "printed": self.printed}


class Gatherer:
    """Makes entries of lines, of several nodes in turn. `stamps`: the time of what a node prints before it has logged anything."""

    def __init__(self, stamps: Mapping[str, str]):
        self._stamps = dict(stamps)
        self._open: dict[str, tuple[LogLine, list[str]]] = {}
        self._stacks = Stacks()

    def gather(self, found: Iterable[LogLine]) -> Iterator[Entry]:
        """The entries that end with these lines; what they end with is kept back, for more of it may come."""
        for line in found:
            if line.stamp:
                self._stacks.ends(line)
            first, more = self._open.get(line.node, (None, []))
            if first is not None and not line.stamp and self._goes_on(line) and len(more) < ENTRY_LINES_MAX:
                more.append(line.text)
                continue
            yield from self.end([line.node])
            self._open[line.node] = (line, [])

    def _goes_on(self, line: LogLine) -> bool:
        return self._stacks.holds(line) or not line.text.strip() or line.text[0].isspace()

    def end(self, nodes: Iterable[str]) -> Iterator[Entry]:
        """What was kept back of these nodes."""
        for node in nodes:
            line, more = self._open.pop(node, (None, []))
            if line is not None:
                stamp = self._stamps[node] = line.stamp or self._stamps[node]
                text = mask_text("\n".join([line.text, *more]))
                level = "WARNING" if line.is_gap else line.level or "INFO"
                yield Entry(node, stamp, level, text, not (line.stamp or line.is_gap), line.is_gap)

    @property
    def unfinished(self) -> set[str]:
        """The nodes of which something is kept back."""
        return set(self._open)


@dataclass(frozen=True)
class Selection:
    """Which entries are wanted: from one time to another, both included, of a level or worse, with a match anywhere in their text."""

    since_ns: int | None = None
    until_ns: int | None = None
    level: str = "DEBUG"
    grep: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return self != Selection()

    def takes(self, entry: Entry) -> bool:
        """A gap is always told: nobody may believe that there was nothing."""
        return entry.is_gap or (
            (self.since_ns is None or entry.stamp >= log_stamp(self.since_ns))
            and (self.until_ns is None or entry.stamp <= log_stamp(self.until_ns))
            and LEVELS.index(entry.level) >= LEVELS.index(self.level)
            and (self.grep is None or self.grep.search(entry.text) is not None)
        )


def history(directory: Path, ends: Mapping[str, int], count: int | None, selection: Selection) -> Iterator[Entry]:
    """The last `count` selected entries over all these nodes, or all of them, in the order of time. `ends`: how far to read each log."""
    if count is None:
        each: list[Iterable[Entry]] = [filter(selection.takes, _entries(directory, node, 0, end)) for node, end in ends.items()]
        yield from heapq.merge(*each, key=_time)
    elif count:
        each = [_last(directory, node, end, count, selection) for node, end in ends.items()]
        yield from deque(heapq.merge(*each, key=_time), maxlen=count)


def _time(entry: Entry) -> str:
    return entry.stamp


def _last(directory: Path, node: str, end: int, count: int, selection: Selection) -> list[Entry]:
    """Read from ever further in front, until there are enough: a long log is not read for the sake of its end."""
    nbytes, first = BLOCK_BYTES, begin_of(directory / f"{node}.log")
    while True:
        begin = max(first, end - nbytes)
        found = list(_entries(directory, node, begin, end))
        selected = [entry for entry in found[begin > first :] if selection.takes(entry)]  # the first of them may be the end of one
        if len(selected) >= count or begin == first:
            return selected[-count:]
        nbytes *= 4


def _entries(directory: Path, node: str, begin: int, end: int) -> Iterator[Entry]:
    path = directory / f"{node}.log"
    parsed = (LogLine.parse(node, text) for text in lines(path, begin, end))
    leading: list[LogLine] = []
    for line in parsed:
        leading.append(line)
        if line.stamp or len(leading) == ENTRY_LINES_MAX:
            break
    stamp = next((line.stamp for line in leading if line.stamp), "") or _last_written(path)
    gatherer = Gatherer({node: stamp})
    yield from gatherer.gather(chain(leading, parsed))
    yield from gatherer.end([node])


def last_stamp(path: Path, end: int) -> str:
    """When its node has logged something last, as far as it is seen near the end; else when anything was appended."""
    parsed = [LogLine.parse("", text) for text in lines(path, max(0, end - BLOCK_BYTES), end)]
    return max((line.stamp for line in parsed), default="") or _last_written(path)


def _last_written(path: Path) -> str:
    try:
        return log_stamp(path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ""
