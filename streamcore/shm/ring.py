"""The ring of one output port: its header, its only writer, and the readers that map it read-only."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from streamcore import limits
from streamcore.errors import LayoutError, MessageError
from streamcore.packet import TYPE_STRINGS, SlotRef
from streamcore.shm import segment
from streamcore.shm.layout import (
    COMMITTED,
    ENTRY,
    ENTRY_BYTES,
    ENTRY_U32,
    ENTRY_U64,
    FLAGS_U32,
    FREE,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    NEVER,
    NO_EDGE,
    NO_RING,
    OUTCOME_SHIFT,
    PENDING_U32,
    REDELIVERED,
    STATE_U32,
    VERSION,
    WRITING,
    Geometry,
    extent,
)
from streamcore.shm.words import clear_pending, put_row, vouched, words

Parent = tuple[int, int, int]  # edge, entry, sequence of the input that an output was derived from
NO_PARENT: Parent = (NO_EDGE, 0, 0)
_ELEMENTS = {name: (text, int(text[2:])) for name, text in {**TYPE_STRINGS, "": "|u1", "msgpack": "|u1"}.items()}  # type string, bytes
NO_REF = SlotRef(NO_RING, 0, 0, 0, "", (), ())


class RingShape(Protocol):
    """What this room needs to know of a ring; graph.model.RingPlan is one."""

    @property
    def id(self) -> int: ...
    @property
    def port(self) -> str: ...
    @property
    def entry_count(self) -> int: ...
    @property
    def meta_bytes(self) -> int: ...
    @property
    def slot_count(self) -> int: ...
    @property
    def slot_bytes(self) -> int: ...


def geometry(shape: RingShape) -> Geometry:
    """That of the plan, and behind its slots one for each tap that there may be."""
    planned = Geometry.of(shape.entry_count, shape.meta_bytes, shape.slot_count, shape.slot_bytes)
    return replace(planned, slot_count=planned.slot_count + limits.TAPS_PER_PORT_MAX)


def ring_bytes(shape: RingShape) -> int:
    """Size of the ring's segment; sparse, so an upper bound of its memory."""
    return geometry(shape).segment_bytes


def _header(shape: RingShape, run_id: str) -> bytes:
    g = geometry(shape)
    port, run = shape.port.encode(), bytes.fromhex(run_id)
    return HEADER.pack(MAGIC, VERSION, shape.id, g.entry_count, g.slot_count, g.meta_bytes, g.slot_bytes, run, port)


def format_ring(fd: int, shape: RingShape, run_id: str) -> None:
    """Write the header of a fresh segment; `run_id` is 32 hex digits. The magic is stored last."""
    with segment.attach(fd, ring_bytes(shape), writable=True, what=shape.port) as memory:
        header = _header(shape, run_id)
        clear_table(memory, geometry(shape))
        memory[8 : HEADER.size] = header[8:]
        memory[0:8] = header[:8]


def clear_table(memory: mmap.mmap, g: Geometry) -> None:
    """A table of which no row was ever used."""
    with memoryview(memory) as whole, whole[HEADER_BYTES : g.meta_offset] as table, table.cast("Q") as words:
        for entry in range(g.entry_count):
            words[entry * ENTRY_U64] = NEVER


def attach_ring(fd: int, shape: RingShape, run_id: str, *, writable: bool) -> mmap.mmap:
    """Map a ring after checking that its header says what the plan says.

    Raises:
      LayoutError: another size, magic, version, run, port or geometry; names found and expected.
    """
    memory = segment.attach(fd, ring_bytes(shape), writable=writable, what=shape.port)
    found, expected = HEADER.unpack_from(memory), HEADER.unpack(_header(shape, run_id))
    names = ("magic", "version", "ring", "entry_count", "slot_count", "meta_bytes", "slot_bytes", "run_id", "port")
    for name, have, want in zip(names, found, expected, strict=True):
        if have != want:
            memory.close()
            raise LayoutError(f"ring {shape.port}: {name} found {have!r}, expected {want!r}")
    return memory


def address_of(memory: mmap.mmap) -> int:
    """Where the mapping begins in this process."""
    import numpy as np  # a node process has it; the coordinator, which never asks, does without

    return int(np.frombuffer(memory, np.uint8, 1).__array_interface__["data"][0])


