"""Edges under every schedule that a seed can make: the real rings, credits, outlets, inlets and exchanges of several nodes in one thread.

Nothing but the network, the clock and the node code is made up. Connections are FIFO queues, and a seeded scheduler picks what happens
next: a process goes on to its next yield, one message reaches an inbox, the guard sends a batch. A step of a process ends wherever a real
one could be interrupted by what others do. What outlives a process (rings, the books of the witness) belongs to World, what dies with it
to Process, so a process can be taken away between any two steps.

    python edge_model.py --seeds 20000          explore; prints the first violation with its seed, or the counts
    python edge_model.py --seed 17 --trace      replay one schedule, step by step

Checked after every step: each view that a node holds shows the bytes of its own packet, so no slot is overwritten while somebody may look
at it; never more than depth packets untaken or window under way. At the end: books balance, `block` has lost nothing and kept the order,
the other policies what they promise, and every row and slot is free.
"""

from __future__ import annotations

import argparse
import logging
import mmap
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from topologies import Edge, Topology, planned

from streamcore.errors import RingFull
from streamcore.node.exchange import Exchange
from streamcore.node.inlet import Inlet
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.packet import StreamPacket
from streamcore.shm import segment
from streamcore.shm.ring import RingReader, RingWriter, ring_bytes
from streamcore.shm.status import StatusReader, StatusWriter, format_status, status_bytes
from streamcore.wire.inbox import Again

STEPS_MAX = 20_000
FRAME_SHAPE = (4, 6)
LATER_NS = 1 << 62  # a time at which everything is due
WAIT = "wait"  # a process yields it where it can go on only after a message, or after an idle delay
Name = tuple[int, int]  # number of a packet and index of an output made of it


class Violation(AssertionError):
    """A broken promise; the text says which, `seed` how to see it again."""


