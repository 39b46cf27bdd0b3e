"""The node code of the crash model: a source that counts, nodes that forward, crop, copy and keep, and sinks that bear witness.

A packet's name tells where it comes from: "a3" is the 4th of source a, "a3.b0" the first output that b made of it. Every frame shows the
number of its source packet in each of its bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from crash_graphs import node_class
from crash_process import Killed, SimProcess

from streamcore.errors import DestinationAway
from streamcore.packet import StreamPacket

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_SHAPE = (4, 6)
CUTS = {"whole": np.s_[:], "crop": np.s_[1:, ::2], "flip": np.s_[::-1]}


def stamp(name: str) -> int:
    """What every byte of a frame shows that began as source packet `name`."""
    first = name.partition(".")[0]
    return (ord(first[0]) * 37 + int(first[1:])) % 251 + 1


def look(process: SimProcess, packet: StreamPacket) -> None:
    """Watch this packet's frame from now on until node code lets go of it."""
    if isinstance(packet.payload, np.ndarray):
        process.views.append((weakref.ref(packet.payload), packet.meta["name"]))  # type: ignore[index]
    check_views(process)


def check_views(process: SimProcess) -> None:
    """Every frame that node code can see shows its own packet."""
    if not process.views:
        return
    alive = []
    for ref, name in process.views:
        frame = ref()
        if frame is not None:
            if not (frame == stamp(name)).all():
                process.world.violation(f"{process.me} looks at {name} (bytes {stamp(name)}) and sees {frame.tolist()}")
            alive.append((ref, name))
    process.views[:] = alive


def source_code(process: SimProcess) -> dict[str, Any]:
    world, does = process.world, process.world.graph.nodes[process.name]

    def numbers(self: Any) -> Iterator[int]:
        if does.positions:
            yield from range(0 if self.resume_position is None else self.resume_position + 1, world.graph.packets)
        else:  # a camera: what was not taken in time is gone
            while world.camera[process.name] < world.graph.packets:
                world.camera[process.name] += 1
                yield world.camera[process.name] - 1

    def run(self: Any) -> Iterator[StreamPacket]:
        for number in numbers(self):
            if self.stopping:
                return
            name = f"{process.name}{number}"
            frame = None
            if world.rng.random() < 0.8:
                frame = self.loan("out", FRAME_SHAPE)
                fill(process, frame, name)
            world.offered(process, name)
            packet = StreamPacket.new(
                kind="n", source_id=process.name, payload=frame, meta={"name": name}, position=number if does.positions else None
            )
            del frame
            yield packet
            del packet
            world.accepted(process, name)
            process.park("between packets")

    def on_completed(self: Any, packet: StreamPacket, outcome: str) -> None:
        world.completed(process, packet, outcome)

    return {"run": run, "on_completed": on_completed} if does.is_told else {"run": run}


def fill(process: SimProcess, frame: Any, name: str) -> None:
    """Write a loan in two steps; a kill may fall between."""
    half = len(frame) // 2
    frame[:half] = stamp(name)
    process.world.check_all_views()
    process.fuse.burn()
    if process.world.rng.random() < 0.3:
        process.park("writing a frame")
    frame[half:] = stamp(name)
    process.world.check_all_views()


def beware(process: SimProcess, packets: list[StreamPacket]) -> None:
    """Die of a packet that kills."""
    for packet in packets:
        if process.world.kills_by_poison(process, packet):
            process.fuse.dead = True
            raise Killed


def node_code(process: SimProcess) -> dict[str, Any]:
    world, does = process.world, process.world.graph.nodes[process.name]
    kept: list[StreamPacket] = []

    def process_batch(self: Any, packets: list[StreamPacket]) -> Iterator[StreamPacket]:
        beware(process, packets)
        for packet in packets:
            world.arrived(process, packet)
            look(process, packet)
        process.park("looking at a packet")
        if world.fails(process, packet, "before"):
            raise ValueError("bad packet")
        kept.extend(packets)
        packets.clear()
        del packet
        while len(kept) > world.rng.randint(0, does.retention):
            yield from outputs(self, kept.pop(0))

    def flush(self: Any) -> Iterator[StreamPacket]:
        while kept:
            yield from outputs(self, kept.pop(0))

    def outputs(self: Any, packet: StreamPacket) -> Iterator[StreamPacket]:
        name = packet.meta["name"]  # type: ignore[index]
        bad = world.fails(process, packet, "between")
        for index in range(does.fan):
            out = f"{name}.{process.name}{index}"
            made = packet.derive(payload=payload_of(self, packet, name), meta={"name": out})
            world.offered(process, out)
            if does.lets_go and index == does.fan - 1:
                del packet
            yield made
            del made
            world.accepted(process, out)
            process.park("between outputs")
            if bad:
                raise ValueError("bad packet")

    def payload_of(self: Any, packet: StreamPacket, name: str) -> Any:
        kind = world.rng.choice(does.kinds)
        frame = packet.payload
        if kind == "json" or not isinstance(frame, np.ndarray):
            return {"name": name}
        if kind == "copy":
            return frame.copy()
        if kind == "loan":
            loan = self.loan("out", frame.shape)
            fill(process, loan, name)
            return loan
        cut = frame[CUTS[kind]]
        return cut if cut.size else frame

    def one(self: Any, packet: StreamPacket) -> Any:
        return process_batch(self, [packet])

    def close(self: Any) -> None:
        kept.clear()

    return {"process": one, "process_batch": process_batch, "flush": flush, "close": close}


def sink_code(process: SimProcess) -> dict[str, Any]:
    world, does = process.world, process.world.graph.nodes[process.name]
    kept: list[StreamPacket] = []

    def process_batch(self: Any, packets: list[StreamPacket]) -> None:
        beware(process, packets)
        for packet in packets:
            look(process, packet)
        process.park("looking at a packet")
        for packet in packets:
            process.fuse.burn()
            world.arrived(process, packet)
            if world.turns_away(process, packet):
                raise DestinationAway("no room")
        kept.extend(packets)
        del kept[: max(0, len(kept) - world.rng.randint(0, does.retention))]

    def close(self: Any) -> None:
        kept.clear()

    return {"process": lambda self, packet: process_batch(self, [packet]), "process_batch": process_batch, "close": close}


def make_node(process: SimProcess) -> Any:
    """An instance of the node of this process' name."""
    graph = process.world.graph
    if graph.is_source(process.name):
        code: Callable[[SimProcess], dict[str, Any]] = source_code
    else:
        code = node_code if graph.consumers[process.name] else sink_code
    cls = node_class(process.name, graph)
    return type(cls.__name__, (cls,), code(process))()


__all__ = ["FRAME_SHAPE", "Killed", "check_views", "make_node", "stamp"]
