"""What passes between a node and a process that taps one of its ports, version 1: datagrams on a connection of their own.

The tapping process listens in the run directory, the node connects (SOCK_SEQPACKET, both of one user), and either of them ends the tap by
closing. Little-endian; offsets and sizes in bytes. Every datagram begins with this header, whose fields are zero where they mean nothing:

 0   1 u8   type         HELLO 1, PACKET 2, VOUCHED 3, REFUSED 4, DONE 5, NEXT 6
 1   1 u8   flags        HELD 1: the payload lies in a slot that stays as it is until DONE;  REDELIVERED 2
 2   2 u16  reserved     zero
 4   4 u32  incarnation  of the node
 8   8 u64  number       of the packet on this connection, from 1
 16  8 i64  sequence     of the packet on its port; -1: no edge took it
 24  8 u64  passed       packets of the port so far that this tap was not shown

HELLO    node to tap, first of all, with a read-only descriptor of the port's ring
PACKET   node to tap; then the metadata, packet.Meta as msgpack
NEXT     tap to node: it waits for a packet with HELD; none is sent before, so that it gets a fresh one and copies it at once
DONE     tap to node: the payload of a HELD packet was copied
VOUCHED  node to tap, the answer to DONE: the slot was held all the time. What was copied is worth nothing before
REFUSED  node to tap; then a sentence, UTF-8

VOUCHED is why a tap never shows a torn frame: who was stopped for too long, or whose node died, has copied from a slot that may have been
written anew, and there is nobody left on the connection to say otherwise.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from streamcore import limits
from streamcore.errors import MessageError

HELLO: Final = 1
PACKET: Final = 2
VOUCHED: Final = 3
REFUSED: Final = 4
DONE: Final = 5
NEXT: Final = 6
HELD: Final = 1
REDELIVERED: Final = 2
NO_SEQUENCE: Final = -1
HEADER: Final = struct.Struct("<BBHIQqQ")
DATAGRAM_BYTES_MAX: Final = HEADER.size + limits.META_BYTES_MAX
NAME_PATTERN: Final = r"_tap\.[0-9]{1,10}\.[0-9a-f]{8}"  # of its socket: process and chance. No node's inbox begins so

assert HEADER.size == 32


class Word(NamedTuple):
    """A datagram: its header, and what follows it."""

    type: int
    flags: int
    incarnation: int
    number: int
    sequence: int
    passed: int
    rest: bytes


def header(kind: int, flags: int = 0, incarnation: int = 0, number: int = 0, sequence: int = 0, passed: int = 0) -> bytes:
    return HEADER.pack(kind, flags, 0, incarnation, number, sequence, passed)


def read(raw: bytes) -> Word:
    """Raises MessageError for anything that is none of the six (SYNC: header)."""
    if len(raw) < HEADER.size:
        raise MessageError(f"datagram of {len(raw)} bytes, a header has {HEADER.size}")
    kind, flags, zero, incarnation, number, sequence, passed = HEADER.unpack_from(raw)
    if not HELLO <= kind <= NEXT or flags > HELD | REDELIVERED or zero:
        raise MessageError(f"datagram type {kind} with flags {flags} is none of a tap")
    return Word(kind, flags, incarnation, number, sequence, passed, raw[HEADER.size :])
