"""A ring's entry table as anybody with its descriptor may read it, without mapping it and without being part of the run.

What is read may change under the reader: an entry counts only if its sequence is the same before and after. For looking at a packet that
a process was working on when it died or hung, which nobody completes meanwhile, that is exact.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from streamcore.packet import SlotRef
from streamcore.shm.layout import COMMITTED, ENTRY, ENTRY_BYTES, HEADER_BYTES, NEVER, REDELIVERED
from streamcore.shm.ring import RingShape, geometry


class Entry(NamedTuple):
    """One row in use. `ref` has no dtype and shape: `meta`, still encoded, has. `pending`: bit per edge that has not completed it."""

    entry: int
    sequence: int
    pending: int
    ref: SlotRef
    meta: bytes
    redelivered: bool


def read_entry(fd: int, shape: RingShape, entry: int) -> Entry | None:
    """The packet in a row; None if the row is free, being written, changing under us, or does not exist."""
    if not 0 <= entry < shape.entry_count:
        return None
    g, place = geometry(shape), HEADER_BYTES + entry * ENTRY_BYTES
    raw = os.pread(fd, ENTRY_BYTES, place)
    if len(raw) != ENTRY_BYTES:
        return None
    sequence, state, pending, ring, slot, offset, nbytes, _, _, _, meta_len, flags = ENTRY.unpack(raw)
    if state != COMMITTED or sequence == NEVER:
        return None
    meta = os.pread(fd, min(meta_len, g.meta_bytes), g.meta_offset + entry * g.meta_bytes)
    if os.pread(fd, 12, place) != raw[:12]:  # sequence and state
        return None
    return Entry(entry, sequence, pending, SlotRef(ring, slot, offset, nbytes, "", (), ()), meta, bool(flags & REDELIVERED))


def pending_on(fd: int, shape: RingShape, bit: int) -> list[Entry]:
    """What an edge has not completed, in the order of its sequence."""
    rows = (read_entry(fd, shape, entry) for entry in range(shape.entry_count))
    return sorted((row for row in rows if row is not None and row.pending >> bit & 1), key=lambda row: row.sequence)


def read_slot(fd: int, shape: RingShape, slot: int, offset: int, nbytes: int) -> bytes:
    """Bytes of a slot; fewer than asked for where the slot ends, none for a slot that does not exist."""
    g = geometry(shape)
    if not 0 <= slot < g.slot_count or offset < 0 or nbytes <= 0:
        return b""
    room = max(0, g.slot_bytes - offset)
    return os.pread(fd, min(nbytes, room), g.slots_offset + slot * g.slot_bytes + offset) if room else b""
