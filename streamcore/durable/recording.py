"""Reading a recording, also while it is written: by time, kind, source and port, without reading what is not wanted."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamcore.clock import Clock, parse_moment
from streamcore.durable import files, record, segment
from streamcore.durable.record import BadRecord, Head, Record
from streamcore.durable.segment import CHUNK_BYTES, HEADER, Index, OnDamage, Place, Walk
from streamcore.errors import ConfigError, StoreError

TIME_MAX_NS = 2**63 - 1

Room = Callable[[Record, int], "memoryview | None"]  # given a record without its payload, and the size of that


class RecordingSelection(msgspec.Struct, frozen=True):
    """Which records: captured from `start_ns` up to, not including, `end_ns`, of these kinds, sources and ports; empty: of any."""

    start_ns: int = -TIME_MAX_NS
    end_ns: int = TIME_MAX_NS
    kinds: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()

    def wants(self, head: Head) -> bool:
        return (
            (not self.kinds or head.kind in self.kinds)
            and (not self.sources or head.source_id in self.sources)
            and (not self.ports or head.key in self.ports)
        )


@dataclass
class Part:
    """A segment as it was when the recording was opened. `run`: "" if its header is damaged; `closed`: it has an index."""

    path: Path
    first_sequence: int
    run: str
    nbytes: int
    index: Index
    closed: bool

    @property
    def records(self) -> int:
        return self.index.next_sequence - self.first_sequence


class Recording:
    """What is in the recording at `path` at this moment. Reading it disturbs nobody, and nobody disturbs it.

    Attributes:
      parts: the segments, in order.
      damaged: records that read() could not give, and that no filter left out. `gone`: those whose segment was deleted meanwhile.
      owner: the number of the process that writes it, "" if there is none.

    Raises:
      ConfigError: there is no recording.
      StoreError: it cannot be read.
    """

    Selection = RecordingSelection
    unpack_json = staticmethod(record.unpack_json)

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.damaged = self.gone = 0
        self.parts: list[Part] = []
        try:
            self.owner = files.owner_of(self.path)
            for first in segment.first_sequences(self.path):
                try:
                    self.parts.append(_part(self.path, first))
                except FileNotFoundError:  # deleted since it was listed
                    continue
        except FileNotFoundError:
            raise ConfigError(f"recording {path}: no such folder (working directory {Path.cwd()})") from None
        except OSError as error:
            raise StoreError(f"recording {path}: {error.strerror}") from None
        if not self.parts:
            raise ConfigError(f"recording {path}: found no segment in it, expected the folder of a durable.record")

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def begin_ns(self) -> int:
        """The earliest capture time; 0 if there is none."""
        return min((block.wall_min_ns for part in self.parts for block in part.index.blocks), default=0)

    @property
    def end_ns(self) -> int:
        return max((block.wall_max_ns for part in self.parts for block in part.index.blocks), default=0)

    def run_of(self, sequence: int) -> str:
        """The run in which a record of it was stored; "" if that is not known."""
        place = bisect_right(self.parts, sequence, key=lambda part: part.first_sequence) - 1
        return self.parts[place].run if place >= 0 else ""

    def select(
        self,
        start: str = "",
        end: str = "",
        kinds: tuple[str, ...] = (),
        sources: tuple[str, ...] = (),
        ports: tuple[str, ...] = (),
    ) -> RecordingSelection:
        """`start` and `end` as people write them, see clock.parse_moment; "" for no bound. Raises ConfigError."""
        try:
            start_ns = parse_moment(start, self.begin_ns, self.end_ns, Clock.wall_ns()) if start else -TIME_MAX_NS
            end_ns = parse_moment(end, self.begin_ns, self.end_ns, Clock.wall_ns()) if end else TIME_MAX_NS
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return RecordingSelection(start_ns, end_ns, kinds, sources, ports)

    def selected_bytes(self, selection: RecordingSelection) -> int:
        """About how much read() has to look at."""
        return sum(end - start for part in self.parts for start, end, _, _ in _spans(part, selection, 0))

    def read(
        self,
        selection: RecordingSelection | None = None,
        after: int = 0,
        room: Room | None = None,
        on_damage: OnDamage | None = None,
        payloads: bool = True,
    ) -> Iterator[Record]:
        """The records that are selected, in the order in which they were stored.

        A damaged record is left out, counted, and told to `on_damage` with the number of records that are missing. What a filter leaves out
        is not read if it is large, so it is not checked either.

        Args:
          after: begin behind this sequence.
          room: asked for memory into which a large payload is read; `payload` is b"" then. None: it is not read in place. What is there is
            right only once the record is given out.
          payloads: False: nothing but heads is read; then nothing is checked.
        """
        wanted = selection or RecordingSelection()

        def note(count: int, text: str) -> None:
            self.damaged += count
            if on_damage is not None:
                on_damage(count, f"{part.path.name}: {text}")

        for part in self.parts:
            spans = _spans(part, wanted, after)
            if not spans:
                continue
            try:
                fd = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.gone += part.records
                continue
            try:
                for start, end, sequence, before in spans:
                    walk = Walk(fd, start, end, sequence, before, note)
                    for place in walk:
                        found = _take(walk, place, wanted, after, room, note, payloads)
                        if found is not None:
                            yield found
            finally:
                os.close(fd)


def _part(folder: Path, first: int) -> Part:
    path = segment.path_of(folder, first)
    index = segment.read_index(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = segment.decode_header(os.pread(fd, HEADER.size, 0), first)
        found = segment.scan(fd, first, check=False) if index is None else index
        run = header[1].rstrip(b"\0").decode("ascii", "replace") if header is not None else ""
        return Part(path, first, run, os.fstat(fd).st_size, found, index is not None)
    finally:
        os.close(fd)


def _spans(part: Part, wanted: RecordingSelection, after: int) -> list[tuple[int, int, int, int]]:
    """(from, to, first sequence, next sequence) of the stretches in which something may be wanted; neighbours are one."""
    index, blocks = part.index, part.index.blocks
    spans: list[tuple[int, int, int, int]] = []
    for number, block in enumerate(blocks):
        last = number + 1 == len(blocks)
        end, before = (index.end, index.next_sequence) if last else (blocks[number + 1].offset, blocks[number + 1].sequence)
        if before <= after + 1 or block.wall_max_ns < wanted.start_ns or block.wall_min_ns >= wanted.end_ns:
            continue
        start, sequence = (block.offset, block.sequence) if number else (HEADER.size, part.first_sequence)
        if spans and spans[-1][1] == start:
            start, _, sequence, _ = spans.pop()
        spans.append((start, end, sequence, before))
    return spans


def _take(
    walk: Walk,
    place: Place,
    wanted: RecordingSelection,
    after: int,
    room: Room | None,
    note: OnDamage,
    payloads: bool,
) -> Record | None:
    """The record at `place`, if it is wanted and whole. A small one is checked first: what it says of itself may be what is damaged."""
    if place.sequence <= after:
        return None
    small = payloads and place.nbytes <= CHUNK_BYTES
    try:
        if small:
            found = walk.record(place)
        else:
            found = Record(place.sequence, place.stored_ns, place.wall_ns, place.id16, walk.head(place), b"")
        if not (wanted.start_ns <= place.wall_ns < wanted.end_ns and wanted.wants(found.head)):
            return None
        if small or not payloads:
            return found
        into = room(found, place.payload_bytes) if room is not None else None
        if into is None:
            found.payload = walk.read(place)
        elif len(into) != place.payload_bytes:
            raise BadRecord(f"record {place.sequence}: found a payload of {place.payload_bytes} bytes, its head says {len(into)}")
        else:
            walk.read(place, into)
        return found
    except BadRecord as error:
        note(1, str(error))
        return None
