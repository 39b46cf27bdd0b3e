"""flow.delay and flow.initial: the nodes that a cycle may pass through. They pass on copies, so that no cycle holds memory of others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from streamcore import Node, Port, StreamPacket

COPY = Port("any", "any", forwards=(), doc="copies, with ids of their own")


def own_copy(packet: StreamPacket) -> StreamPacket:
    """The same packet with nothing left of its input: no memory, and no trace, which would grow with every round."""
    payload = packet.payload
    if isinstance(payload, np.ndarray):
        payload = payload.copy()
    elif isinstance(payload, memoryview):
        payload = bytes(payload)
    return StreamPacket.new(
        kind=packet.kind,
        source_id=packet.source_id,
        payload=payload,
        meta=packet.meta,
        wall_ns=packet.wall_ns,
        capture_ns=packet.capture_ns,
    )


class Delay(Node):
    """Pass each packet on when `packets` further ones have come (1 if nothing is said), or one that was captured `seconds` later.

    What is held at the end of the stream is passed on then. What is held are copies: if the process is killed, they are lost. A cycle may
    pass through this node; its edge into the cycle has to drop when it is full (`policy: latest`, say).
    """

    inputs = {"in": Port("any", "any")}
    outputs = {"out": COPY}
    breaks_cycles = True
    config = {
        "packets": {"type": "integer", "min": 1, "max": 1024, "excludes": "seconds", "meta": {"doc": "how many come before it leaves"}},
        "seconds": {"type": "number", "min": 0.001, "max": 3600, "excludes": "packets", "meta": {"doc": "of capture time, in their place"}},
        "held_max": {
            "type": "integer",
            "min": 1,
            "max": 1024,
            "default": 256,
            "meta": {"doc": "for `seconds`: most of them"},
        },
    }

    def setup(self) -> None:
        self.held: deque[StreamPacket] = deque()
        seconds = self.config.get("seconds")
        self.delay_ns = None if seconds is None else round(seconds * 1e9)
        self.held_max = self.config.get("packets", 1) if seconds is None else self.config["held_max"]

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        self.held.append(own_copy(packet))
        while len(self.held) > self.held_max or self._is_due(packet.capture_ns):
            yield self.held.popleft()

    def _is_due(self, now_ns: int) -> bool:
        return self.delay_ns is not None and bool(self.held) and now_ns - self.held[0].capture_ns >= self.delay_ns

    def flush(self) -> Iterator[StreamPacket]:
        while self.held:
            yield self.held.popleft()


class Initial(Node):
    """Emit `count` packets with the payload `value`, or arrays of `shape`, before anything has come; then pass on what comes.

    With it a cycle begins in which a node waits for what comes round. A cycle may pass through this node; its edge into the cycle has to
    drop when it is full (`policy: latest`, say).
    """

    inputs = {"in": Port("any", "any")}
    outputs = {"out": COPY}
    breaks_cycles = True
    config = {
        "value": {"nullable": True, "excludes": "shape", "meta": {"doc": "the payload: any JSON value; nothing: null"}},
        "shape": {
            "type": "list",
            "schema": {"type": "integer", "min": 1, "max": 65536},
            "minlength": 1,
            "maxlength": 8,
            "excludes": "value",
            "meta": {"doc": "of an array instead, filled with `fill`"},
        },
        "dtype": {
            "type": "string",
            "allowed": ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"],
            "default": "uint8",
            "meta": {"doc": "of the array"},
        },
        "fill": {"type": "number", "default": 0, "meta": {"doc": "every element of the array"}},
        "kind": {"type": "string", "empty": False, "maxlength": 64, "default": "initial", "meta": {"doc": "kind of these packets"}},
        "count": {"type": "integer", "min": 1, "max": 64, "default": 1, "meta": {"doc": "how many"}},
    }

    def begin(self) -> Iterator[StreamPacket]:
        for number in range(self.config["count"]):
            yield StreamPacket.new(kind=self.config["kind"], source_id=self.id, payload=self._payload(), position=number)

    def _payload(self) -> Any:
        if "shape" not in self.config:
            return self.config.get("value")
        array = self.loan("out", tuple(self.config["shape"]), np.dtype(self.config["dtype"]))
        array[...] = self.config["fill"]
        return array

    def process(self, packet: StreamPacket) -> StreamPacket:
        return own_copy(packet)
