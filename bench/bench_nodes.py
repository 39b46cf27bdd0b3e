"""Nodes for measuring: a source that writes each packet freshly, and a sink that touches the first and last byte of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from streamcore import Node, Port, Sink, Source, StreamPacket, array


class Frames(Source):
    """`count` frames of `height` x `width` x 3 bytes, each copied whole into its slot; `rate` 0 is flat out."""

    outputs = {"out": Port("frame", array("uint8", ndim=3))}
    config = {
        "height": {"type": "integer", "min": 1, "required": True},
        "width": {"type": "integer", "min": 1, "required": True},
        "count": {"type": "integer", "min": 1, "required": True},
        "rate": {"type": "float", "min": 0, "default": 0.0},
    }

    def run(self) -> Iterator[StreamPacket]:
        shape = (self.config["height"], self.config["width"], 3)
        picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        interval_ns = round(1e9 / self.config["rate"]) if self.config["rate"] else 0
        due_ns, cpu = time.monotonic_ns(), self.metrics.gauge("cpu_s")
        began_cpu_s = 0.0
        for i in range(self.config["count"]):
            if i == WARM_UP:
                began_cpu_s = time.process_time()
            if interval_ns:
                due_ns += interval_ns
                if not self.wait_until(due_ns):
                    return
            began_ns = time.monotonic_ns()
            frame = self.loan("out", shape)
            np.copyto(frame, picture)
            frame[0, 0, 0] = frame[-1, -1, -1] = i & 255
            yield StreamPacket.new(kind="frame", source_id=self.id, payload=frame, capture_ns=began_ns)
            cpu.set(time.process_time() - began_cpu_s)


class Small(Source):
    """`count` JSON packets of about `nbytes` bytes, flat out."""

    outputs = {"out": Port("data", "json")}
    config = {
        "count": {"type": "integer", "min": 1, "required": True},
        "nbytes": {"type": "integer", "min": 16, "default": 64},
    }

    def run(self) -> Iterator[StreamPacket]:
        padding, new = "x" * (self.config["nbytes"] - 16), StreamPacket.new
        for i in range(self.config["count"]):
            yield new(kind="data", source_id=self.id, payload={"i": i, "pad": padding})


class Forward(Node):
    """Passes every frame on as a reference."""

    inputs = {"in": Port("frame", array("uint8", ndim=3))}
    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


WARM_UP = 50  # packets before the clock starts: the first touch of fresh memory costs eight copies


class Touch(Sink):
    """Checks first and last byte against the packet's number; publishes rate, CPU and latency of all but the first packets."""

    inputs = {"in": Port("any", "any")}

    def setup(self) -> None:
        self._seen = self._bad = 0
        self._latencies_ns: list[int] = []

    def process(self, packet: StreamPacket) -> None:
        payload, number = packet.payload, self._seen
        if isinstance(payload, dict):
            right = payload["i"] == number
        else:
            right = payload[0, 0, 0] == number & 255 == payload[-1, -1, -1]
            self._latencies_ns.append(time.monotonic_ns() - packet.capture_ns)
        self._bad += not right
        self._seen += 1
        if self._seen == WARM_UP:
            self._began_ns, self._began_cpu_s = time.monotonic_ns(), time.process_time()

    def close(self) -> None:
        gauge = self.metrics.gauge
        gauge("wrong").set(self._bad)
        gauge("measured").set(self._seen - WARM_UP)
        gauge("elapsed_s").set((time.monotonic_ns() - self._began_ns) / 1e9)
        gauge("cpu_s").set(time.process_time() - self._began_cpu_s)
        if self._latencies_ns:
            late = sorted(self._latencies_ns[WARM_UP:])
            gauge("latency_p50_us").set(late[len(late) // 2] / 1e3)
            gauge("latency_p99_us").set(late[len(late) * 99 // 100] / 1e3)