class Inbox:
    """What has reached a process and was not yet read; stands where a ZeroMQ inbox would."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()

    def recv(self, flags: int = 0) -> bytes:
        if not self.queue:
            raise Again
        return self.queue.popleft()

    def poll(self, timeout_ms: int | None) -> bool:
        return bool(self.queue)  # False: the idle delay has passed; the scheduler decided that


@dataclass
class Net:
    """FIFO connections between processes."""

    queues: dict[tuple[str, str], deque[bytes]] = field(default_factory=dict)

    def connect(self, source: str, target: str) -> Callable[[bytes], None]:
        return self.queues.setdefault((source, target), deque()).append

    def loaded(self) -> list[tuple[str, str]]:
        return [key for key, queue in self.queues.items() if queue]


class Process:
    """One node's process: its exchange, its edges, and the node code as a generator whose yields are where others may run."""

    def __init__(self, world: World, name: str):
        self.world, self.name, self.rng = world, name, world.rng
        self.spec = world.topology.nodes[name]
        ins = [edge for edge in world.edges if edge.to_node == name]
        outs = [edge for edge in world.edges if edge.from_node == name]
        self.page = segment.create(name, status_bytes(len(ins) + len(outs)))
        format_status(self.page, [edge.id for edge in ins + outs])
        status = StatusWriter(self.page)
        self.inbox = Inbox()
        self.exchange = Exchange(name, self.inbox, status, logging.getLogger("edge_model"))  # type: ignore[arg-type]
        release = self.exchange.released_in(lambda: None)
        readers = {number: RingReader(memory, shape) for number, (memory, shape) in world.rings.items()}
        inlets = [Inlet(edge, readers, world.rings[edge.ring][1].entry_count, 1, status, release) for edge in ins]
        for inlet in inlets:
            inlet.send = world.net.connect(name, inlet.plan.from_node)
        self.outlet: Outlet | None = None
        if outs:
            memory, shape = world.rings[outs[0].ring]
            edges = [OutEdge(edge, 1, status) for edge in outs]
            for edge in edges:
                edge.post = world.net.connect(name, edge.plan.to_node)
            forwards = frozenset({"in"} if ins else ())
            self.outlet = Outlet(name, "out", world.port, RingWriter(memory, shape), edges, forwards, self.must_not_wait)
        self.exchange.wire(inlets, {"out": self.outlet} if self.outlet else {})
        self.held: deque[StreamPacket] = deque()
        self.where: str | None = ""
        self.code = self.source() if not ins else self.consumer()

    # --- being scheduled

    @property
    def can_step(self) -> bool:
        """A waiting process goes on when a message is there or something is left that it would do when idle."""
        if self.where != WAIT:
            return self.where is not None
        inlets, edges = self.exchange.inlets.values(), self.exchange.out_edges.values()
        idle_work = any(inlet.unreported for inlet in inlets) or any(edge.batch_since_ns for _, edge in edges)
        return bool(self.inbox.queue or self.exchange.released or idle_work)

    def step(self) -> None:
        if self.where == WAIT:
            self.exchange.wait(None)
        self.where = next(self.code, None)

    @staticmethod
    def must_not_wait(ready: Callable[[], bool], deadline_ns: int | None) -> bool:
        if deadline_ns is None and not ready():
            raise Violation("emit() waits although there was credit, a row and a slot")
        return ready()

    # --- node code

    def source(self) -> Iterator[str]:
        for number in range(self.world.packets):
            frame = yield from self.frame(number)
            yield "filled"
            packet = StreamPacket.new(kind="n", source_id=self.name, payload=frame, meta={"name": [number, 0]}, position=number)
            del frame
            yield from self.emit(packet, (number, 0), packet.payload is None)
            del packet
            yield "between"
            self.exchange.look_around(self.soon())
        yield from self.end()

    def consumer(self) -> Iterator[str]:
        exchange = self.exchange
        while not exchange.ended:
            if not exchange.waiting:
                yield WAIT
                continue
            inlet, record = exchange.waiting.popleft()
            packet = inlet.take(record)
            if packet is None:
                raise Violation(f"{self.name} refused a packet: {inlet.refusal}")
            if inlet.receipt_due or (inlet.want and self.rng.random() < 0.5):
                inlet.flush(0)
            parent = packet.parent
            self.world.arrived(self, packet)
            self.held.append(packet)
            del packet
            yield "taken"
            while len(self.held) > self.rng.randint(0, self.spec.retention):
                yield from self.work()
            parent.settle()
            yield "processed"
            exchange.look_around(self.soon())
        while self.held:
            yield from self.work()
        yield from self.end()

    def work(self) -> Iterator[str]:
        """Emit what follows from one held packet, and let it go."""
        packet = self.held[0] if self.rng.random() < 0.7 else self.held[-1]
        self.held.remove(packet)
        number = packet.meta["name"][0]
        for index in range(self.spec.fan if self.outlet else 0):
            kind = self.rng.choice(self.spec.outputs)
            payload, copies = self.output(kind, packet, number)
            out = packet.derive(payload=payload, meta={"name": [number, index]})
            del payload
            yield from self.emit(out, (number, index), copies)
            del out

    def output(self, kind: str, packet: StreamPacket, number: int) -> tuple[Any, bool]:
        """A payload made of an input's, and whether it has to be copied into a slot of our own."""
        if kind == "json" or packet.payload is None or isinstance(packet.payload, dict):
            return {"number": number}, False
        if kind == "copy":
            return packet.payload.copy(), True
        cuts = {"whole": np.s_[:], "crop": np.s_[1:, ::2], "flip": np.s_[::-1]}
        cut = packet.payload[cuts[kind]]
        return (cut, False) if cut.size else (packet.payload, not packet.payload.size)

    def frame(self, number: int) -> Iterator[str]:
        """A loan filled with the number, waited for if need be; None where this packet is to be JSON."""
        if self.rng.random() < 0.2:
            return None
        assert self.outlet
        while True:
            try:
                loan = self.outlet.loan(FRAME_SHAPE, np.uint8, 0)
            except RingFull:
                yield WAIT
                continue
            loan.fill(number + 1)
            return loan

    def emit(self, packet: StreamPacket, name: Name, copies: bool) -> Iterator[str]:
        """As Host does it, but every wait inside Outlet.emit is waited for here, where others can run meanwhile."""
        outlet = self.outlet
        assert outlet
        while True:
            if not all(edge.may_send() for edge in outlet.edges if edge.plan.policy == "block"):
                yield WAIT
            elif not outlet.writer.free_entries:
                outlet.press()
                yield WAIT
            elif copies and isinstance(packet.payload, np.ndarray) and not self.slot_is_free(outlet):
                yield WAIT
            else:
                break
        self.world.emitted(self.name, name)
        outlet.emit(packet, outlet.pinned > 0 and self.exchange.pressed)
        yield "emitted"

    @staticmethod
    def slot_is_free(outlet: Outlet) -> bool:
        try:
            outlet.loan((1,), np.uint8, 0)
        except RingFull:
            return False
        return True

    def end(self) -> Iterator[str]:
        if self.outlet:
            for edge in self.outlet.edges:
                edge.end(self.outlet.writer.next_sequence)
                yield "ended"
        while not self.exchange.delivered:
            yield WAIT
        self.exchange.settle()
        self.exchange.flush_receipts(lambda inlet: inlet.unreported)

    def soon(self) -> int:
        """The time, as look_around is told it: sometimes so late that it looks."""
        return LATER_NS if self.rng.random() < 0.3 else 0


