"""Plugins that break one promise each, and one that keeps them all: `streamctl node check` has to tell them apart."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from streamcore import ConfigError, Node, PayloadError, Port, Sink, Source, StreamPacket, array

FRAME = Port("frame", array("uint8", ndim=3))
HELD: list[Any] = []
PARKED = threading.Event()


class Good(Node):
    """Keeps the frame before, and every promise."""

    inputs, outputs = {"in": FRAME}, {"out": FRAME}
    config = {"gain": {"type": "float", "default": 1.0}, "box": {"type": "dict", "schema": {"x": {"type": "integer"}}}}
    retention = 1

    def setup(self) -> None:
        self.before: StreamPacket | None = None

    def process(self, packet: StreamPacket) -> StreamPacket:
        self.before = packet
        if not packet.payload.size:
            raise PayloadError("an empty frame")
        return packet.derive(payload=packet.payload)


class Ticks(Source):
    """A source that keeps every promise."""

    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        for number in count(0 if self.resume_position is None else self.resume_position + 1):
            if not self.wait_until(0):
                return
            yield StreamPacket.new(kind="tick", source_id="t", payload={"n": number}, position=number)


class OfFrames(Sink):
    """A sink of frames to break promises with."""

    inputs = {"in": FRAME}

    def process(self, packet: StreamPacket) -> Any:
        return None


class BadDefault(OfFrames):
    config = {"ksize": {"type": "integer", "min": 3, "default": 1}}


class TupleDefault(OfFrames):
    config = {"size": {"default": (640, 480)}}


class AnyKey(OfFrames):
    config = {"box": {"type": "dict", "schema": {"x": {"type": "integer"}}, "allow_unknown": True}}


class BadSetup(OfFrames):
    def setup(self) -> None:
        raise ConfigError("no such file: model.onnx")


class UndeclaredKey(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        self.config.get("treshold", 3)


class WrongPort(Node):
    inputs, outputs = {"in": FRAME}, {"out": FRAME}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload, port="output")


class WrongProfile(Node):
    inputs, outputs = {"in": FRAME}, {"out": FRAME}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload[..., 0])


class NoPacket(Node):
    inputs, outputs = {"in": FRAME}, {"out": FRAME}

    def process(self, packet: StreamPacket) -> Any:
        return True


class Picky(Node):
    """Takes one kind of JSON only."""

    inputs, outputs = {"in": Port("order", "json")}, {"out": Port("order", "json")}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload={"total": packet.payload["price"] * 2})


class TalkingSink(OfFrames):
    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=None)


class Deaf(Source):
    """Waits in its own way and never looks whether it should end."""

    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        PARKED.wait()
        yield StreamPacket.new(kind="tick", source_id="t", payload=1)


class Stubborn(Source):
    """Takes the False of wait_until for a spurious wake-up."""

    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        for number in count():
            while not self.wait_until(0):
                pass
            yield StreamPacket.new(kind="tick", source_id="t", payload=number)


class Immortal(Source):
    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        while True:
            try:
                yield StreamPacket.new(kind="tick", source_id="t", payload=1)
            except GeneratorExit:
                continue


class UntypedSource(Source):
    outputs = {"out": FRAME}

    def run(self) -> Iterator[StreamPacket]:
        while self.wait_until(0):
            yield StreamPacket.new(kind="frame", source_id="t", payload=np.zeros(3, np.uint8))


class Forgetful(Source):
    """Gives positions, and begins anew all the same."""

    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        for number in count():
            yield StreamPacket.new(kind="tick", source_id="t", payload=number, position=number)


class Backward(Source):
    outputs = {"out": Port("tick", "json")}

    def run(self) -> Iterator[StreamPacket]:
        for number in count():
            yield StreamPacket.new(kind="tick", source_id="t", payload=number, position=100 - number)


class NeedsInput(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        self.last = packet.meta

    def flush(self) -> None:
        self.log.info("the last was %s", self.last)


class NoRepeats(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        if packet.redelivered:
            raise SystemExit("cannot happen")


class Poisoned(OfFrames):
    """One frame that it cannot handle spoils all that follow."""

    def setup(self) -> None:
        self.broken = False

    def process(self, packet: StreamPacket) -> None:
        self.broken = self.broken or not packet.payload.size
        if self.broken:
            raise ValueError("empty")


class Quitter(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        if not packet.payload.size:
            sys.exit("an empty frame")


class Hoard(OfFrames):
    retention = 2

    def setup(self) -> None:
        self.kept: list[StreamPacket] = []

    def process(self, packet: StreamPacket) -> None:
        self.kept.append(packet)
        del self.kept[:-3]


class Cycle(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        knot: list[Any] = [packet]
        knot.append(knot)


class Global(OfFrames):
    retention = 1

    def process(self, packet: StreamPacket) -> None:
        HELD[:] = [packet.payload]


class Thread(OfFrames):
    def setup(self) -> None:
        threading.Thread(target=PARKED.wait, name="grabber").start()


class Hang(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        PARKED.wait()


class Chatter(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        while True:
            print("x" * 10_000)


class Closer(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        os.closerange(3, 256)


class Crash(OfFrames):
    def process(self, packet: StreamPacket) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Exit(OfFrames):
    def setup(self) -> None:
        os._exit(3)


class BadSchema(OfFrames):
    config = {"ksize": {"type": "whole number"}}


class Required(OfFrames):
    config = {"path": {"type": "string", "required": True}}
