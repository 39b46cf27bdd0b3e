"""Records as files for other programs: MCAP, which Foxglove and Rerun open, and JSON lines. Takes any records, also those of a queue.

Each source and port is a topic, its log time the capture time and its publish time when it was stored. Pictures are messages of
foxglove.CompressedImage (png, jpeg) or foxglove.RawImage (raw arrays that are pictures, in OpenCV's order of channels) on TOPIC, in
protobuf because Rerun shows them only so. What else is known of a picture stands on TOPIC/packet. All other packets are JSON on TOPIC, as
described by PACKET_SCHEMA.

The few protobuf messages are written by hand: field number and wire type, then the value. That needs no package and no generated code.
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from streamcore.clock import iso_utc
from streamcore.durable.record import Record, unpack_json
from streamcore.errors import ConfigError
from streamcore.whole_file import whole_file

RAW_ENCODINGS = {  # of foxglove.RawImage, by dtype and channels
    ("uint8", 1): "mono8",
    ("uint8", 3): "bgr8",
    ("uint8", 4): "bgra8",
    ("uint16", 1): "mono16",
    ("float32", 1): "32FC1",
}
ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
PACKET_SCHEMA = {
    "title": "streamcore.Packet",
    "type": "object",
    "properties": {
        "packet_id": {"type": "string"},
        "sequence": {"type": "integer"},
        "ts": {"type": "string"},
        "kind": {"type": "string"},
        "source_id": {"type": "string"},
        "port": {"type": "string"},
        "position": {},
        "meta": {},
        "payload": {},
        "payload_base64": {"type": "string", "contentEncoding": "base64"},
        "payload_bytes": {"type": "integer"},
        "codec": {"type": "string"},
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
}


def topic_of(record: Record) -> str:
    """/SOURCE/PORT; the records of a queue have no port, and are told apart by their kind."""
    return f"/{record.head.source_id}/{record.head.key or record.head.kind}"


def described(record: Record, payload: str) -> dict[str, Any]:
    """A record as JSON. `payload`: what of it is bytes comes as "base64", or is left out with "none". Raises ValueError for bad JSON."""
    head = record.head
    facts: dict[str, Any] = {
        "packet_id": record.id16.hex(),
        "sequence": record.sequence,
        "ts": iso_utc(record.wall_ns),
        "kind": head.kind,
        "source_id": head.source_id,
        "port": head.key,
        "position": head.position,
        "meta": head.meta,
    }
    if head.codec == "json":
        return facts | {"payload": msgspec.to_builtins(unpack_json(record.payload))}
    facts |= {"codec": head.codec, "payload_bytes": len(record.payload)}
    if head.dtype:
        facts |= {"dtype": head.dtype, "shape": list(head.shape)}
    return facts | ({"payload_base64": base64.b64encode(record.payload).decode()} if payload == "base64" else {})


def write_jsonl(records: Iterable[Record], file: BinaryIO) -> int:
    """A line for each record; of arrays and bytes only what they are. How many."""
    count = 0
    for record in records:
        line = json.dumps(described(record, "none"), ensure_ascii=False, separators=(",", ":"))
        file.write(line.encode("utf-8", "surrogatepass") + b"\n")
        count += 1
    return count


def write_mcap(records: Iterable[Record], file: BinaryIO) -> int:
    """How many records were written. Raises ConfigError if the package mcap is not installed."""
    mcap = _mcap()
    writer = mcap.Writer(file, compression=mcap.CompressionType.ZSTD)
    writer.start(profile="", library="streamcore")
    channels = _Channels(writer)
    count = 0
    for record in records:
        topic = topic_of(record)
        image, schema = _image(record)
        if image is not None:
            channels.add(record, topic, schema, image)
            topic += "/packet"
        facts = described(record, "none" if image is not None else "base64")
        channels.add(record, topic, "", json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        count += 1
    writer.finish()
    return count


def require_mcap() -> None:
    """Raises ConfigError, which says what to install, unless write_mcap() can work."""
    _mcap()


def _mcap() -> Any:
    try:
        return importlib.import_module("mcap.writer")
    except ImportError:
        raise ConfigError("MCAP needs the package mcap, which is not installed: pip install 'streamcore[mcap]'") from None


class _Channels:
    """The schemas and channels of a file, made when the first message of each comes. `schema` "" is PACKET_SCHEMA."""

    def __init__(self, writer: Any):
        self._writer = writer
        self._schemas: dict[str, int] = {}
        self._channels: dict[tuple[str, str], int] = {}

    def add(self, record: Record, topic: str, schema: str, data: bytes) -> None:
        encoding = "protobuf" if schema else "json"
        if schema not in self._schemas:
            if schema:
                self._schemas[schema] = self._writer.register_schema(name=schema, encoding="protobuf", data=_descriptor(schema))
            else:
                raw = json.dumps(PACKET_SCHEMA).encode()
                self._schemas[schema] = self._writer.register_schema(name=PACKET_SCHEMA["title"], encoding="jsonschema", data=raw)
        channel = self._channels.get((topic, schema))
        if channel is None:
            channel = self._writer.register_channel(topic=topic, message_encoding=encoding, schema_id=self._schemas[schema])
            self._channels[topic, schema] = channel
        self._writer.add_message(
            channel_id=channel,
            log_time=max(0, record.wall_ns),
            publish_time=max(0, record.stored_ns),
            sequence=record.sequence & 0xFFFFFFFF,
            data=data,
        )


def _image(record: Record) -> tuple[bytes | None, str]:
    """A picture as protobuf, and the name of its message; None if the record is no picture that viewers know."""
    head, payload = record.head, record.payload
    when = _message(1, _number(1, record.wall_ns // 1_000_000_000) + _number(2, record.wall_ns % 1_000_000_000))
    source = head.source_id.encode()
    if head.codec in ("png", "jpeg"):
        return when + _message(2, payload) + _message(3, head.codec.encode()) + _message(4, source), "foxglove.CompressedImage"
    channels = head.shape[2] if len(head.shape) == 3 else 1
    encoding = RAW_ENCODINGS.get((head.dtype, channels)) if head.codec == "raw" and len(head.shape) in (2, 3) else None
    if encoding is None:
        return None, ""
    height, width = head.shape[:2]
    sizes = _fixed32(2, width) + _fixed32(3, height) + _message(4, encoding.encode())
    step = _fixed32(5, width * channels * ITEM_BYTES[head.dtype])
    return when + sizes + step + _message(6, payload) + _message(7, source), "foxglove.RawImage"


# --- protobuf: fields of a message, and the descriptors of the messages above. Names and numbers are Foxglove's and Google's.

_BYTES, _FIXED32, _INT32, _INT64, _MESSAGE, _STRING = 12, 7, 5, 3, 11, 9  # FieldDescriptorProto.Type
_FIELDS = {
    "foxglove.CompressedImage": (("timestamp", 1, _MESSAGE), ("data", 2, _BYTES), ("format", 3, _STRING), ("frame_id", 4, _STRING)),
    "foxglove.RawImage": (
        ("timestamp", 1, _MESSAGE),
        ("width", 2, _FIXED32),
        ("height", 3, _FIXED32),
        ("encoding", 4, _STRING),
        ("step", 5, _FIXED32),
        ("data", 6, _BYTES),
        ("frame_id", 7, _STRING),
    ),
}
_TIMESTAMP_FILE = "google/protobuf/timestamp.proto"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & 2**64 - 1)


def _fixed32(field: int, value: int) -> bytes:
    return _varint(field << 3 | 5) + value.to_bytes(4, "little")


def _message(field: int, raw: bytes) -> bytes:
    """Also of text and bytes: all three are a length and what it counts."""
    return b"".join((_varint(field << 3 | 2), _varint(len(raw)), raw))


def _descriptor(schema: str) -> bytes:
    """The FileDescriptorSet of one of _FIELDS, with the file that it imports."""
    package, _, name = schema.partition(".")
    stamp = _type("Timestamp", (("seconds", 1, _INT64), ("nanos", 2, _INT32)))
    file = _message(1, f"{package}/{name}.proto".encode()) + _message(2, package.encode()) + _message(3, _TIMESTAMP_FILE.encode())
    imported = _message(1, _TIMESTAMP_FILE.encode()) + _message(2, b"google.protobuf") + _message(4, stamp) + _message(12, b"proto3")
    return _message(1, imported) + _message(1, file + _message(4, _type(name, _FIELDS[schema])) + _message(12, b"proto3"))


def _type(name: str, fields: tuple[tuple[str, int, int], ...]) -> bytes:
    """A DescriptorProto: each field has name 1, number 3, label 4 (optional) and type 5, and 6 names the type of a message."""
    raw = _message(1, name.encode())
    for field, number, kind in fields:
        one = _message(1, field.encode()) + _number(3, number) + _number(4, 1) + _number(5, kind)
        raw += _message(2, one + (_message(6, b".google.protobuf.Timestamp") if kind == _MESSAGE else b""))
    return raw


def save(records: Iterable[Record], path: Path, form: str) -> int:
    """Write `records` to the file at `path` as `form`, mcap or jsonl; it appears when it is complete. How many. Raises OSError."""
    if form == "mcap":
        require_mcap()
    with whole_file(path) as file:
        return (write_mcap if form == "mcap" else write_jsonl)(records, file)
