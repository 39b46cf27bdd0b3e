"""Byte layout of the counters of a store, version 1. Little-endian; offsets and sizes in bytes.

 offset   size type field              meaning
 0           4 u32  magic              b"SCc1"; what a scan of a damaged file looks for
 4           4 u32  checksum           CRC-32 of everything after it
 8           8 u64  commits            write transactions so far
 16          8 u64  next_sequence      of the record that is appended next
 24          8 u64  first_waiting      no record below it waits; next_sequence if none waits
 32          8 u64  offered_upto       no record at or above it was ever handed out
 40          8 u64  used_bytes         room that all records take
 48          8 u64  retained_bytes     room that acknowledged ones take
 56          8 u64  appended
 64          8 u64  acknowledged
 72          8 u64  failed             negative acknowledgements
 80          8 u64  dead               became dead letters
 88          8 u64  duplicates         not stored, their id was known
 96          8 u64  dropped            by the policy for a full store
 104         8 u64  replayed           queued again: acknowledged ones, and dead letters
 112         8 u64  quarantined        found damaged and taken out
 120         8 u64  removed            given up unacknowledged: dropped on request, or dead letters beyond their bounds
 128         8 u64  dead_bytes         room that dead letters take

Written by every transaction, so the newest that a scan of a damaged file finds says what had been acknowledged.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from streamcore.errors import StoreError

VERSION = 1
MAGIC = int.from_bytes(b"SCc1", "little")
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
LAYOUT = struct.Struct("<IIQQQQQQQQQQQQQQQQ")
CHECKED_FROM = 8


class Counters(msgspec.Struct):
    """The fields of the layout, in its order."""

    commits: int = 0
    next_sequence: int = 1
    first_waiting: int = 1
    offered_upto: int = 1
    used_bytes: int = 0
    retained_bytes: int = 0
    appended: int = 0
    acknowledged: int = 0
    failed: int = 0
    dead: int = 0
    duplicates: int = 0
    dropped: int = 0
    replayed: int = 0
    quarantined: int = 0
    removed: int = 0
    dead_bytes: int = 0

    def encode(self) -> bytes:
        raw = LAYOUT.pack(MAGIC, 0, *msgspec.structs.astuple(self))
        return raw[:4] + zlib.crc32(raw[CHECKED_FROM:]).to_bytes(4, "little") + raw[CHECKED_FROM:]

    @classmethod
    def decode(cls, raw: bytes) -> Counters:
        """Raises StoreError for what encode() has not written."""
        if len(raw) != LAYOUT.size:
            raise StoreError(f"counters: found {len(raw)} bytes, expected {LAYOUT.size}")
        magic, checksum, *fields = LAYOUT.unpack(raw)
        if magic != MAGIC or checksum != zlib.crc32(raw[CHECKED_FROM:]):
            raise StoreError(f"counters: found magic {magic:#x} and a wrong checksum, expected {MAGIC:#x} and {checksum:08x}")
        return cls(*fields)
