"""Nodes that do to themselves what their config says, for the fault cases. A harm done once leaves a file behind, so it is not repeated."""

from __future__ import annotations

import copy
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import ConfigError, Node, Port, Sink, Source, StreamPacket

ANY = Port("any", "any")


def do_harm(how: str) -> None:
    """One of: stop, gil, native, spin, segfault, exit, raise, config, memory."""
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "raise":
        raise RuntimeError("harm was asked for")
    elif how == "config":
        raise ConfigError("harm is configured")
    elif how == "memory":
        limit_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        np.ones(1 << 30, np.uint8)
    while how != "stop":  # a signal ends a sleep early
        if how == "gil":
            ctypes.PyDLL(None).sleep(1000)
        elif how == "native":
            ctypes.CDLL(None).sleep(1000)


class Harm(Node):
    """Forward, and do harm over the frames `at`; each once, if `once`."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    config = {
        "how": {"type": "string"},
        "at": {"type": "list", "schema": {"type": "integer"}},
        "once": {"type": "boolean", "default": True},
    }

    def process(self, packet: StreamPacket) -> StreamPacket:
        frame = (packet.meta or {})["frame"]
        if frame in self.config["at"] and self.first_time(frame):
            do_harm(self.config["how"])
        return packet.derive(payload=packet.payload)

    def first_time(self, frame: int) -> bool:
        if not self.config["once"]:
            return True
        done = Path(f"{self.id}.{frame}.harmed")
        if done.exists():
            return False
        done.touch()
        return True


class HarmInSetup(Node):
    inputs, outputs = {"in": ANY}, {"out": ANY}
    config = {"how": {"type": "string"}}

    def setup(self) -> None:
        do_harm(self.config["how"])

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


class WithChildren(Node):
    """Forward, with two processes of its own: one in its group, one in a session of its own."""

    inputs, outputs = {"in": ANY}, {"out": ANY}

    def setup(self) -> None:
        command = [sys.executable, "-c", "import time; time.sleep(1000)"]
        self.children = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


class Keep(Node):
    """Forward in order, keeping the last `keep` packets."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    config: Any = {"keep": {"type": "integer", "default": 3}}
    retention = "keep"

    def setup(self) -> None:
        self.kept: list[StreamPacket] = []

    def process(self, packet: StreamPacket) -> StreamPacket | None:
        self.kept.append(packet)
        if len(self.kept) <= self.config["keep"]:
            return None
        oldest = self.kept.pop(0)
        return oldest.derive(payload=oldest.payload)

    def flush(self) -> Any:
        while self.kept:
            oldest = self.kept.pop(0)
            yield oldest.derive(payload=oldest.payload)


class Tired(Sink):
    """Take its time over each packet."""

    inputs = {"in": ANY}
    config = {"work_ms": {"type": "integer"}}

    def process(self, packet: StreamPacket) -> None:
        time.sleep(self.config["work_ms"] / 1000)


class Turn(Node):
    """Forward each picture turned by half a circle: a view with negative strides, no pixel is copied."""

    inputs, outputs = {"in": ANY}, {"out": ANY}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload[::-1, ::-1])


class Copy(Node):
    """Pass on an equal payload in memory of its own: made by node code, or written into a loan."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    config: Any = {"loan": {"type": "boolean", "default": False}}

    def process(self, packet: StreamPacket) -> StreamPacket:
        if not self.config["loan"]:
            return packet.derive(payload=copy.deepcopy(packet.payload))
        out = self.loan("out", packet.payload.shape, packet.payload.dtype)
        out[...] = packet.payload
        return packet.derive(payload=out)


class Batch(Node):
    """Forward packets in groups."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    batch_max = 4

    def process_batch(self, packets: list[StreamPacket]) -> list[StreamPacket]:
        return [packet.derive(payload=packet.payload) for packet in packets]


class Count(Sink):
    """Count packets, and those that did not come in their turn: numbers in a JSON payload or in the first bytes of a frame."""

    inputs = {"in": ANY}
    config: Any = {"batch": {"type": "integer", "default": 64}}
    batch_max = "batch"

    def setup(self) -> None:
        self.next = 0
        self.counted, self.wrong = self.metrics.counter("counted"), self.metrics.counter("wrong")

    def process_batch(self, packets: list[StreamPacket]) -> None:
        for packet in packets:
            payload = packet.payload
            number = payload["n"] if isinstance(payload, dict) else int.from_bytes(payload.reshape(-1)[:8].tobytes(), "little")
            if number != self.next:
                self.wrong.add()
            self.next = number + 1
        self.counted.add(len(packets))


class Wordy(Source):
    """`count` packets whose metadata is as long as it gets, once the file `go` is there."""

    outputs = {"out": Port("words", "json")}
    config = {"count": {"type": "integer"}, "chars": {"type": "integer", "max": 8000}}

    def run(self) -> Iterator[StreamPacket]:
        while not Path("go").exists() and self.wait_until(time.monotonic_ns() + 10_000_000):
            pass
        for number in range(self.resume_position or 0, self.config["count"]):
            payload = {"number": number, "words": "x" * self.config["chars"]}
            yield StreamPacket.new(kind="words", source_id=self.id, payload=payload, position=number + 1)
