"""Which records of a store are meant, and reading them from outside, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from streamcore.durable import upkeep
from streamcore.durable.files import key_of
from streamcore.durable.upkeep import Seen

PIECE_RECORDS = 1000  # of one read transaction: a long one would keep the owner from using pages again
PIECE_BYTES = 32 << 20


class Selection(msgspec.Struct, frozen=True):
    """What holds for every record that is meant; what is empty or None holds for all.

    Attributes:
      kinds, keys, sources: one of these.    spans: one of these spans of sequences, both ends included.
      from_ns, to_ns: stored at that time or later, and before that time, on the wall clock.    larger: payloads of more bytes.
    """

    kinds: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    from_ns: int | None = None
    to_ns: int | None = None
    spans: tuple[tuple[int, int], ...] = ()
    larger: int | None = None

    def wants(self, seen: Seen) -> bool:
        """A damaged record tells its sequence only: it is meant if that is all that was asked for."""
        if self.spans and not any(first <= seen.sequence <= last for first, last in self.spans):
            return False
        record = seen.record
        if record is None:
            return self == Selection(spans=self.spans)
        return (
            record.head.kind in (self.kinds or (record.head.kind,))
            and record.head.key in (self.keys or (record.head.key,))
            and record.head.source_id in (self.sources or (record.head.source_id,))
            and (self.from_ns is None or record.stored_ns >= self.from_ns)
            and (self.to_ns is None or record.stored_ns < self.to_ns)
            and (self.larger is None or len(record.payload) > self.larger)
        )

    @property
    def first(self) -> int:
        return min((first for first, _ in self.spans), default=1)

    @property
    def last(self) -> int | None:
        return max((last for _, last in self.spans), default=None)


def walk(path: Path, state: str, selection: Selection, step: Callable[[int], None] = lambda looked: None) -> Iterator[Seen]:
    """The records of that state that are meant, in order. `step` is told how many more were looked at.

    Nothing is held between two pieces: what changes meanwhile shows as it is when it is read.
    """
    at: int | None = selection.first
    while at is not None:
        piece, at = _piece(path, state, at, selection.last)
        yield from filter(selection.wants, piece)
        step(len(piece))


def _piece(path: Path, state: str, first: int, last: int | None) -> tuple[list[Seen], int | None]:
    """Some records, and where to go on; None at the end."""
    found: list[Seen] = []
    nbytes = 0
    with upkeep.snapshot(path) as (txn, tables):
        cursor = txn.cursor(db=tables[state])
        more = cursor.set_range(key_of(first))
        while more and len(found) < PIECE_RECORDS and nbytes < PIECE_BYTES:
            seen = upkeep.seen_of(txn, tables, cursor.key(), state, cursor.value())
            if last is not None and seen.sequence > last:
                return found, None
            found.append(seen)
            nbytes += len(seen.record.payload) if seen.record else 0
            more = cursor.next()
    return found, found[-1].sequence + 1 if more else None
