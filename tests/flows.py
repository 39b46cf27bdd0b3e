"""What has to arrive at a witness: for every way from a source to it the content of every packet, by hash.

A flow is one such way: a source, what is done to its packets, and whether an edge on it may drop. The same frame may come to a sink by
several flows, so arrivals are counted per content. A packet id that comes again is a repeat and has to say so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamcore_nodes.pattern import ENVELOPE_CHARS, pattern, stamp
from streamcore_nodes.witness import payload_hash

Op = tuple[Any, ...]  # ("crop", x, y, width, height), ("resize", width, height) or ("turn",)
Line = dict[str, Any]  # of debug.hash
NUMBERS_AHEAD = 300_000  # packets that an edge that drops may leave out in a row: what a source makes flat out while its consumer hangs


class Broken(AssertionError):
    """A promise that did not hold."""


@dataclass(frozen=True)
class Content:
    """What a source makes: packet n, as the node beside it makes it. kind: frames, small or clip; a clip is read once."""

    kind: str
    width: int = 0
    height: int = 0
    nbytes: int = 0
    path: str = ""

    def packet(self, number: int) -> Any:
        if self.kind == "small":
            return {"n": number, "pad": "x" * max(0, self.nbytes - ENVELOPE_CHARS)}
        if self.kind == "clip":
            return _clip(self.path)[number % self.count]
        made = _prepared(self.height, self.width).copy()
        stamp(made, number)
        return made

    @property
    def count(self) -> int:
        """Frames of a clip."""
        return len(_clip(self.path))


@lru_cache(maxsize=8)
def _prepared(height: int, width: int) -> np.ndarray[Any, Any]:
    return pattern(height, width, 3)


@lru_cache(maxsize=4)
def _clip(path: str) -> list[np.ndarray[Any, Any]]:
    capture, found = cv2.VideoCapture(path), []
    while True:
        done, frame = capture.read()
        if not done:
            return found
        found.append(frame)


def apply(op: Op, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The nodes' work, done here once more."""
    name, *numbers = op
    if name == "crop":
        x, y, width, height = numbers
        return frame[y : y + height, x : x + width]
    if name == "resize":
        made: np.ndarray[Any, Any] = cv2.resize(frame, tuple(numbers), interpolation=cv2.INTER_AREA)
        return made
    return frame[::-1, ::-1]


@dataclass(frozen=True)
class Flow:
    """One way from a source to a sink. `without`: frames that a node on it refuses for good. `lossy`: an edge on it may drop."""

    source: str
    content: Content
    ops: tuple[Op, ...] = ()
    lossy: bool = False
    without: frozenset[int] = frozenset()

    def hash_of(self, number: int) -> str:
        return _hash(self.content, self.ops, number)


@lru_cache(maxsize=50_000)
def _hash(content: Content, ops: tuple[Op, ...], number: int) -> str:
    made = content.packet(number)
    for op in ops:
        made = apply(op, made)
    return str(payload_hash(made))


