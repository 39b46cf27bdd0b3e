"""The stores to shared memory that every packet makes: words of a page or table, and the fields of a row. All have a twin in leaves.c."""

from __future__ import annotations

from typing import Any

from streamcore import native
from streamcore.packet import SlotRef
from streamcore.shm.layout import (
    COMMITTED,
    ENTRY_BYTES,
    ENTRY_REST,
    ENTRY_REST_OFFSET,
    ENTRY_U32,
    ENTRY_U64,
    FREE,
    HEADER_BYTES,
    PENDING_U32,
    STATE_U32,
    STATE_U64,
    WRITING,
)


def words(view: memoryview) -> memoryview:
    """The same memory, made for storing and reading single elements, each whole."""
    return view


def put_row(
    room: memoryview,
    table: memoryview,
    metas: memoryview,
    places: tuple[int, int, int],
    entry: int,
    sequence: int,
    pending: int,
    ref: SlotRef,
    parent: tuple[int, int, int],
    flags: int,
    meta: bytes,
) -> int:
    """A row of a ring's table and its metadata; COMMITTED when everything else is stored. `room` and `metas`: the whole ring, twice,
    for tests that watch only the stores of metadata; `table`: its table as u64; `places`: number of the ring, where its metadata
    begins and the room of one row there. Gives the slot of `ref` if that is in this ring, else -1.
    """
    own, metas_at, meta_bytes = places
    table[entry * ENTRY_U64] = sequence  # while the row is still FREE: at worst a successor skips a number
    at, size, meta_at = HEADER_BYTES + entry * ENTRY_BYTES + ENTRY_REST_OFFSET, len(meta), metas_at + entry * meta_bytes
    ENTRY_REST.pack_into(room, at, WRITING, pending, ref.ring, ref.slot, ref.offset, ref.nbytes, *parent, size, flags)
    metas[meta_at : meta_at + size] = meta
    table[entry * ENTRY_U64 + STATE_U64] = pending << 32 | COMMITTED  # both fields, in one store
    return ref.slot if ref.ring == own else -1


def clear_pending(table: memoryview, entry: int, bit: int) -> int:
    """An edge has completed the packet in a row: which edges have not, -1 if that one had before. The row is FREE after the last.

    `table`: as u32.
    """
    place = entry * ENTRY_U32
    pending = table[place + PENDING_U32]
    if not pending & bit:
        return -1
    table[place + PENDING_U32] = pending = pending & ~bit
    if not pending:
        table[place + STATE_U32] = FREE
    return pending


def vouched(table: memoryview, entry_count: int, sequence_max: int, records: list[Any]) -> bool:
    """Does a ring's table, seen as u64, hold the sequence of each record (see wire.messages.Record) in its row, and do they rise."""
    last = -1
    for sequence, _, entry, _, _ in records:
        if entry >= entry_count or table[entry * ENTRY_U64] != sequence or sequence <= last:
            return False
        last = sequence
    return last <= sequence_max


def put_span(words: memoryview, at: int, number: int, *fields: int) -> None:
    """A span of a status page: its fields, and its number plus 1 when they are stored. It is 0 meanwhile, and who reads leaves it out."""
    words[at] = 0
    for place, field in enumerate(fields, at + 1):
        words[place] = field
    words[at] = number + 1


native.take_over(globals(), "clear_pending", "put_row", "put_span", "vouched", "words", SlotRef=SlotRef)
