"""The stores to shared memory that every packet makes: words of a page or table, and the fields of a row. All have a twin in leaves.c."""

from __future__ import annotations

from typing import Any

from streamcore import native
from streamcore.packet import SlotRef
from streamcore.shm.layout import ENTRY_BYTES, ENTRY_REST, ENTRY_REST_OFFSET, ENTRY_U64, HEADER_BYTES, WRITING


def words(view: memoryview) -> memoryview:
    """The same memory, made for storing and reading single elements, each whole."""
    return view


def put_row(
    room: memoryview,
    table: memoryview,
    metas: memoryview,
    entry: int,
    sequence: int,
    pending: int,
    ref: SlotRef,
    parent: tuple[int, int, int],
    flags: int,
    meta_at: int,
    meta: bytes,
    own: int,
) -> int:
    """A row of a ring's table and its metadata, WRITING. `room` and `metas`: the whole ring, twice, for tests that watch only
    the stores of metadata; `table`: its table as u64. Gives the slot of `ref` if that is in ring `own`, else -1.
    """
    table[entry * ENTRY_U64] = sequence  # while the row is still FREE: at worst a successor skips a number
    at, size = HEADER_BYTES + entry * ENTRY_BYTES + ENTRY_REST_OFFSET, len(meta)
    ENTRY_REST.pack_into(room, at, WRITING, pending, ref.ring, ref.slot, ref.offset, ref.nbytes, *parent, size, flags)
    metas[meta_at : meta_at + size] = meta
    return ref.slot if ref.ring == own else -1


def vouched(table: memoryview, entry_count: int, sequence_max: int, records: list[Any]) -> bool:
    """Does a ring's table, seen as u64, hold the sequence of each record (see wire.messages.Record) in its row, and do they rise."""
    last = -1
    for sequence, _, entry, _, _ in records:
        if entry >= entry_count or table[entry * ENTRY_U64] != sequence or sequence <= last:
            return False
        last = sequence
    return last <= sequence_max


native.take_over(globals(), "put_row", "vouched", "words", SlotRef=SlotRef)