def read_lines(path: Path) -> list[Line]:
    """The complete lines of a witness; a torn last one does not count."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]


@dataclass
class Verdict:
    arrived: int = 0
    repeats: int = 0


class Group:
    """The flows of one source whose packets look the same: they are told apart by packet id only."""

    def __init__(self, flows: Sequence[Flow]):
        self.flows, self.first = flows, flows[0]
        self.lossy = any(flow.lossy for flow in flows)
        self._numbers: dict[str, int] = {}
        self.furthest = 0
        self.forget()

    def number_of(self, found: str) -> int | None:
        """The number of a packet by its hash, for packets that do not say it. Hashes are made as far as they are needed."""
        while found not in self._numbers and len(self._numbers) < self.furthest + NUMBERS_AHEAD:
            self._numbers[self.first.hash_of(len(self._numbers))] = len(self._numbers)
        number = self._numbers.get(found)
        self.furthest = max(self.furthest, number or 0)
        return number

    def forget(self) -> None:
        self.times: Counter[int] = Counter()  # arrivals of each frame, repeats left out
        self.order: dict[int, list[int]] = defaultdict(list)  # frames as they came for the first, second ... time

    @property
    def reach(self) -> int:
        """The last frame seen, plus 1."""
        return max(self.times, default=-1) + 1

    def wanted(self, frame: int) -> tuple[int, int]:
        """How often a frame has to come, and may come."""
        sure = sum(frame not in flow.without for flow in self.flows if not flow.lossy)
        return sure, sum(frame not in flow.without for flow in self.flows)

    def note(self, frame: int, flagged: bool) -> None:
        self.order[self.times[frame]].append(-1 if self.lossy and flagged else frame)
        self.times[frame] += 1


class Witness:
    """Holds the lines of one sink against its flows."""

    def __init__(self, name: str, flows: Iterable[Flow]):
        self.name = name
        self._groups: dict[tuple[str, str], Group] = {}
        alike: dict[tuple[str, str], list[Flow]] = defaultdict(list)
        for flow in flows:
            alike[flow.source, flow.hash_of(0)].append(flow)
        self._by_source: dict[str, list[Group]] = defaultdict(list)
        for (source, _), same in alike.items():
            self._by_source[source].append(Group(same))

    def frames(self, lines: Iterable[Line]) -> dict[str, int]:
        """How many packets of each source there must have been, by the last one that came."""
        found = dict.fromkeys(self._by_source, 0)
        for line in lines:
            _, frame = self._group_of(line)
            found[line["source_id"]] = max(found[line["source_id"]], frame + 1)
        return found

    def check(self, lines: Sequence[Line], counts: Mapping[str, int], repeats_max: int, *, whole: bool = True) -> Verdict:
        """No hole, no wrong hash, first arrivals in order, repeats flagged and at most `repeats_max`.

        counts: packets of each source. whole: False if the run was killed, so that each flow may end early by itself. Raises Broken.
        """
        verdict, seen = Verdict(), set[str]()
        for groups in self._by_source.values():
            for group in groups:
                group.forget()
        for line in lines:
            group, frame = self._group_of(line)
            if line["packet_id"] in seen:
                verdict.repeats += 1
                if not line["redelivered"]:
                    raise Broken(f"{self.name}: a repeat that is not flagged: {line}")
                continue
            seen.add(line["packet_id"])
            verdict.arrived += 1
            group.note(frame, line["redelivered"])
        for source, groups in self._by_source.items():
            for group in groups:
                self._check_group(source, group, counts[source] if whole else group.reach, whole)
        if verdict.repeats > repeats_max:
            raise Broken(f"{self.name}: {verdict.repeats} repeats, at most {repeats_max}")
        return verdict

    def _group_of(self, line: Line) -> tuple[Group, int]:
        for group in self._by_source.get(line["source_id"], ()):
            frame = line["frame"]
            if group.first.content.kind == "small":  # it has no meta to say its number
                frame = group.number_of(line["hash"])
            if frame is not None and group.first.hash_of(frame) == line["hash"]:
                return group, frame
        raise Broken(f"{self.name}: wrong content: {line}")

    def _check_group(self, source: str, group: Group, count: int, whole: bool) -> None:
        what = f"{self.name}: {source} by {[flow.ops for flow in group.flows]}"
        wrong, later = (
            [],
            0,
        )  # arrivals of a frame behind this one: each flow of a run that was killed ends somewhere, without a hole before
        for frame in range(max(count, group.reach) - 1, -1, -1):
            least, most = group.wanted(frame) if frame < count else (0, 0)
            if not whole:
                least = min(least, later)
            if not least <= group.times[frame] <= most:
                wrong.append((frame, group.times[frame], least))
            later = 0 if group.lossy else max(later, group.times[frame])
        if wrong:
            raise Broken(f"{what}: {len(wrong)} of {count} packets did not arrive as often as wanted (frame, found, wanted): {wrong[-8:]}")
        for turn, order in group.order.items():
            known = [frame for frame in order if frame >= 0]
            if known != sorted(known) and not (group.lossy and len(group.flows) > 1):
                late = next(i for i in range(1, len(known)) if known[i] < known[i - 1])
                raise Broken(f"{what}: out of order (arrival {turn + 1} of each): ... {known[max(0, late - 4) : late + 4]} ...")
