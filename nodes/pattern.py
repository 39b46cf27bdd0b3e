"""synthetic.frames: packets of a given size and rate, with next to no work of its own: for measuring everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np

from streamcore import Port, Source, StreamPacket

ENVELOPE_CHARS = len('{"n":0,"pad":""}')
STAMP_BYTES = 8


def pattern(height: int, width: int, channels: int) -> np.ndarray:
    """A colourful frame without equal rows: a copy that went wrong is seen by eye and by hash."""
    rows, columns = np.arange(height, dtype=np.uint32)[:, None], np.arange(width, dtype=np.uint32)[None, :]
    layers = [(rows * (3 + i) + columns * (2 + i) + (rows * columns >> (7 + i))) & 0xFF for i in range(channels)]
    return np.ascontiguousarray(np.stack(layers, axis=2).astype(np.uint8))


def stamp(frame: np.ndarray, number: int) -> None:
    """Write `number` into the first and the last 8 bytes of a contiguous frame, little-endian."""
    flat = frame.reshape(-1)
    flat[:STAMP_BYTES] = flat[-STAMP_BYTES:] = np.frombuffer(number.to_bytes(STAMP_BYTES, "little"), np.uint8)


class Frames(Source):
    """Emit a pattern, flat out or at a rate, to measure what carries it.

    `payload: frame` gives uint8 frames of height x width x channels, filled as `fill` says: fresh copies a whole prepared frame into the
    slot and stamps the packet's number into its first and last 8 bytes, touch only stamps, none writes nothing at all.
    `payload: json` gives {"n": number, "pad": text} and `payload: bytes` the number in 8 bytes plus zeros; `bytes` is their size.
    Frames have `frame` in their meta, small packets have no meta. Position is the packet's number.
    """

    outputs = {"out": Port("any", "any", doc="frames, JSON or bytes: kind frame, data or bytes")}
    config = {
        "payload": {"allowed": ["frame", "json", "bytes"], "default": "frame", "meta": {"doc": "what to emit"}},
        "width": {"type": "integer", "min": 16, "max": 16384, "default": 1920, "meta": {"doc": "pixels of a frame"}},
        "height": {"type": "integer", "min": 1, "max": 16384, "default": 1080, "meta": {"doc": "pixels of a frame"}},
        "channels": {"type": "integer", "allowed": [1, 3, 4], "default": 3, "meta": {"doc": "bytes per pixel"}},
        "bytes": {"type": "integer", "min": 16, "max": 1 << 26, "default": 64, "meta": {"doc": "size of a JSON or bytes payload, about"}},
        "fill": {"allowed": ["fresh", "touch", "none"], "default": "fresh", "meta": {"doc": "what is written into a frame's slot"}},
        "rate": {"type": "number", "min": 0, "max": 1e6, "default": 0, "meta": {"doc": "packets per second; 0: as fast as taken"}},
        "count": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "how many; 0 never ends"}},
        "burst": {"type": "integer", "min": 1, "max": 1024, "default": 1, "meta": {"doc": "packets per yield; more than 1 yields lists"}},
        "positions": {"type": "boolean", "default": True, "meta": {"doc": "false: ids are not repeated after a restart, and cost less"}},
    }

    def setup(self) -> None:
        config = self.config
        self.shape = (config["height"], config["width"], config["channels"])
        if config["payload"] == "frame" and config["fill"] == "fresh":
            self.prepared = pattern(*self.shape)
        self.pad = "x" * max(0, config["bytes"] - ENVELOPE_CHARS)
        self.tail = bytes(config["bytes"] - STAMP_BYTES)

    def run(self) -> Iterator[StreamPacket | list[StreamPacket]]:
        make: Callable[[int], StreamPacket] = {"frame": self._frame, "json": self._json, "bytes": self._bytes}[self.config["payload"]]
        total, burst, rate = self.config["count"], self.config["burst"], float(self.config["rate"])
        first = 0 if self.resume_position is None else self.resume_position + 1
        start_ns = time.monotonic_ns()
        for number in count(first, burst):
            if self.stopping or (total and number >= total):
                return
            if rate and not self.wait_until(start_ns + round((number - first) * 1e9 / rate)):
                return
            if burst == 1:
                yield make(number)
            else:
                last = min(number + burst, total) if total else number + burst
                yield [make(i) for i in range(number, last)]

    def _frame(self, number: int) -> StreamPacket:
        out = self.loan("out", self.shape)
        fill = self.config["fill"]
        if fill == "fresh":
            np.copyto(out, self.prepared)
        if fill != "none":
            stamp(out, number)
        return self._packet("frame", out, number, {"frame": number})

    def _json(self, number: int) -> StreamPacket:
        return self._packet("data", {"n": number, "pad": self.pad}, number, None)

    def _bytes(self, number: int) -> StreamPacket:
        return self._packet("bytes", number.to_bytes(STAMP_BYTES, "little") + self.tail, number, None)

    def _packet(self, kind: str, payload: Any, number: int, meta: dict[str, Any] | None) -> StreamPacket:
        position = number if self.config["positions"] else None
        return StreamPacket.new(kind=kind, source_id=self.id, payload=payload, meta=meta, position=position)
