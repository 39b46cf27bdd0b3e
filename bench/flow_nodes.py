"""Nodes of every case in which packets flow. What they do to a packet is what the peers' programs do: see shared_work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import Node, Port, StreamPacket, array
from streamcore import Sink as SinkNode
from streamcore import Source as SourceNode
from streamcore_bench import proc
from streamcore_bench import shared_work as work

FRAME = Port("packet", array("uint8", ndim=1))
SMALL = Port("packet", "bytes")
ANY = Port("packet", "any")
JOB = {
    "job": {"type": "dict", "required": True, "meta": {"doc": "as bench/peers/work.py has it"}},
    "folder": {"type": "string", "required": True, "meta": {"doc": "where the results go"}},
}


class Notes:
    """Stands where the peers have their Line: takes CPU clocks at both ends of the measured part, keeps what the sink found, as files.

    The clocks are those of all processes of the run: the coordinator, which is the parent of every node, and all below it.
    """

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self._folder, self._name = Path(config["folder"]), name

    def measuring(self) -> None:
        coordinator = os.getppid()
        self._write("begin", {"cpu_s": {pid: proc.cpu_s(pid) for pid in (coordinator, *proc.descendants(coordinator))}})

    def done(self, report: dict[str, Any]) -> None:
        own = os.getpid()
        own_s = proc.cpu_s(own)  # first: what follows is not the transport's
        begun = json.loads(min(self._folder.glob("*.begin")).read_text())["cpu_s"]
        clocks = {int(pid): proc.cpu_s(int(pid)) for pid in begun} | {own: own_s}
        memories = [one for one in map(proc.memory, filter(proc.node_name, clocks)) if one]
        found = {"pid": own, "cpu_s": clocks}
        found |= {"uss_mib": max(one.uss_mib for one in memories), "threads": max(one.threads for one in memories)}
        (self._folder / f"{self._name}.latencies").write_bytes(report.pop("latencies_ns"))
        self._write("end", found | {"report": report})

    def _write(self, what: str, found: dict[str, Any]) -> None:
        path = self._folder / f"{self._name}.{what}"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(path)


class Begin(SourceNode):
    """What both sources do: packets in their time."""

    config = JOB

    def packets(self) -> Iterator[tuple[work.Source, int]]:
        job = work.Job(**self.config["job"])
        self.nbytes = job.nbytes
        source = work.Source(job, Notes(self.config, self.id))
        if not job.rate:
            yield from ((source, sequence) for sequence in source)
            return
        for sequence in range(job.total):
            left_s = source.left_s(sequence)
            if left_s > 0 and not self.wait_until(time.monotonic_ns() + round(left_s * 1e9)):
                return
            yield source, sequence


class Frames(Begin):
    """Arrays of `nbytes`, written whole into their slot."""

    outputs = {"out": FRAME}

    def run(self) -> Iterator[StreamPacket]:
        for source, sequence in self.packets():
            slot = self.loan("out", (self.nbytes,))
            source.write(slot, sequence)
            yield StreamPacket.new(kind="packet", source_id=self.id, payload=slot)


class Small(Begin):
    """Bytes, made afresh for each packet."""

    outputs = {"out": SMALL}

    def run(self) -> Iterator[StreamPacket]:
        slot = None
        for source, sequence in self.packets():
            if slot is None:
                slot = np.empty(self.nbytes, np.uint8)
            source.write(slot, sequence)
            yield StreamPacket.new(kind="packet", source_id=self.id, payload=slot.tobytes())


class Forward(Node):
    """Passes every packet on: an array as a reference."""

    inputs = {"in": ANY}
    outputs = {"out": ANY}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)


class Copy(Node):
    """Copies every array into a slot of its own."""

    inputs = {"in": FRAME}
    outputs = {"out": FRAME}

    def process(self, packet: StreamPacket) -> StreamPacket:
        slot = self.loan("out", packet.payload.shape)
        np.copyto(slot, packet.payload)
        return packet.derive(payload=slot)


class Touch(SinkNode):
    """Reads stamp and last byte, checks them, keeps the time that the packet took."""

    inputs = {"in": ANY}
    config = JOB

    def setup(self) -> None:
        self.sink = work.Sink(work.Job(**self.config["job"]), Notes(self.config, self.id))
        self.take = self.sink.take

    def process(self, packet: StreamPacket) -> None:
        if self.take(memoryview(packet.payload)):
            self.sink.done()


class TouchMany(SinkNode):
    """Touch for packets of several sources, each with numbers of its own: a report for each."""

    inputs = {"in": ANY}
    config = JOB

    def setup(self) -> None:
        self.sinks: dict[str, work.Sink] = {}

    def process(self, packet: StreamPacket) -> None:
        sink = self.sinks.get(packet.source_id)
        if sink is None:
            notes = Notes(self.config, f"{self.id}-{packet.source_id}")
            sink = self.sinks[packet.source_id] = work.Sink(work.Job(**self.config["job"]), notes)
        if sink.take(memoryview(packet.payload)):
            sink.done()
