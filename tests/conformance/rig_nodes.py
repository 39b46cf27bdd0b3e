"""Nodes for the contract tests of node processes. What they see they write down, one JSON line each, in the file `config["out"]`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
from rig_failing import BadSetup as BadSetup
from rig_failing import Quitter as Quitter
from rig_failing import Slow as Slow
from rig_letterbox import Letterbox as Letterbox
from rig_letterbox import LetterboxOfBatches as LetterboxOfBatches
from rig_letterbox import SecondThought as SecondThought

from streamcore import Node, Port, Sink, Source, StreamPacket, array

ANY = Port("any", "any")
SHAPE = (12, 16, 3)
CHILD = """
import os, sys, time
for number in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{number}") or os.path.islink(f"/proc/self/fd/{number}"):
        print(os.readlink(f"/proc/self/fd/{number}"), end=" ")
print(flush=True)
time.sleep(999)
"""
CUTS = {"whole": np.s_[:], "crop": np.s_[2:9, 3:11], "flip": np.s_[::-1, ::-2], "step": np.s_[1::3, ::4, ::-1], "channel": np.s_[..., 1]}


def frame(number: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The picture of a number: every pixel depends on it and on its place."""
    return ((np.arange(np.prod(shape)).reshape(shape) * 7 + number * 13) % 251).astype(np.uint8)


def digest(payload: Any) -> str:
    """Of what a payload says, whatever memory it lies in."""
    if isinstance(payload, np.ndarray):
        return hashlib.blake2b(f"{payload.dtype}{payload.shape}".encode() + payload.tobytes(), digest_size=8).hexdigest()
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return hashlib.blake2b(b"bytes" + bytes(payload), digest_size=8).hexdigest()
    return hashlib.blake2b(json.dumps(payload, sort_keys=True).encode(), digest_size=8).hexdigest()


def write_down(node: Node, **line: Any) -> None:
    with open(node.config["out"], "a") as file:
        file.write(json.dumps(line) + "\n")


def wait_for_gate(source: Source) -> bool:
    """Until the test opens the gate; False if the run is to end before."""
    while not Path(source.config["gate"]).exists():
        if not source.wait_until(monotonic_ns() + 5_000_000):
            return False
    return True


def payload_of(kind: str, node: Node) -> Any:
    """A payload by its name in a test's script."""
    if kind == "loan":
        loan = node.loan("out", SHAPE)
        loan[:] = frame(1)
        return loan
    made = {
        "plain": frame(2),
        "turned": frame(3)[::-1].T,
        "floats": np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6),
        "empty": np.zeros((0, 5), np.uint8),
        "bytes": b"\0\1\2" * 500,
        "no bytes": b"",
        "json": {"boxes": [[1, 2, 3, 4]], "name": "é", "none": None},
        "none": None,
        "big json": {"text": "x" * 20_000},
        "objects": np.array([object()], object),
        "complex": np.zeros(3, complex),
        "a set": {1, 2},
        "too large": np.zeros(3 << 20, np.uint8),
    }
    return made[kind]


class Script(Source):
    """Emits a payload for each name in `config["script"]`; a name of the form "port:x" goes to that port."""

    outputs = {"out": ANY, "aux": Port("aux", "json")}

    def run(self) -> Iterator[Any]:
        for number, name in enumerate(self.config["script"]):
            port, _, kind = name.rpartition(":")
            if kind == "nonsense":
                yield 42
            elif kind == "nothing":
                yield None
            else:
                meta = {"n": number, "x": "y" * 5000} if kind == "big meta" else {"n": number}
                payload = {"n": number} if kind == "big meta" else payload_of(kind, self)
                yield StreamPacket.new(kind="x", source_id="script", payload=payload, meta=meta, port=port or "out")