@dataclass(frozen=True)
class Adopted:
    """A row that a killed predecessor had committed and its consumers have not completed. `ref` has no dtype and shape: `meta` has.
    `outcome`: the worst of the consumers that have.
    """

    entry: int
    sequence: int
    pending: int
    ref: SlotRef
    parent: Parent
    meta: bytes
    outcome: int


class Pending(NamedTuple):
    """A row that an edge has not completed."""

    entry: int
    sequence: int
    flags: int
    meta: bytes


class RingWriter:
    """The one writer of a ring. Free rows and slots are reused last in, first out: warm caches, few touched pages.

    A slot is free when no committed entry refers to it and no array of this process does: `hold_slot` and `release_slot` count both.
    As many slots as the plan says are in play; the spare ones join them one by one, while somebody taps the port (`lend`, `take_back`).
    """

    def __init__(self, memory: mmap.mmap, shape: RingShape):
        self.shape, self.memory = shape, memory
        self.geometry = g = geometry(shape)
        self.base_address = address_of(memory)
        self.slots_offset, self.slot_bytes, self.slots_address = g.slots_offset, g.slot_bytes, self.base_address + g.slots_offset
        self._bytes = self.room = words(memoryview(memory))
        self._u32 = words(self._bytes[HEADER_BYTES : g.meta_offset].cast("I"))
        self._u64 = words(self._bytes[HEADER_BYTES : g.meta_offset].cast("Q"))
        self._places: Any = (shape.id, g.meta_offset, g.meta_bytes)  # see put_row; an object, for it is handed over per packet
        self._put_row, self._clear_pending = put_row, clear_pending  # here they cost no look-up
        self._free_entries = list(range(g.entry_count - 1, -1, -1))
        self._free_slots = list(range(g.slot_count - 1, -1, -1))
        self._spare_slots: list[int] = []
        self._owed = 0  # taken back while none was free
        self._slot_users = [0] * g.slot_count
        self._entry_slot: list[int] = [-1] * g.entry_count
        self.entry_sequence: list[int] = [-1] * g.entry_count  # of the rows in use; a copy of the table that is cheap to read
        self.next_sequence = 0
        self.adopted = self._adopt()

    def _adopt(self) -> list[Adopted]:
        """Take over what a predecessor has left: COMMITTED rows stay, in the order of their sequence; WRITING rows are discarded."""
        kept: list[Adopted] = []
        for entry in range(self.geometry.entry_count):
            fields = ENTRY.unpack_from(self.memory, HEADER_BYTES + entry * ENTRY_BYTES)
            sequence, state, pending, ring, slot, offset, nbytes, *parent, meta_len, flags = fields
            if sequence == NEVER:
                continue
            self.next_sequence = max(self.next_sequence, sequence if state == WRITING else sequence + 1)
            if state == COMMITTED and pending:
                ref = SlotRef(ring, slot, offset, nbytes, "", (), ())
                meta, outcome = self.meta_at(entry, meta_len), flags >> OUTCOME_SHIFT
                kept.append(Adopted(entry, sequence, pending, ref, (parent[0], parent[1], parent[2]), meta, outcome))
            else:
                self._u32[entry * ENTRY_U32 + STATE_U32] = FREE
        for row in kept:
            self.entry_sequence[row.entry] = row.sequence
            self._free_entries.remove(row.entry)
            if row.ref.ring == self.shape.id:
                self._entry_slot[row.entry] = row.ref.slot
                self._slot_users[row.ref.slot] += 1
        unused = [slot for slot in self._free_slots if not self._slot_users[slot]]
        spare_count = max(0, len(unused) - (self.shape.slot_count - (self.geometry.slot_count - len(unused))))
        self._spare_slots, self._free_slots = unused[:spare_count], unused[spare_count:]
        return sorted(kept, key=lambda row: row.sequence)

    def meta_at(self, entry: int, meta_len: int) -> bytes:
        start = self.geometry.meta_offset + entry * self.geometry.meta_bytes
        return bytes(self._bytes[start : start + min(meta_len, self.geometry.meta_bytes)])

    def meta_of(self, entry: int) -> bytes:
        """The metadata of a row in use, as it was committed."""
        return self.meta_at(entry, self._u32[entry * ENTRY_U32 + FLAGS_U32 - 1])

    def mark_redelivered(self, entry: int) -> None:
        """Its next DATA may be a repeat, from now on and from whichever incarnation."""
        self._u32[entry * ENTRY_U32 + FLAGS_U32] |= REDELIVERED

    def note_outcome(self, entry: int, outcome: int) -> None:
        """An edge has completed a packet with this outcome, the worst so far; for a successor, if other edges have not completed it."""
        place = entry * ENTRY_U32 + FLAGS_U32
        self._u32[place] = self._u32[place] & REDELIVERED | outcome << OUTCOME_SHIFT

    @property
    def free_entries(self) -> int:
        return len(self._free_entries)

    @property
    def free_slots(self) -> int:
        return len(self._free_slots)

    def claim_slot(self) -> int:
        """A free slot, held once for the caller. Raises IndexError if there is none."""
        slot = self._free_slots.pop()
        self._slot_users[slot] = 1
        return slot

    def hold_slot(self, slot: int) -> None:
        self._slot_users[slot] += 1

    def release_slot(self, slot: int) -> None:
        self._slot_users[slot] -= 1
        if not self._slot_users[slot]:
            self._free_slots.append(slot)

    def lend(self) -> bool:
        """One more slot in play, the last to be used. False if no spare one is left."""
        if self._owed:
            self._owed -= 1
            return True
        if not self._spare_slots:
            return False
        self._free_slots.insert(0, self._spare_slots.pop())
        return True

    def take_back(self) -> None:
        """One slot less in play, the one that was not used for longest. If none is free it stays, for the next one that is lent."""
        if self._free_slots:
            self._spare_slots.append(self._free_slots.pop(0))
        else:
            self._owed += 1

    def quarantine(self, entry: int) -> None:
        """Never reuse the slot of a row: a view of it may live on in a process that cannot be asked."""
        slot = self._entry_slot[entry]
        if slot >= 0:
            self._slot_users[slot] += 1

    def set_aside(self, slots: Iterable[int]) -> None:
        """Never use these slots: a row of a node that is gone for good shows them, and somebody may still look."""
        for slot in slots:
            self._slot_users[slot] += 1
        self._free_slots = [slot for slot in self._free_slots if not self._slot_users[slot]]
        self._spare_slots = [slot for slot in self._spare_slots if not self._slot_users[slot]]

    def slot_view(self, slot: int, nbytes: int) -> memoryview:
        """The first `nbytes` of a slot, writable."""
        start = self.slots_offset + slot * self.slot_bytes
        return self._bytes[start : start + nbytes]

    def commit(self, meta: bytes, pending: int, ref: SlotRef, parent: Parent = NO_PARENT, flags: int = 0) -> tuple[int, int]:
        """Write an entry and make it COMMITTED; returns (entry, sequence). Raises IndexError if no row is free.

        The caller has checked that `meta` fits. A kill before the last store leaves a row that a successor discards.
        """
        entry = self._free_entries.pop()
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        slot = self._put_row(self.room, self._u64, self._bytes, self._places, entry, sequence, pending, ref, parent, flags, meta)
        self.entry_sequence[entry] = sequence
        if slot >= 0:
            self._entry_slot[entry] = slot
            self._slot_users[slot] += 1
        return entry, sequence

    def sequence_at(self, entry: int) -> int:
        """The sequence of the packet in a row, -1 if the row is free or does not exist."""
        return self.entry_sequence[entry] if 0 <= entry < self.geometry.entry_count else -1

    def complete(self, entry: int, sequence: int, bit: int) -> bool | None:
        """One edge has completed a packet. True: that was the last edge and the row is free again. None: it was not pending there.

        A stale or invented (entry, sequence) changes nothing.
        """
        if self.sequence_at(entry) != sequence or sequence < 0:
            return None
        pending = self._clear_pending(self._u32, entry, bit)
        if pending:
            return None if pending < 0 else False
        self.entry_sequence[entry] = -1
        slot = self._entry_slot[entry]
        if slot >= 0:
            self._entry_slot[entry] = -1
            self.release_slot(slot)
        self._free_entries.append(entry)
        return True

    def pending_on(self, bit: int) -> list[tuple[int, int]]:
        """(entry, sequence) of every row that an edge has not completed, in the order of their sequence."""
        rows = [(e, s) for e, s in enumerate(self.entry_sequence) if s >= 0 and self._u32[e * ENTRY_U32 + PENDING_U32] & bit]
        return sorted(rows, key=lambda row: row[1])


