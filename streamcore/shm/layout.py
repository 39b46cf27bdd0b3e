"""Byte layout of a ring segment, version 1. Little-endian; offsets and sizes in bytes.

 offset  size type field           writer       meaning
 0          8 u64  magic           coordinator  stored last; attach() refuses a segment without it
 8          4 u32  version         coordinator  attach() refuses any other: found, expected
 12         4 u32  ring            coordinator  number of the ring in the plan
 16         4 u32  entry_count     coordinator  2 .. limits.ENTRIES_MAX
 20         4 u32  slot_count      coordinator  at least 1: those of the plan, and one for each tap that there may be
 24         8 u64  meta_bytes      coordinator  room for the metadata of one entry, a multiple of 64
 32         8 u64  slot_bytes      coordinator  room of one slot, a multiple of the page size
 40        16 16s  run_id          coordinator  16 bytes; rings of another run are refused
 56        72 72s  port            coordinator  node.port, UTF-8, zero padded
 4096            entries: entry_count rows of 64 bytes
  + 0       8 u64  sequence        node         of the packet; kept when the row becomes FREE; NEVER before its first use
  + 8       4 u32  state           node         FREE 0, WRITING 1, COMMITTED 2; COMMITTED is stored after everything else
  + 12      4 u32  edges_pending   node         bit per edge of the port that has not completed the packet
  + 16      4 u32  ref_ring        node         whose slot holds the payload; NO_RING: it is in the metadata
  + 20      4 u32  ref_slot        node         which slot of that ring
  + 24      8 u64  ref_offset      node         of the payload's first element from the start of the slot
  + 32      8 u64  ref_nbytes      node         payload bytes
  + 40      4 u32  parent_edge     node         input that it was derived from; NO_EDGE: none
  + 44      4 u32  parent_entry    node         its entry in the producer's ring
  + 48      8 u64  parent_sequence node         its sequence on that edge
  + 56      4 u32  meta_len        node         bytes of metadata in use
  + 60      4 u32  flags           node         REDELIVERED 1; from bit 8 on the worst outcome of the edges that have completed the packet
 then            metadata: entry_count rooms of meta_bytes, then, page aligned, slot_count slots of slot_bytes

One process writes a ring: the node that owns the port. A consumer learns of an entry by a DATA message and gives it back by a
RECEIPT; both pass through the kernel, which orders the bytes on every CPU. Nothing here relies on the order of plain stores between
processes. A successor of a killed writer reads the table after the kernel has reaped its predecessor, which orders them as well.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from typing import Final

from streamcore import limits
from streamcore.errors import MessageError

MAGIC = 0x31474E5252545353  # "SSTRRNG1"
VERSION = 1
HEADER = struct.Struct("<QIIIIQQ16s72s")
HEADER_BYTES: Final = 4096
# Native, so that each field is one store: bytewise a kill could leave a sequence that is neither the old nor the new one. All fields are
# aligned, so native order and sizes are those of the table on every machine that we run on.
ENTRY = struct.Struct("@QIIIIQQIIQII")
ENTRY_BYTES: Final = 64
# All of an entry but its sequence. pack_into zeroes the bytes before it packs them, so a kill could leave sequence 0: the one number by
# which a successor knows how far the port had come. It is stored by itself, before these.
ENTRY_REST = struct.Struct("@IIIIQQIIQII")
ENTRY_REST_OFFSET: Final = 8
FREE: Final = 0
WRITING: Final = 1
COMMITTED: Final = 2
NO_RING: Final = 0xFFFFFFFF
NO_EDGE: Final = 0xFFFFFFFF
REDELIVERED: Final = 1
OUTCOME_SHIFT: Final = 8
NEVER: Final = 0xFFFFFFFFFFFFFFFF
INTP_MAX: Final = 2**63 - 1  # of numpy's sizes and strides

assert HEADER.size == 128 and HEADER.size <= HEADER_BYTES
assert ENTRY.size == ENTRY_REST_OFFSET + ENTRY_REST.size == ENTRY_BYTES and sys.byteorder == "little"

# places of single fields in the table seen as u32, and of the sequence, and of state and edges_pending together, seen as u64
STATE_U32: Final = 2
PENDING_U32: Final = 3
FLAGS_U32: Final = 15
ENTRY_U32: Final = 16
ENTRY_U64: Final = 8
STATE_U64: Final = 1

assert ENTRY_U32 * 4 == ENTRY_U64 * 8 == ENTRY_BYTES and (STATE_U32, PENDING_U32) == (2 * STATE_U64, 2 * STATE_U64 + 1)


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


@dataclass(frozen=True)
class Geometry:
    """Where everything of one ring lies. Built from the four numbers of its plan."""

    entry_count: int
    meta_bytes: int
    slot_count: int
    slot_bytes: int

    @classmethod
    def of(cls, entry_count: int, meta_bytes: int, slot_count: int, slot_bytes: int) -> Geometry:
        """Round the rooms up to what the layout wants; raises ValueError for counts outside their bounds."""
        if not 2 <= entry_count <= limits.ENTRIES_MAX or not 1 <= slot_count <= limits.ENTRIES_MAX:
            raise ValueError(f"entry_count {entry_count} or slot_count {slot_count} is not 2 .. {limits.ENTRIES_MAX}")
        if meta_bytes < 1 or not 1 <= slot_bytes <= limits.SLOT_BYTES_MAX:
            raise ValueError(f"meta_bytes {meta_bytes} or slot_bytes {slot_bytes} is out of bounds")
        return cls(entry_count, round_up(meta_bytes, 64), slot_count, round_up(slot_bytes, limits.PAGE_BYTES))

    @property
    def meta_offset(self) -> int:
        return HEADER_BYTES + self.entry_count * ENTRY_BYTES

    @property
    def slots_offset(self) -> int:
        return round_up(self.meta_offset + self.entry_count * self.meta_bytes, limits.PAGE_BYTES)

    @property
    def segment_bytes(self) -> int:
        return self.slots_offset + self.slot_count * self.slot_bytes


def extent(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Lowest and highest byte, relative to the first element, that an array touches; in Python integers, so nothing overflows.

    Raises MessageError for negative sizes, too many axes, strides that do not match the shape, or numbers that numpy cannot hold: a
    stride of 0, or an axis of no length, lets any size stay inside the slot.
    """
    if len(shape) > limits.NDIM_MAX or (strides and len(strides) != len(shape)) or any(n < 0 for n in shape):
        raise MessageError(f"shape {shape} with strides {strides} is no array")
    if itemsize * math.prod(n or 1 for n in shape) > INTP_MAX or any(abs(stride) > INTP_MAX for stride in strides):
        raise MessageError(f"shape {shape} with strides {strides} is too large for an array")
    if not strides:
        total = itemsize
        for n in shape:
            total *= n
        return 0, total
    if 0 in shape:
        return 0, 0
    steps = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + itemsize