class Frames(Source):
    """`count` frames (for ever without), written in place; the gate stands before number `gate_at`; `fail_at` raises, `rest_at` waits."""

    outputs = {"out": Port("frame", array("uint8"))}

    def run(self) -> Iterator[StreamPacket]:
        shape, number = tuple(self.config.get("shape", SHAPE)), 0
        pause_ns = int(self.config.get("pause_ms", 0) * 1e6)
        while number < self.config.get("count", 1 << 60):
            if number == self.config.get("fail_at"):
                raise RuntimeError("the camera fell off the wall")
            while number == self.config.get("rest_at") and self.wait_until(monotonic_ns() + 10**12):
                pass
            if number == self.config.get("gate_at") and not wait_for_gate(self):
                return
            if pause_ns and not self.wait_until(monotonic_ns() + pause_ns):
                return
            loan = self.loan("out", shape)
            loan[:] = frame(number, shape)
            packet = StreamPacket.new(kind="frame", source_id="frames", payload=loan, meta={"n": number}, position=number)
            del loan
            yield packet
            del packet
            number += 1

    def on_completed(self, packet: StreamPacket, outcome: str) -> None:
        if packet.meta["n"] in self.config.get("stumbles_at", ()):
            raise RuntimeError("the last straw")
        if self.config.get("tell"):
            write_down(self, n=packet.meta["n"], id=packet.packet_id, outcome=outcome, payload=packet.payload is None)


class Numbers(Source):
    """`count` small JSON packets, in lists of `group`."""

    outputs = {"out": Port("number", "json")}

    def run(self) -> Iterator[list[StreamPacket]]:
        group = self.config.get("group", 1)
        for start in range(0, self.config["count"], group):
            yield [StreamPacket.new(kind="number", source_id="numbers", payload={"n": start + n}) for n in range(group)]

    def close(self) -> None:
        self.log.info("closed in an orderly way")


class Typed(Source):
    """Emits what its port does not declare, and last what it does."""

    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def run(self) -> Iterator[StreamPacket]:
        for payload in (frame(0).astype(np.uint16), frame(0)[0], {"n": 1}, b"x", frame(0)):
            yield StreamPacket.new(kind="frame", source_id="typed", payload=payload, meta={"n": 0})


class Pass(Node):
    """Forwards a cut of each frame; other payloads as they are."""

    inputs, outputs = {"in": ANY}, {"out": ANY}

    def process(self, packet: StreamPacket) -> StreamPacket:
        payload = packet.payload
        if isinstance(payload, np.ndarray) and payload.ndim == 3:
            payload = payload[CUTS[self.config.get("cut", "whole")]]
        return packet.derive(payload=payload)


class Split(Node):
    """Three outputs per packet on two ports, in turns, and one of the packet before."""

    inputs, outputs = {"in": ANY}, {"left": ANY, "right": ANY}
    retention = 1

    def setup(self) -> None:
        self.before: StreamPacket | None = None

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        meta = {"n": packet.meta["n"]}
        for port in ("left", "right", "left"):
            yield packet.derive(payload=1, meta=meta, port=port)
        if self.before is not None:
            yield self.before.derive(payload=2, meta=meta, port="right")
        self.before = packet


class Copy(Node):
    """Emits a copy of each payload, either made here or by the host because the port may not forward."""

    inputs, outputs = {"in": ANY}, {"out": Port("any", "any", forwards=())}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


class Clumsy(Node):
    """Raises at numbers in `bad`, yields something wrong at numbers in `odd`, and forwards the rest."""

    inputs, outputs = {"in": ANY}, {"out": ANY}

    def process(self, packet: StreamPacket) -> Iterator[Any]:
        number = packet.meta["n"]
        if number in self.config.get("bad", ()):
            raise ValueError(f"cannot count to {number}")
        odd = self.config.get("odd", {}).get(str(number))
        if odd is not None:
            yield packet.derive(payload=1, port="nowhere") if odd == "port" else packet.derive(payload=payload_of(odd, self))
        yield packet.derive(payload=packet.payload)