class RingReader:
    """A consumer's read-only view of a ring. Every reference is checked against the ring before numpy sees it."""

    def __init__(self, memory: mmap.mmap, shape: RingShape):
        self.shape, self.memory = shape, memory
        self.geometry = geometry(shape)
        self.base_address = address_of(memory)
        self.slots_address = self.base_address + self.geometry.slots_offset
        g = self.geometry
        self.reach: Any = (words(memoryview(memory)), g.slots_offset, g.slot_bytes, g.slot_count)  # what leaves.c needs of it
        self._u64 = words(memoryview(memory)[HEADER_BYTES : self.geometry.meta_offset].cast("Q"))
        self._vouched, self._entry_count = vouched, g.entry_count

    def vouches(self, records: list[Any], sequence_max: int) -> bool:
        """Does the table say the same as the records of a DATA message, and do they rise to `sequence_max` at most."""
        return self._vouched(self._u64, self._entry_count, sequence_max, records)

    def sequence_at(self, entry: int) -> int:
        """What the table says of a row that a DATA message names; the message has ordered the two."""
        return self._u64[entry * ENTRY_U64]

    def pending_on(self, bit: int) -> list[Pending]:
        """What an edge has not completed, in the order of its sequence. Only of a writer that is gone: a living one writes meanwhile."""
        found = []
        for entry in range(self.geometry.entry_count):
            sequence, state, pending, *_, meta_len, flags = ENTRY.unpack_from(self.memory, HEADER_BYTES + entry * ENTRY_BYTES)
            if state == COMMITTED and pending & bit:
                start = self.geometry.meta_offset + entry * self.geometry.meta_bytes
                meta = self.memory[start : start + min(meta_len, self.geometry.meta_bytes)]
                found.append(Pending(entry, sequence, flags & REDELIVERED, meta))
        return sorted(found, key=lambda row: row.sequence)

    def copied(self, ref: SlotRef) -> Any:
        """What is at `ref` now, copied: an array, or bytes where it is none. Raises MessageError as `interface` does."""
        import numpy as np

        view = np.asarray(_Shown(self.interface(ref)))
        return np.array(view, order="C") if ref.dtype not in ("", "msgpack") else view.tobytes()

    def interface(self, ref: SlotRef) -> dict[str, Any]:
        """The `__array_interface__` of a read-only array at `ref`.

        Raises:
          MessageError: `ref` names a slot, dtype, shape or stride that would reach outside the slot.
        """
        g = self.geometry
        element = _ELEMENTS.get(ref.dtype)
        if element is None or not 0 <= ref.slot < g.slot_count:
            raise MessageError(f"ring {self.shape.port}: slot {ref.slot} or dtype {ref.dtype!r} does not exist")
        type_string, itemsize = element
        low, high = extent(ref.shape, ref.strides, itemsize)
        nbytes = itemsize * math.prod(ref.shape)
        if ref.nbytes != nbytes:
            raise MessageError(
                f"ring {self.shape.port}: found {ref.nbytes} payload bytes, shape {ref.shape} of {ref.dtype or 'bytes'} has {nbytes}"
            )
        if ref.offset + low < 0 or ref.offset + high > g.slot_bytes:
            raise MessageError(f"ring {self.shape.port}: offset {ref.offset}, shape {ref.shape}, strides {ref.strides} leave the slot")
        return {
            "data": (self.slots_address + ref.slot * g.slot_bytes + ref.offset, True),
            "shape": ref.shape,
            "strides": ref.strides or None,
            "typestr": type_string,
            "version": 3,
        }


class _Shown:
    def __init__(self, interface: dict[str, Any]):
        self.__array_interface__ = interface
