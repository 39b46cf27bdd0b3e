"""What goes through sockets between nodes, version 1: DATA, RECEIPT, END and WAKE. Little-endian; offsets and sizes in bytes.

Every message ends with a checksum, u32: crc32 of all that is before it, begun with the run's key. The key is a random number that only
the processes of the run are told (graph.model.Boot). A message with another checksum is refused before anything of it is looked at.

Every message begins with this header:
 0   1 u8   type         DATA 1, RECEIPT 2, END 3, WAKE 4
 1   1 u8   flags        WANT 1: the sender is out of credit, send a receipt as soon as there is something to report
 2   2 u16  count        records that follow
 4   4 u32  edge         number of the edge in the plan
 8   4 u32  incarnation  of the sending process
 12  4 u32  reserved     zero

DATA record (producer to consumer), `count` times; a count of 0 with WANT only asks for a receipt:
 0   8 u64  sequence     of the packet on its port
 8   8 u64  sent_ns      monotonic time of sending
 16  4 u32  entry        its row in the producer's entry table
 20  4 u32  meta_len     bytes of metadata
 24  4 u32  flags        REDELIVERED 1
 28         metadata     packet.Meta as msgpack

RECEIPT (consumer to producer): taken_upto u64 (every packet with a lower sequence was taken), then records
 0   8 u64  sequence
 8   4 u32  entry
 12  4 u32  outcome      OK 0, DROPPED 1, then what counts as failed: REFUSED 2 (it would be refused again), AWAY 3 (where it should go
                         takes nothing now), FAILED 4, LOST 5 (and somebody may still view the payload: never reuse its slot). Of a
                         packet with several consumers the highest is told

END (producer to consumer): last u64: no packet with this or a higher sequence will come.
WAKE (a process to itself): nothing more.

What is done per message has a twin in leaves.c, which stands in its place where the inner loop is compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

from streamcore import limits, native
from streamcore.errors import MessageError

DATA: Final = 1
RECEIPT: Final = 2
END: Final = 3
WAKE: Final = 4
WANT: Final = 1
OK: Final = 0
DROPPED: Final = 1
REFUSED: Final = 2  # the first that counts as failed
AWAY: Final = 3
FAILED: Final = 4
LOST: Final = 5
OUTCOMES = ("ok", "dropped", "refused", "away", "failed", "failed")
MARK_BITS: Final = 3  # of an outcome, below the sequence, in a mark on a status page

HEADER: Final = struct.Struct("<BBHIII")
RECORD: Final = struct.Struct("<QQIII")
ONE: Final = struct.Struct("<BBHIIIQQIII")  # a header and its only record: most messages carry one packet
UPTO: Final = struct.Struct("<Q")
COMPLETION: Final = struct.Struct("<QII")
CHECK_BYTES: Final = 4
CHECKED: Final = 0x2144DF1C  # crc32 of anything with its own crc32 behind it, whatever both were begun with
RECEIPTS_MAX: Final = (limits.MESSAGE_BYTES_MAX - HEADER.size - UPTO.size - CHECK_BYTES) // COMPLETION.size

assert HEADER.size == 16 and RECORD.size == 28 and ONE.size == HEADER.size + RECORD.size and COMPLETION.size == 16

WAKE_MESSAGE = HEADER.pack(WAKE, 0, 0, 0, 0, 0)
Completion = tuple[int, int, int]  # sequence, entry, outcome
Record = tuple[int, int, int, int, bytes]  # sequence, sent_ns, entry, flags, metadata still encoded


def sealed(message: bytes, key: int) -> bytes:
    """A message as it travels (SYNC: unsealed)."""
    return message + crc32(message, key).to_bytes(CHECK_BYTES, "little")


def unsealed(raw: bytes, key: int) -> bytes:
    """What was sealed with this key. Raises MessageError for anything else (SYNC: sealed)."""
    if crc32(raw, key) != CHECKED:
        raise MessageError(f"{len(raw)} bytes whose checksum is none of this run")
    return raw[:-CHECK_BYTES]


def data_one(edge: int, incarnation: int, want: int, sequence: int, sent_ns: int, entry: int, flags: int, meta: bytes) -> bytes:
    """A DATA message with one record (SYNC: read_data)."""
    return ONE.pack(DATA, want, 1, edge, incarnation, 0, sequence, sent_ns, entry, len(meta), flags) + meta


def data_many(edge: int, incarnation: int, want: int, records: Sequence[Record]) -> bytes:
    """A DATA message with any number of records, sealed at most MESSAGE_BYTES_MAX long (SYNC: read_data)."""
    parts = [HEADER.pack(DATA, want, len(records), edge, incarnation, 0)]
    for sequence, sent_ns, entry, flags, meta in records:
        parts.append(RECORD.pack(sequence, sent_ns, entry, len(meta), flags))
        parts.append(meta)
    return b"".join(parts)


def receipt(edge: int, incarnation: int, taken_upto: int, completions: Sequence[Completion]) -> bytes:
    """At most RECEIPTS_MAX completions (SYNC: read_receipt)."""
    flat = [number for completion in completions for number in completion]
    body = struct.pack(f"<Q{'QII' * len(completions)}", taken_upto, *flat)
    return HEADER.pack(RECEIPT, 0, len(completions), edge, incarnation, 0) + body


def end(edge: int, incarnation: int, last: int) -> bytes:
    return HEADER.pack(END, 0, 0, edge, incarnation, 0) + UPTO.pack(last)


class Header(NamedTuple):
    type: int
    flags: int
    records: int
    edge: int
    incarnation: int


def read_header(raw: bytes) -> Header:
    """Raises MessageError for anything that is not one of the four types."""
    if len(raw) < HEADER.size:
        raise MessageError(f"message of {len(raw)} bytes, a header has {HEADER.size}")
    kind, flags, count, edge, incarnation, zero = HEADER.unpack_from(raw)
    if not DATA <= kind <= WAKE or flags > WANT or zero:
        raise MessageError(f"message type {kind} with flags {flags} is none of ours")
    return Header(kind, flags, count, edge, incarnation)


def read_data(raw: bytes, count: int) -> list[Record]:
    """The records of a DATA message. Raises MessageError if they do not fill it exactly (SYNC: data_one, data_many)."""
    records: list[Record] = []
    at, size = HEADER.size, len(raw)
    for _ in range(count):
        if at + RECORD.size > size:
            raise MessageError(f"DATA of {size} bytes ends inside record {len(records)} of {count}")
        sequence, sent_ns, entry, meta_len, flags = RECORD.unpack_from(raw, at)
        at += RECORD.size
        if at + meta_len > size:
            raise MessageError(f"DATA of {size} bytes: {meta_len} bytes of metadata announced, {size - at} are there")
        records.append((sequence, sent_ns, entry, flags, raw[at : at + meta_len]))
        at += meta_len
    if at != size:
        raise MessageError(f"DATA of {size} bytes has {size - at} bytes after its last record")
    return records


def read_receipt(raw: bytes, count: int) -> tuple[int, list[Completion]]:
    """(taken_upto, completions). Raises MessageError for a wrong length or an unknown outcome (SYNC: receipt)."""
    if len(raw) != HEADER.size + UPTO.size + count * COMPLETION.size:
        raise MessageError(f"RECEIPT of {len(raw)} bytes for {count} completions")
    (taken_upto,) = UPTO.unpack_from(raw, HEADER.size)
    completions = list(COMPLETION.iter_unpack(memoryview(raw)[HEADER.size + UPTO.size :]))
    if any(outcome > LOST for _, _, outcome in completions):
        raise MessageError("RECEIPT with an unknown outcome")
    return taken_upto, completions


def read_end(raw: bytes) -> int:
    """Raises MessageError for a wrong length (SYNC: end)."""
    if len(raw) != HEADER.size + UPTO.size:
        raise MessageError(f"END of {len(raw)} bytes, expected {HEADER.size + UPTO.size}")
    return int(UPTO.unpack_from(raw, HEADER.size)[0])


native.take_over(
    globals(), "sealed", "unsealed", "data_one", "data_many", "receipt", "read_header", "read_data", "read_receipt", Header=Header
)
