"""debug.print, debug.hash and debug.null: sinks that tell what arrived."""

from __future__ import annotations

import json
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import Port, Sink, StreamPacket
from streamcore_nodes.line_file import LineFile, line_of
from streamcore_nodes.stream_time import frame_number

HASH_BYTES = 16
PRINTED_CHARS_MAX = 200


def describe(payload: Any) -> str:
    """A payload in one short line."""
    if isinstance(payload, np.ndarray):
        return f"{payload.dtype} {'x'.join(map(str, payload.shape))}"
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return f"{len(payload)} bytes"
    text = json.dumps(payload, ensure_ascii=False, default=str)
    return text if len(text) <= PRINTED_CHARS_MAX else text[: PRINTED_CHARS_MAX - 3] + "..."


def payload_hash(payload: Any) -> str:
    """Hex blake2b (16 bytes) of a payload's bytes: an array's elements in C order, bytes as they are, JSON with sorted keys, no spaces."""
    if isinstance(payload, np.ndarray):
        raw: Any = np.ascontiguousarray(payload).reshape(-1).view(np.uint8)
    elif isinstance(payload, (bytes, bytearray, memoryview)):
        raw = payload
    else:
        raw = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return blake2b(raw, digest_size=HASH_BYTES).hexdigest()


class Print(Sink):
    """Print one line per packet to standard output, which is the node's log."""

    inputs = {"in": Port("any", "any")}
    config = {
        "every": {"type": "integer", "min": 1, "default": 1, "meta": {"doc": "print each n-th packet"}},
        "meta": {"type": "boolean", "default": False, "meta": {"doc": "print meta too"}},
    }

    def setup(self) -> None:
        self.seen = 0

    def process(self, packet: StreamPacket) -> None:
        self.seen += 1
        if self.seen % self.config["every"]:
            return
        again = " again" if packet.redelivered else ""
        meta = f"  meta {describe(packet.meta)}" if self.config["meta"] else ""
        print(f"#{packet.sequence}{again} {packet.ts} {packet.kind} of {packet.source_id}: {describe(packet.payload)}{meta}", flush=True)


class Hash(Sink):
    """Write a JSON line per packet that proves what arrived: the witness of tests.

    {"port", "sequence", "packet_id", "source_id", "frame", "position", "kind", "redelivered", "hash", "shape", "dtype"}; `hash` is blake2b
    (16 bytes, hex) of the payload's bytes, of an array's in C order. Lines are appended to `path`, each at once, so the file is complete
    up to a kill; without `path` they go to standard output, which is the node's log.
    """

    inputs = {"in": Port("any", "any")}
    config = {"path": {"type": "string", "default": "", "meta": {"doc": "file to append to; empty: standard output"}}}

    def setup(self) -> None:
        self.file = LineFile(Path(self.config["path"]).expanduser()) if self.config["path"] else None

    def process(self, packet: StreamPacket) -> None:
        payload = packet.payload
        is_array = isinstance(payload, np.ndarray)
        line = line_of(
            {
                "port": packet.in_port,
                "sequence": packet.sequence,
                "packet_id": packet.packet_id,
                "source_id": packet.source_id,
                "frame": frame_number(packet),
                "position": packet.position,
                "kind": packet.kind,
                "redelivered": packet.redelivered,
                "hash": payload_hash(payload),
                "shape": list(payload.shape) if is_array else None,
                "dtype": str(payload.dtype) if is_array else None,
            }
        )
        if self.file is not None:
            self.file.append([line])
        else:
            sys.stdout.write(line.decode() + "\n")

    def flush(self) -> None:
        sys.stdout.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class Null(Sink):
    """Take packets and drop them; of an array the first and the last byte are read, so that its memory has been touched. For measuring."""

    inputs = {"in": Port("any", "any")}
    config = {"batch": {"type": "integer", "min": 1, "max": 1024, "default": 64, "meta": {"doc": "packets taken at once"}}}
    batch_max = "batch"

    def setup(self) -> None:
        self.touched = 0

    def process_batch(self, packets: list[StreamPacket]) -> None:
        for packet in packets:
            payload = packet.payload
            if isinstance(payload, np.ndarray) and payload.size:
                self.touched ^= int(payload.flat[0]) ^ int(payload.flat[-1])