class World:
    """A run: topology, rings, network, and what the witnesses saw. One seed, one schedule."""

    def __init__(self, seed: int, trace: bool = False):
        self.rng = random.Random(seed)
        self.trace = trace
        self.topology = Topology.drawn(self.rng)
        self.packets = 30 if any(depth > 8 for _, depth in self.topology.policies.values()) else 12  # enough to fill a batch
        self.port, self.edges, shapes = planned(self.topology)
        self.rings = {shape.id: (mmap.mmap(-1, ring_bytes(shape)), shape) for shape in shapes}
        self.net = Net()
        self.clock_ns = 0
        self.sent: dict[str, list[Name]] = {name: [] for name in self.topology.nodes}
        self.seen: dict[tuple[str, str], list[Name]] = {(edge.from_node, edge.to_node): [] for edge in self.edges}
        self.counts: Counter[str] = Counter()
        self.processes = {name: Process(self, name) for name in self.topology.nodes}

    def now_ns(self) -> int:
        self.clock_ns += self.rng.randrange(200_000_000)
        return self.clock_ns

    def emitted(self, node: str, name: Name) -> None:
        self.sent[node].append(name)

    def arrived(self, process: Process, packet: StreamPacket) -> None:
        number, index = packet.meta["name"]
        self.seen[packet.parent.inlet.plan.from_node, process.name].append((number, index))
        self.check_view(process, packet)

    def run(self) -> None:
        with mock.patch("streamcore.node.outlet.monotonic_ns", self.now_ns):
            for tick in range(STEPS_MAX):
                choices = self.choices()
                if not choices:
                    break
                kind, what = self.rng.choice(choices)
                if self.trace:
                    print(tick, kind, what, self.processes[what].where if kind == "step" else "")
                self.take(kind, what)
                self.check_step()
            else:
                raise Violation("no end: processes go round in circles")
        self.check_end()

    def choices(self) -> list[tuple[str, Any]]:
        steps = [("step", name) for name, process in self.processes.items() if process.can_step]
        return steps + [("net", key) for key in self.net.loaded()] + [("guard", edge) for edge in self.batches()]

    def batches(self) -> list[tuple[str, int]]:
        return [(n, number) for n, p in self.processes.items() for number, (_, e) in p.exchange.out_edges.items() if e.batch_since_ns]

    def take(self, kind: str, what: Any) -> None:
        self.counts[kind] += 1
        if kind == "net":
            self.processes[what[1]].inbox.queue.append(self.net.queues[what].popleft())
        elif kind == "guard":
            self.processes[what[0]].exchange.out_edges[what[1]][1].flush_batch()
        else:
            self.processes[what].step()

    # --- promises

    def check_view(self, process: Process, packet: StreamPacket) -> None:
        number = packet.meta["name"][0]
        if isinstance(packet.payload, np.ndarray) and not (packet.payload == number + 1).all():
            raise Violation(f"{process.name} looks at packet {number} and sees {packet.payload.tolist()}")

    def check_step(self) -> None:
        for process in self.processes.values():
            for packet in process.held:
                self.check_view(process, packet)
            for _, edge in process.exchange.out_edges.values():
                if edge.credit.untaken > edge.plan.depth or edge.credit.in_flight > edge.plan.window + edge.plan.kept:
                    raise Violation(f"edge {edge.plan.name}: {edge.credit.untaken} untaken, {edge.credit.in_flight} in flight")

    def check_end(self) -> None:
        stuck = [f"{name} at {process.where!r}" for name, process in self.processes.items() if process.where is not None]
        if stuck:
            raise Violation(f"deadlock: {', '.join(stuck)}")
        for name, process in self.processes.items():
            books = StatusReader(process.page).read().edges
            for number, (_, edge) in process.exchange.out_edges.items():
                self.check_edge(edge.plan, books[number], self.sent[name], self.seen[name, edge.plan.to_node])
            if process.outlet:
                self.check_ring(process.outlet)
            for inlet in process.exchange.inlets.values():
                if inlet.under_way or inlet.waiting:
                    raise Violation(f"edge {inlet.plan.name}: {inlet.under_way} packets still held, {inlet.waiting} waiting")

    def check_edge(self, plan: Edge, books: Any, sent: list[Name], seen: list[Name]) -> None:
        self.counts["packets"] += len(sent)
        self.counts["dropped"] += books.dropped
        found = (books.sent, books.completed, books.dropped, books.failed, books.in_flight)
        dropped = len(sent) - len(seen)
        if plan.completion == "delivered":  # what was dropped further on counts as dropped here too
            dropped = max(dropped, books.dropped)
        if found != (len(sent), len(sent) - dropped, dropped, 0, 0):
            raise Violation(f"edge {plan.name}: {len(sent)} sent, {len(seen)} seen, the books say {found}")
        rest = iter(sent)
        if not all(name in rest for name in seen):
            raise Violation(f"edge {plan.name}: {seen} is not in the order of {sent}")
        newest = sent[-plan.kept :] if plan.kept else []
        promised = {"block": sent, "drop_oldest": newest, "latest": newest, "drop_new": sent[:1], "sample": sent[:1]}
        if not set(promised[plan.policy]) <= set(seen):
            raise Violation(f"edge {plan.name} ({plan.policy}): {sent} was sent, only {seen} arrived")

    def check_ring(self, outlet: Outlet) -> None:
        writer = outlet.writer
        loans = []
        try:
            loans = [outlet.loan((1,), np.uint8, 0) for _ in range(writer.geometry.slot_count)]
        except RingFull:
            raise Violation(f"{outlet.full_name}: only {len(loans)} of {writer.geometry.slot_count} slots came back") from None
        if writer.free_entries != writer.geometry.entry_count:
            raise Violation(f"{outlet.full_name}: rows still in use: {[row for e in outlet.edges for row in writer.pending_on(e.bit)]}")

    def close(self) -> None:
        for process in self.processes.values():
            process.code.close()
            process.held.clear()
            os.close(process.page)


def explore(seed: int, trace: bool = False) -> Counter[str]:
    """Run one schedule. Raises Violation, with the seed and the topology in its text."""
    world = World(seed, trace=trace)
    try:
        world.run()
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}\n  {world.topology}") from None
    finally:
        world.close()
    return world.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    for seed in [given.seed] if given.seed is not None else range(given.seeds):
        counts += explore(seed, given.trace)
    print("no violation;", dict(counts))


if __name__ == "__main__":
    main()
