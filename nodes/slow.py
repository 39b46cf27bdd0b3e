"""debug.slow: stands in for a model that needs a given time, to see how a graph behaves around it."""

from __future__ import annotations

import threading

from streamcore import Node, Port, StreamPacket


class Slow(Node):
    """Keep each packet for `work_ms` milliseconds, then pass it on by reference."""

    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}
    config = {"work_ms": {"type": "number", "min": 0, "max": 60000, "default": 100, "meta": {"doc": "milliseconds per packet"}}}

    def setup(self) -> None:
        self.never = threading.Event()

    def process(self, packet: StreamPacket) -> StreamPacket:
        self.never.wait(self.config["work_ms"] / 1e3)
        return packet.derive(payload=packet.payload, kind=packet.kind)
