"""Small things about payloads that an output port needs: which are JSON, which bytes they are, how a reference names them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from streamcore.errors import PayloadError
from streamcore.packet import SlotRef, StreamPacket, describe_payload

JSON_TYPES = frozenset({dict, list, tuple, str, int, float, bool, type(None)})  # the common ones, found by one look-up


def as_bytes(payload: bytes | bytearray | memoryview, port: str) -> np.ndarray[Any, Any]:
    """Bytes as an array of uint8, without a copy. Raises PayloadError if they are not contiguous."""
    if not len(payload):
        return np.empty(0, np.uint8)
    try:
        return np.frombuffer(payload, np.uint8)
    except (ValueError, BufferError) as error:
        raise PayloadError(f"port {port}: {describe_payload(payload)} is not contiguous bytes: {error}") from None


def without_payload(packet: StreamPacket, id16: bytes) -> StreamPacket:
    """What on_completed is told of: identity and meta, holding no memory."""
    return msgspec.structs.replace(packet, payload=None, lease=None, parent=None, id16=id16)


def ref_to(array: np.ndarray[Any, Any], ring: int, slot: int, start: int, dtype: str) -> SlotRef:
    """Name an array that lies in a slot which begins at address `start`."""
    offset = array.__array_interface__["data"][0] - start
    strides = () if array.flags.c_contiguous else array.strides
    return SlotRef(ring, slot, offset, array.nbytes, dtype, array.shape, strides)
