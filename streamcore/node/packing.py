"""A packet's metadata as msgpack, and the packet that it is read to. All but meta_of have a twin in leaves.c."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from streamcore import native, packet
from streamcore.packet import Meta, SlotRef, StreamPacket, decode_json, decode_meta, encode_json, encode_meta

Fields = tuple[Any, Any, Any, Any, Any, Any]  # payload, parent, position, id16, trace, redelivered
fields_of: Callable[[Any], Fields] = attrgetter("payload", "parent", "position", "id16", "trace", "redelivered")


def meta_of(packet: Any, id16: Any, kind: str, ref: SlotRef | None, value: Any, position: Any, trace: Any) -> Meta:
    """What travels of a packet. `kind`: what the port declares, or "" where each packet says it."""
    return Meta(id16, kind or packet.kind, packet.source_id, packet.wall_ns, packet.capture_ns, ref, value, packet.meta, position, trace)


def encode_packet(packet: Any, id16: Any, kind: str, ref: SlotRef | None, value: Any, position: Any, trace: Any) -> bytes:
    """meta_of, as msgpack. Raises PayloadError for what nobody could read."""
    return encode_meta(meta_of(packet, id16, kind, ref, value, position, trace))


def open_packet(raw: bytes, redelivered: bool, sequence: int, in_port: str, record: Any) -> tuple[StreamPacket, bytes, SlotRef | None, int]:
    """The packet of an input, its id16, and where its payload lies; None: it has it, and if it is bytes the last tells how many. The caller
    gives it a lease. Raises MessageError.
    """
    meta = decode_meta(raw)
    payload, nbytes = meta.value, 0
    if type(payload) is bytes:
        payload, nbytes = memoryview(payload), len(payload)
    opened = StreamPacket(
        meta.kind,
        meta.source_id,
        payload if meta.ref is None else None,
        meta.meta,
        meta.id16,
        meta.wall_ns,
        meta.capture_ns,
        meta.position,
        redelivered,
        sequence,
        "",
        in_port,
        meta.trace,
        record,
    )
    return opened, meta.id16, meta.ref, nbytes


new_packet = vars(StreamPacket)["new"].__func__
native.take_over(vars(packet), "make_ids")
packet.draw_ids()
native.take_over(
    globals(),
    "encode_packet",
    "fields_of",
    "new_packet",
    "open_packet",
    SlotRef=SlotRef,
    StreamPacket=StreamPacket,
    encode_json=encode_json,
    decode_json=decode_json,
    decode_own=msgspec.msgpack.Decoder(dict[str, Any]).decode,
    decode_trace=msgspec.msgpack.Decoder(list[tuple[str, int]]).decode,
)
StreamPacket.new = classmethod(new_packet)  # type: ignore[assignment, method-assign]
