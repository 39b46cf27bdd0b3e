"""One file of a recording: records behind a header, appended until it is closed, and the index that is written beside it then.

N.seg, version 1. N is the sequence of the first record, in 20 digits. Little-endian; offsets and sizes in bytes.

 offset   size type field           meaning
 0           8 8s   magic           b"SCsegm1\\n"
 8           8 u64  first_sequence  as in the file's name, which counts if this header is damaged
 16          8 i64  created_ns      wall clock
 24         16 16s  run             whose packets these are: ids are told apart by it
 40          4 u32  checksum        CRC-32 of what is before it
 44          4 u32  zero
 48                 records         as in record.py, back to back, sequences without a gap

N.idx names one record in each BLOCK_BYTES, with the span of capture times up to the next one named: who looks for an hour reads nothing
else. It holds nothing that the segment does not hold. A segment without one, or with a damaged one, is read through instead.

 offset   size type field           meaning
 0           8 8s   magic           b"SCindx1\\n"
 8           4 u32  checksum        CRC-32 of everything after it
 12          4 u32  blocks          how many follow
 16          8 u64  next_sequence   that of the next segment's first record
 24          8 u64  end             bytes of the segment that hold records, the header included
 32                 blocks          u64 offset, u64 sequence of its first record; i64 least and greatest capture time, i64 last stored_ns
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from streamcore.durable import record
from streamcore.durable.record import CHECKED_FROM, LAYOUT, MAGIC, MAGIC_BYTES, BadRecord, Record

HEADER = struct.Struct("<8sQq16sII")
HEADER_MAGIC = b"SCsegm1\n"
INDEX_HEADER = struct.Struct("<8sIIQQ")
INDEX_MAGIC = b"SCindx1\n"
INDEX_CHECKED_FROM = 12
BLOCK = struct.Struct("<QQqqq")
BLOCK_BYTES = 1 << 20
CHUNK_BYTES = 64 << 10  # read at once; records up to this size are checked also where a filter leaves them out
SUFFIX, INDEX_SUFFIX = ".seg", ".idx"

OnDamage = Callable[[int, str], None]


@dataclass
class Block:
    """Some records that lie side by side."""

    offset: int
    sequence: int
    wall_min_ns: int
    wall_max_ns: int
    stored_ns: int


@dataclass
class Index:
    """Where the records of one segment lie. Begins empty, and is added to as the segment is."""

    next_sequence: int
    end: int = HEADER.size
    blocks: list[Block] = field(default_factory=list)

    def add(self, sequence: int, nbytes: int, wall_ns: int, stored_ns: int) -> None:
        """Of the next record."""
        if not self.blocks or self.end - self.blocks[-1].offset >= BLOCK_BYTES:
            self.blocks.append(Block(self.end, sequence, wall_ns, wall_ns, stored_ns))
        last = self.blocks[-1]
        last.wall_min_ns, last.wall_max_ns = min(last.wall_min_ns, wall_ns), max(last.wall_max_ns, wall_ns)
        last.stored_ns = max(last.stored_ns, stored_ns)
        self.next_sequence, self.end = sequence + 1, self.end + nbytes

    def encode(self) -> bytes:
        blocks = [BLOCK.pack(b.offset, b.sequence, b.wall_min_ns, b.wall_max_ns, b.stored_ns) for b in self.blocks]
        raw = INDEX_HEADER.pack(INDEX_MAGIC, 0, len(blocks), self.next_sequence, self.end) + b"".join(blocks)
        return raw[:8] + zlib.crc32(raw[INDEX_CHECKED_FROM:]).to_bytes(4, "little") + raw[INDEX_CHECKED_FROM:]

    @classmethod
    def decode(cls, raw: bytes) -> Index | None:
        """None for anything but what encode() gave."""
        if len(raw) < INDEX_HEADER.size:
            return None
        magic, checksum, count, next_sequence, end = INDEX_HEADER.unpack_from(raw)
        whole = magic == INDEX_MAGIC and len(raw) == INDEX_HEADER.size + count * BLOCK.size
        if not whole or zlib.crc32(memoryview(raw)[INDEX_CHECKED_FROM:]) != checksum:
            return None
        return cls(next_sequence, end, [Block(*row) for row in BLOCK.iter_unpack(raw[INDEX_HEADER.size :])])


def encode_header(first_sequence: int, created_ns: int, run: bytes) -> bytes:
    raw = HEADER.pack(HEADER_MAGIC, first_sequence, created_ns, run, 0, 0)
    return raw[:40] + zlib.crc32(raw[:40]).to_bytes(4, "little") + raw[44:]


def decode_header(raw: bytes, first_sequence: int) -> tuple[int, bytes] | None:
    """When it was made, and by which run; None if that cannot be known any more."""
    if len(raw) < HEADER.size:
        return None
    magic, sequence, created_ns, run, checksum, _ = HEADER.unpack_from(raw)
    if (magic, sequence, checksum) != (HEADER_MAGIC, first_sequence, zlib.crc32(raw[:40])):
        return None
    return created_ns, run


def path_of(folder: Path, first_sequence: int) -> Path:
    return folder / f"{first_sequence:020}{SUFFIX}"


def first_sequences(folder: Path) -> list[int]:
    """Of all segments in a folder, in order. Raises OSError."""
    names = [name.removesuffix(SUFFIX) for name in os.listdir(folder) if name.endswith(SUFFIX)]
    return sorted(int(name) for name in names if len(name) == 20 and name.isascii() and name.isdigit())


class Place(NamedTuple):
    """Where a record lies, by its header, which nothing has been held against yet."""

    offset: int
    checksum: int
    sequence: int
    stored_ns: int
    wall_ns: int
    id16: bytes
    head_bytes: int
    payload_bytes: int

    @property
    def payload_offset(self) -> int:
        return self.offset + LAYOUT.size + self.head_bytes

    @property
    def nbytes(self) -> int:
        return LAYOUT.size + self.head_bytes + self.payload_bytes


class Walk:
    """Goes from record to record of an open segment, between two offsets; over damage to the next record that is whole.

    Args:
      sequence: of the record at `start`.
      before: the sequence that would follow at `end`, if it is known: then what is missing there is counted as well.
      on_damage: told how many records are lost at a place, and what was found there.
    Attributes:
      end_whole: where the last record ends.
    """

    def __init__(self, fd: int, start: int, end: int, sequence: int, before: int = 0, on_damage: OnDamage | None = None):
        self._fd, self._start, self._end, self._sequence, self._before = fd, start, end, sequence, before
        self._on_damage = on_damage or (lambda count, text: None)
        self._chunk, self._chunk_at = b"", 0
        self._sure = start  # up to here everything was held against its checksum
        self.end_whole = start

    def __iter__(self) -> Iterator[Place]:
        offset, sequence = self._start, self._sequence
        while offset < self._end:
            place = self._place(offset, sequence)
            if place is None:
                place = self._next_whole(self._sure, sequence)
                found_next = place.sequence if place is not None else max(self._before, sequence)
                if found_next > sequence:
                    self._on_damage(found_next - sequence, f"record {sequence}: found no record at {offset}")
                if place is None:
                    return
            yield place
            offset, sequence = place.offset + place.nbytes, place.sequence + 1
            self.end_whole = offset
            if self._sure < place.offset + 1:  # nobody has read it: if nothing follows, it is where the search begins
                self._sure = place.offset + 1
        if self._before > sequence:
            self._on_damage(self._before - sequence, f"record {sequence}: found the end of the segment")

    def read(self, place: Place, into: memoryview | None = None) -> bytes:
        """The payload, or b"" if it was read `into` memory of its size. Raises BadRecord unless all of the record is what was written."""
        if into is None:
            raw = self._bytes(place.offset, place.nbytes)
            checksum, payload = zlib.crc32(memoryview(raw)[CHECKED_FROM:]), raw[LAYOUT.size + place.head_bytes :]
        else:
            front = self._bytes(place.offset, LAYOUT.size + place.head_bytes)
            done = 0
            while done < len(into):
                count = os.preadv(self._fd, [into[done:]], place.payload_offset + done)
                if not count:
                    break
                done += count
            checksum, payload = zlib.crc32(into[:done], zlib.crc32(memoryview(front)[CHECKED_FROM:])), b""
        if checksum != place.checksum:
            raise BadRecord(f"record {place.sequence}: found checksum {checksum:08x}, expected {place.checksum:08x}")
        self._sure = place.offset + place.nbytes
        return payload

    def head(self, place: Place) -> record.Head:
        """Not held against the checksum: read() does that. Raises BadRecord."""
        return record.decode_head(self._bytes(place.offset + LAYOUT.size, place.head_bytes), place.sequence)

    def record(self, place: Place, into: memoryview | None = None) -> Record:
        """Raises BadRecord."""
        head = self.head(place)
        return Record(place.sequence, place.stored_ns, place.wall_ns, place.id16, head, self.read(place, into))

    def _place(self, offset: int, sequence: int) -> Place | None:
        raw = self._bytes(offset, LAYOUT.size)
        if len(raw) < LAYOUT.size:
            return None
        magic, *rest = LAYOUT.unpack(raw)
        place = Place(offset, *rest)
        fits = magic == MAGIC and offset + place.nbytes <= self._end
        return place if fits and (place.sequence == sequence) else None

    def _next_whole(self, offset: int, sequence: int) -> Place | None:
        """The next record from `offset` on that keeps its checksum and could be `sequence` or a later one."""
        while offset + LAYOUT.size <= self._end:
            found = self._bytes(offset, min(CHUNK_BYTES, self._end - offset)).find(MAGIC_BYTES)
            if found < 0:
                offset += CHUNK_BYTES - len(MAGIC_BYTES) + 1
                continue
            offset += found
            raw = self._bytes(offset, LAYOUT.size)
            claimed = int(LAYOUT.unpack(raw)[2]) if len(raw) == LAYOUT.size else 0
            limit = self._before or sequence + (self._end - offset) // LAYOUT.size + 1
            place = self._place(offset, claimed) if sequence <= claimed < limit else None
            if place is not None:
                try:
                    self.read(place)
                    return place
                except BadRecord:
                    pass
            offset += 1
        return None

    def _bytes(self, offset: int, nbytes: int) -> bytes:
        """Of the file; fewer where it ends."""
        at = offset - self._chunk_at
        if at >= 0 and at + nbytes <= len(self._chunk):
            return self._chunk[at : at + nbytes]
        if nbytes >= CHUNK_BYTES:
            return os.pread(self._fd, nbytes, offset)
        self._chunk, self._chunk_at = os.pread(self._fd, CHUNK_BYTES, offset), offset
        return self._chunk[:nbytes]


def scan(fd: int, first_sequence: int, check: bool) -> Index:
    """The index of an open segment, made by reading it: up to the last record that is whole, or, without `check`, seems to be."""
    index = Index(first_sequence)
    walk = Walk(fd, HEADER.size, os.fstat(fd).st_size, first_sequence)
    for place in walk:
        if check:
            try:
                walk.read(place)
            except BadRecord:
                continue  # damaged, unless nothing whole follows: then it is no part of the index
        if index.end != place.offset or index.next_sequence != place.sequence:  # what is between is damaged
            index.end, index.next_sequence = place.offset, place.sequence
        index.add(place.sequence, place.nbytes, place.wall_ns, place.stored_ns)
    return index


def read_index(path: Path) -> Index | None:
    """The index beside the segment at `path`; None if there is none, or none that fits."""
    try:
        index = Index.decode(path.with_suffix(INDEX_SUFFIX).read_bytes())
        return index if index is not None and index.end <= path.stat().st_size else None
    except OSError:
        return None
