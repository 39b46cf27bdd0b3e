"""Byte layout of a stored record, version 1. Little-endian; offsets and sizes in bytes.

 offset   size type field          meaning
 0           4 u32  magic          b"SCr1"; what a scan of a damaged file looks for
 4           4 u32  checksum       CRC-32 of everything after it, head and payload included
 8           8 u64  sequence       place in the queue; from 1, never used again
 16          8 i64  stored_ns      wall clock when it was appended
 24          8 i64  wall_ns        capture time of its packet, wall clock
 32         16 16s  id16           idempotency id
 48          4 u32  head_bytes     msgpack of Head, right behind this
 52          4 u32  payload_bytes  behind the head, to the end

LMDB has no checksums: a bit that flips on the disk is found by this one, never handed on.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec

from streamcore.errors import StoreError

VERSION = 1
MAGIC = int.from_bytes(b"SCr1", "little")
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
LAYOUT = struct.Struct("<IIQqq16sII")
CHECKED_FROM = 8  # the checksum covers everything from here on
_CHECKED = struct.Struct("<Qqq16sII")  # LAYOUT from there on
ID_BYTES = 16


class Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a record says of its payload. `codec`: json (msgpack of the value), bytes, raw (the array itself), png or jpeg."""

    kind: str
    source_id: str
    codec: str = "json"
    key: str = ""
    meta: dict[str, Any] | None = None
    position: int | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()


class Entry(msgspec.Struct):
    """What is appended: `id16` names it once and for all, `head.key` the lane in which its order is kept."""

    id16: bytes
    wall_ns: int
    head: Head
    payload: bytes | memoryview


class Record(msgspec.Struct):
    """A stored record."""

    sequence: int
    stored_ns: int
    wall_ns: int
    id16: bytes
    head: Head
    payload: bytes


class BadRecord(StoreError):
    """Bytes that are no record of this layout, or not the ones that were written."""


pack_json = msgspec.msgpack.Encoder().encode
unpack_json = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


def encode(entry: Entry, sequence: int, stored_ns: int) -> bytes:
    """The bytes to store. Raises StoreError for what could not be read again."""
    return b"".join((*_front(entry, sequence, stored_ns), entry.payload))


def encode_front(entry: Entry, sequence: int, stored_ns: int) -> bytes:
    """The same without the payload, which is to be written behind it: a frame need not be copied for that."""
    return b"".join(_front(entry, sequence, stored_ns))


def _front(entry: Entry, sequence: int, stored_ns: int) -> tuple[bytes, bytes, bytes, bytes]:
    if len(entry.id16) != ID_BYTES:
        raise StoreError(f"found an id of {len(entry.id16)} bytes, expected {ID_BYTES}")
    head, payload = _encode(entry.head), entry.payload
    checked = _CHECKED.pack(sequence, stored_ns, entry.wall_ns, entry.id16, len(head), len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(head, zlib.crc32(checked)))
    return MAGIC_BYTES, checksum.to_bytes(4, "little"), checked, head


def decode(raw: bytes, sequence: int) -> Record:
    """The record in `raw`. Raises BadRecord unless it is whole and that of `sequence`."""
    header = _check(raw, sequence)
    head_end = LAYOUT.size + header[6]
    return Record(sequence, header[3], header[4], header[5], decode_head(raw[LAYOUT.size : head_end], sequence), raw[head_end:])


def decode_head(raw: bytes | memoryview, sequence: int) -> Head:
    """Raises BadRecord."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRecord(f"record {sequence}: its head cannot be read: {error}") from None


def check(raw: bytes | memoryview, sequence: int) -> None:
    """Raises BadRecord unless `raw` is what was written for `sequence`."""
    _check(raw, sequence)


def head_of(raw: bytes | memoryview, sequence: int) -> Head:
    """Of a record that is sound. Raises BadRecord."""
    return decode_head(raw[LAYOUT.size : LAYOUT.size + LAYOUT.unpack_from(raw)[6]], sequence)


def whole(raw: bytes) -> int | None:
    """The sequence of the record that `raw` is, or None if it is none. For a scan of a damaged file."""
    sequence = int(LAYOUT.unpack_from(raw)[2]) if len(raw) >= LAYOUT.size else 0
    try:
        _check(raw, sequence)
    except BadRecord:
        return None
    return sequence


def claimed_bytes(raw: bytes) -> int:
    """How long the record that begins with `raw` says it is; 0 if its header is cut off."""
    if len(raw) < LAYOUT.size:
        return 0
    header = LAYOUT.unpack_from(raw)
    return int(LAYOUT.size + header[6] + header[7])


def _check(raw: bytes | memoryview, sequence: int) -> tuple[Any, ...]:
    if len(raw) < LAYOUT.size:
        raise BadRecord(f"record {sequence}: found {len(raw)} bytes, expected at least {LAYOUT.size}")
    header = LAYOUT.unpack_from(raw)
    nbytes = LAYOUT.size + header[6] + header[7]
    if header[0] != MAGIC or len(raw) != nbytes:
        raise BadRecord(f"record {sequence}: found magic {header[0]:#x} and {len(raw)} bytes, expected {MAGIC:#x} and {nbytes}")
    found = zlib.crc32(memoryview(raw)[CHECKED_FROM:])
    if found != header[1]:
        raise BadRecord(f"record {sequence}: found checksum {found:08x}, expected {header[1]:08x}")
    if header[2] != sequence:
        raise BadRecord(f"record {sequence}: found that of {header[2]} in its place")
    return header
