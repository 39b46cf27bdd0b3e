"""Byte layout of what is known of a dead letter beside its record, version 1. Little-endian; offsets and sizes in bytes.

 offset   size type field         meaning
 0           4 u32  magic         b"SCd1"; what a scan of a damaged file looks for
 4           4 u32  checksum      CRC-32 of everything after it
 8           8 u64  sequence      of the record
 16          8 i64  since_ns      wall clock when it became one
 24          4 u32  failures      attempts that failed
 28          4 u32  flags         1: it was a replay
 32          4 u32  reason_bytes  the last reason, UTF-8, behind this, to the end

It says whose it is, so that it can be found in a file whose trees are broken.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from streamcore.errors import StoreError

VERSION = 1
MAGIC = int.from_bytes(b"SCd1", "little")
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
LAYOUT = struct.Struct("<IIQqIII")
CHECKED_FROM = 8  # the checksum covers everything from here on
REASON_BYTES_MAX = 1500  # so that it stays in its page, in one piece


class Death(NamedTuple):
    """Why and when a record became a dead letter."""

    sequence: int
    since_ns: int
    failures: int
    reason: str
    flags: int = 0


def encode(death: Death) -> bytes:
    reason = death.reason.encode("utf-8", "replace")[:REASON_BYTES_MAX]
    raw = LAYOUT.pack(MAGIC, 0, death.sequence, death.since_ns, death.failures, death.flags, len(reason)) + reason
    return raw[:4] + zlib.crc32(raw[CHECKED_FROM:]).to_bytes(4, "little") + raw[CHECKED_FROM:]


def decode(raw: bytes, sequence: int | None = None) -> Death:
    """What `raw` begins with. Raises StoreError unless it is whole and, if given, that of `sequence`."""
    if len(raw) < LAYOUT.size:
        raise StoreError(f"dead letter: found {len(raw)} bytes, expected at least {LAYOUT.size}")
    magic, checksum, mine, since_ns, failures, flags, reason_bytes = LAYOUT.unpack_from(raw)
    end = LAYOUT.size + reason_bytes
    if magic != MAGIC or reason_bytes > REASON_BYTES_MAX or end > len(raw) or checksum != zlib.crc32(raw[CHECKED_FROM:end]):
        raise StoreError(f"dead letter {sequence or mine}: what is known of it is not what was written")
    if sequence not in (None, mine):
        raise StoreError(f"dead letter {sequence}: found that of {mine} in its place")
    return Death(mine, since_ns, failures, raw[LAYOUT.size : end].decode(errors="replace"), flags)