class Batches(Node):
    """Takes batches, keeps the last list, and says how long each was."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    batch_max, retention = 4, 4

    def setup(self) -> None:
        self.last: list[StreamPacket] = []

    def process_batch(self, packets: list[StreamPacket]) -> Iterator[StreamPacket]:
        if any(p.meta["n"] == self.config.get("fail_at") for p in packets):
            raise ValueError("a batch went wrong")
        write_down(self, size=len(packets), last=[digest(p.payload) for p in self.last], last_n=[p.meta["n"] for p in self.last])
        self.last = packets
        yield from (packet.derive(payload=packet.payload) for packet in packets)


class Pairs(Node):
    """Makes one packet of every two, derived from the second, and has let go of the first when it is emitted."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    retention = 1

    def setup(self) -> None:
        self.kept: list[StreamPacket] = []

    def process(self, packet: StreamPacket) -> StreamPacket | None:
        self.kept.append(packet)
        if len(self.kept) < 2:
            return None
        both = [each.payload["n"] for each in self.kept]
        self.kept.clear()
        return packet.derive(payload={"n": sum(both) // 4})


class Hoard(Node):
    """Keeps every packet until the end, then emits them all, newest first."""

    inputs, outputs = {"in": ANY}, {"out": ANY}
    retention = "keep"
    config = {"keep": {"type": "integer"}}

    def setup(self) -> None:
        self.kept: list[StreamPacket] = []

    def process(self, packet: StreamPacket) -> None:
        self.kept.append(packet)

    def flush(self) -> Iterator[StreamPacket]:
        while self.kept:
            packet = self.kept.pop()
            yield packet.derive(payload=packet.payload)


class Witness(Sink):
    """Writes down each packet. Keeps the first `keep` of them, and says at the end what they show by then; `slow_ms` per packet."""

    inputs = {"in": ANY}
    retention = "keep"
    config = {"keep": {"type": "integer"}}

    def setup(self) -> None:
        self.kept: list[np.ndarray] = []
        self.boxes = self.metrics.counter("seen")

    def process(self, packet: StreamPacket) -> None:
        payload = packet.payload
        shown = {"dtype": str(payload.dtype), "shape": payload.shape} if isinstance(payload, np.ndarray) else {}
        line = {"n": (packet.meta or payload)["n"], "sequence": packet.sequence, "id": packet.packet_id, "kind": packet.kind, **shown}
        if len(self.kept) < self.config.get("keep", 0):
            self.kept.append(payload)
            write_down(self, **line, digest=digest(payload))
            return
        held = {"held": [array.tobytes().hex() for array in self.kept]} if self.config.get("show_held") else {}
        write_down(self, **line, digest=digest(payload), **held)
        self.boxes.add()
        if self.config.get("slow_ms"):
            threading.Event().wait(self.config["slow_ms"] / 1000)

    def close(self) -> None:
        if self.kept:
            write_down(self, kept=[digest(payload) for payload in self.kept])


class Strict(Sink):
    """Takes frames of one size, and writes down what it is given."""

    inputs = {"in": Port("any", array("uint8", shape=SHAPE))}

    def process(self, packet: StreamPacket) -> None:
        write_down(self, n=(packet.meta or {})["n"])


class StrictBatches(Strict):
    """The same, several at once."""

    batch_max = 4

    def process_batch(self, packets: list[StreamPacket]) -> None:
        for packet in packets:
            self.process(packet)


class Counting(Sink):
    """Writes down only how many packets came, and whether their numbers rose by one."""

    inputs = {"in": ANY}

    def setup(self) -> None:
        self.count, self.in_order = 0, True

    def process(self, packet: StreamPacket) -> None:
        self.in_order = self.in_order and packet.payload["n"] == self.count
        self.count += 1

    def close(self) -> None:
        write_down(self, count=self.count, in_order=self.in_order)


class Threaded(Sink):
    """Hands each payload to another thread, which lets go of it a little later."""

    inputs = {"in": ANY}
    retention = 2

    def setup(self) -> None:
        self.handed: list[np.ndarray] = []
        self.more, self.ending = threading.Semaphore(0), False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while True:
            self.more.acquire()
            if self.ending:
                return
            threading.Event().wait(0.02)
            write_down(self, digest=digest(self.handed[0]))
            del self.handed[0]

    def process(self, packet: StreamPacket) -> None:
        self.handed.append(packet.payload)
        self.more.release()

    def close(self) -> None:
        while self.handed:
            threading.Event().wait(0.005)
        self.ending = True
        self.more.release()
        self.thread.join()


class Parent(Source):
    """Starts a child process that would live for ever, and waits for the end of the run."""

    outputs = {"out": Port("number", "json")}

    def run(self) -> Iterator[StreamPacket]:
        with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, close_fds=False, text=True) as child:
            assert child.stdout
            write_down(self, child=child.pid, fds=child.stdout.readline())
            try:
                while self.wait_until(monotonic_ns() + 10**12):
                    pass
            finally:
                child.kill()
        yield from ()


class BadEnd(Sink):
    """Goes wrong where the run ends."""

    inputs = {"in": ANY}

    def process(self, packet: StreamPacket) -> None:
        write_down(self, n=packet.meta["n"])

    def flush(self) -> None:
        if self.config["where"] == "flush":
            raise OSError("disk full")

    def close(self) -> None:
        if self.config["where"] == "close":
            raise OSError("disk gone")
