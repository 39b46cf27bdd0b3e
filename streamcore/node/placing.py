"""Small things that an output port needs of packets: which payloads are JSON or few bytes, how a reference names them, where it has
been, and which id it gets."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from streamcore import limits
from streamcore.errors import PayloadError
from streamcore.node.positions import POSITION_MAX
from streamcore.packet import Meta, SlotRef, StreamPacket, derived_id16, source_id16
from streamcore.payload import describe_payload


def as_bytes(payload: bytes | bytearray | memoryview, port: str) -> np.ndarray[Any, Any]:
    """Bytes as an array of uint8, without a copy. Raises PayloadError if they are not contiguous."""
    if not len(payload):
        return np.empty(0, np.uint8)
    try:
        return np.frombuffer(payload, np.uint8)
    except (ValueError, BufferError) as error:
        raise PayloadError(f"port {port}: {describe_payload(payload)} is not contiguous bytes: {error}") from None


def small_bytes(payload: Any) -> bytes | None:
    """Bytes so few that they travel in the metadata: None for others, and for a view of a ring's memory, which needs no copy."""
    if isinstance(payload, (bytes, bytearray)):
        return bytes(payload) if len(payload) <= limits.INLINE_BYTES_MAX else None
    if isinstance(payload, memoryview) and isinstance(payload.obj, (bytes, bytearray)):
        return bytes(payload) if payload.nbytes <= limits.INLINE_BYTES_MAX and payload.contiguous else None
    return None


def without_payload(packet: StreamPacket, id16: bytes) -> StreamPacket:
    """What on_completed is told of: identity and meta, holding no memory."""
    return msgspec.structs.replace(packet, payload=None, lease=None, parent=None, id16=id16)


def packet_of(meta: Meta) -> StreamPacket:
    """A packet that was committed by a predecessor, without its payload."""
    return StreamPacket(meta.kind, meta.source_id, None, meta.meta, meta.id16, meta.wall_ns, meta.capture_ns, meta.position)


def trace_of(trace: Any, parent: Any, node_id: str, now_ns: int, may_begin: bool) -> Any:
    """The hops of a packet with this one; None if it is not traced. `may_begin`: a trace, if it comes by no edge."""
    if trace is None:
        return [(node_id, now_ns)] if may_begin and parent is None else None
    return [*trace, (node_id, now_ns)] if type(trace) is list and len(trace) < limits.TRACE_HOPS_MAX else trace


def id16_of(id16: Any, record: Any, position: Any, node_id: str, port: str, full_name: str) -> Any:
    """An id that a repeat gets again: counted per input, for a repeat may come in another batch. SYNC: testing.Bench._seal."""
    if record is not None:
        record.derived += 1
        return derived_id16(id16, b"%s\0%d" % (full_name.encode(), record.derived - 1))
    if position is not None:
        if type(position) is not int or not 0 <= position <= POSITION_MAX:
            raise PayloadError(f"port {full_name}: found position {position!r:.40}, expected None or 0 to {POSITION_MAX}")
        return source_id16(node_id, port, position)
    return id16


def meta_too_long(port: str, node_id: str, found: int, allowed: int) -> PayloadError:
    hint = f"put less into `meta`, or raise it with `ring: {{meta_bytes: {found}}}` at node '{node_id}'"
    return PayloadError(f"port {port}: metadata of {found} bytes, meta_bytes is {allowed}; {hint}")


def ref_to(array: np.ndarray[Any, Any], owner: Any, ring: int, slot: int, offset: int, dtype: str) -> SlotRef:
    """Name an array of a loan, or of a lease, that begins `offset` bytes behind the beginning of a slot.

    Most arrays are the whole of it, which needs no address: for one numpy builds a dict.
    """
    if array.base is not owner:
        offset += array.__array_interface__["data"][0] - owner.address
    strides = () if array.flags.c_contiguous else array.strides
    return SlotRef(ring, slot, offset, array.nbytes, dtype, array.shape, strides)
