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
FOLDER = {"folder": {"type": "string", "required": True, "meta": {"doc": "where the results go"}}}
FIRST_FOLDER = {"folder": {"type": "string", "default": "", "meta": {"doc": "where `first-NODE` goes, if anywhere"}}}
FOREVER_NS = 1 << 62


def first_file(folder: str | Path, node: str) -> Path:
    return Path(folder, f"first-{node}")


class First:
    """Writes down the process of a node and the time of its first packet: "PID NS"."""

    def __init__(self, node: Node) -> None:
        self._path = first_file(node.config["folder"], node.id) if node.config["folder"] else None

    def packet(self) -> None:
        if self._path is not None:
            _write(self._path, f"{os.getpid()} {time.monotonic_ns()}")
            self._path = None


class Camera(Source):
    """Frames at a rate until the run ends: copied whole, with their number as position and the time before the write as capture time."""

    outputs = {"out": FRAME}
    config = {
        **FIRST_FOLDER,
        "nbytes": {"type": "integer", "min": 1, "required": True},
        "rate": {"type": "float", "min": 0.001, "required": True},
    }

    def run(self) -> Iterator[StreamPacket]:
        picture = np.random.default_rng(1).integers(0, 256, self.config["nbytes"], np.uint8)
        period_ns, begin_ns, number = 1e9 / self.config["rate"], time.monotonic_ns(), 0
        first = First(self)
        while self.wait_until(begin_ns + round(number * period_ns)):
            slot = self.loan("out", picture.shape)
            began_ns = time.monotonic_ns()
            np.copyto(slot, picture)
            yield StreamPacket.new(kind="packet", source_id=self.id, payload=slot, capture_ns=began_ns, position=number)
            first.packet()
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
    config = FIRST_FOLDER

    def setup(self) -> None:
        self.first = First(self)

    def process(self, packet: StreamPacket) -> StreamPacket:
        self.first.packet()
        return packet.derive(payload=packet.payload)


class Last(Sink):
    """Takes everything, and looks at it."""

    inputs = {"in": ANY}
    config = FIRST_FOLDER

    def setup(self) -> None:
        self.first = First(self)

    def process(self, packet: StreamPacket) -> None:
        memoryview(packet.payload)[0]
        self.first.packet()


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
            _write(first_file(self.config["folder"], self.id), json.dumps(self.seen))


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)
