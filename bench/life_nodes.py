"""Nodes of the cases that measure a run's life: its start, its restarts, its rest, and what a slow consumer sees."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamcore import Node, Port, Sink, Source, StreamPacket, array

FRAME = Port("packet", array("uint8", ndim=1))
ANY = Port("packet", "any")
FIRST = "first"  # the file that holds "PID TIME" of a sink's first packet
FOLDER = {"folder": {"type": "string", "required": True, "meta": {"doc": "where the results go"}}}
FOREVER_NS = 1 << 62


class Camera(Source):
    """Frames at a rate until the run ends: copied whole, with their number as position and the time before the write as capture time."""

    outputs = {"out": FRAME}
    config = {"nbytes": {"type": "integer", "min": 1, "required": True}, "rate": {"type": "float", "min": 0.001, "required": True}}

    def run(self) -> Iterator[StreamPacket]:
        picture = np.random.default_rng(1).integers(0, 256, self.config["nbytes"], np.uint8)
        period_ns, begin_ns, number = 1e9 / self.config["rate"], time.monotonic_ns(), 0
        while self.wait_until(begin_ns + round(number * period_ns)):
            slot = self.loan("out", picture.shape)
            began_ns = time.monotonic_ns()
            np.copyto(slot, picture)
            yield StreamPacket.new(kind="packet", source_id=self.id, payload=slot, capture_ns=began_ns, position=number)
            number += 1


class Silent(Source):
    """Emits nothing, and ends when the run is asked to end."""

    outputs = {"out": ANY}

    def run(self) -> Iterator[StreamPacket]:
        self.wait_until(FOREVER_NS)
        yield from ()


class Forward(Node):
    """Passes every packet on as a reference."""

    inputs = {"in": ANY}
    outputs = {"out": ANY}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


class Last(Sink):
    """Takes everything."""

    inputs = {"in": ANY}

    def process(self, packet: StreamPacket) -> None:
        pass


class First(Sink):
    """Writes down its process and when its first packet came."""

    inputs = {"in": ANY}
    config = FOLDER

    def setup(self) -> None:
        self.first = True

    def process(self, packet: StreamPacket) -> None:
        if self.first:
            memoryview(packet.payload)[0]
            self.first = False
            _write(Path(self.config["folder"]) / FIRST, f"{os.getpid()} {time.monotonic_ns()}")


class Slow(Sink):
    """Works `work_s` on each frame; keeps when it began, and which frame it was, in the order of the frames."""

    inputs = {"in": ANY}
    config = {
        **FOLDER,
        "work_s": {"type": "float", "min": 0.0, "required": True},
        "frames": {"type": "integer", "min": 1, "required": True},
    }

    def setup(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def process(self, packet: StreamPacket) -> None:
        memoryview(packet.payload)[0]
        self.seen.append((packet.position or 0, packet.capture_ns, time.monotonic_ns()))
        time.sleep(self.config["work_s"])
        if len(self.seen) == self.config["frames"]:
            _write(Path(self.config["folder"]) / FIRST, json.dumps(self.seen))


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)
