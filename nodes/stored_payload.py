"""Payloads as durable stores and recordings keep them: which codec for what, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import DurableStore, PayloadError
from streamcore_nodes.picture_codec import decode_picture, encode_picture


def encode_payload(payload: Any, head: Any, codec: str, quality: int) -> bytes:
    """The bytes to store; says in `head` (a fresh Head) what they are. `codec` is for arrays. Raises PayloadError."""
    if isinstance(payload, np.ndarray):
        if not codec:
            raise PayloadError(f"found an array of {payload.dtype}, expected JSON or bytes; set `codec: raw`, png or jpeg to store it")
        head.codec, head.dtype, head.shape = codec, str(payload.dtype), payload.shape
        return encode_picture(payload, codec, quality)
    if isinstance(payload, (bytes, bytearray, memoryview)):
        head.codec = "bytes"
        return bytes(payload)
    return DurableStore.pack_json(payload)


def decode_payload(record: Any) -> Any:
    """The payload of a stored record."""
    head = record.head
    if head.codec == "json":
        return DurableStore.unpack_json(record.payload)
    return record.payload if head.codec == "bytes" else decode_picture(record.payload, head.codec, head.dtype, head.shape)
