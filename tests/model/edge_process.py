"""One process of the edge model: the real parts of a node process, and node code as a generator that lets others run at each yield."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamcore.errors import RingFull
from streamcore.node.channel import PeerGone
from streamcore.node.exchange import Exchange
from streamcore.node.inlet import Inlet
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.packet import StreamPacket
from streamcore.shm import segment
from streamcore.shm.ring import RingReader, RingWriter
from streamcore.shm.status import StatusWriter, format_status, status_bytes
from streamcore.wire.messages import WAKE_MESSAGE, sealed

if TYPE_CHECKING:
    from edge_model import World

FRAME_SHAPE = (4, 6)
KEY = 0xC0FFEE02
LATER_NS = 1 << 62  # a time at which everything is due
WAIT = "wait"  # a process yields it where it can go on only after a message, or after an idle delay
Name = tuple[int, int]  # number of a packet and index of an output made of it


class Violation(AssertionError):
    """A broken promise; the text says which, `seed` how to see it again."""


class Inbox:
    """What has reached a process and was not yet read; stands where the real inbox would."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()

    def take(self) -> bytes | None:
        return self.queue.popleft() if self.queue else None

    def poll(self, timeout_ms: int | None) -> bool:
        return bool(self.queue)  # False: the idle delay has passed; the scheduler decided that


@dataclass
class Net:
    """FIFO connections between processes."""

    queues: dict[tuple[str, str], deque[bytes]] = field(default_factory=dict)

    def connect(self, source: str, target: str) -> Callable[[bytes], None]:
        queue = self.queues.setdefault((source, target), deque())
        return lambda message: queue.append(sealed(message, KEY))

    def cut(self, name: str, rng: random.Random) -> None:
        """A process has died: what was on its way to it is lost, and what it had not yet got rid of."""
        for (source, target), queue in self.queues.items():
            if target == name:
                queue.clear()
            elif source == name and queue:
                for _ in range(rng.randrange(len(queue) + 1)):
                    queue.pop()

    def loaded(self) -> list[tuple[str, str]]:
        return [key for key, queue in self.queues.items() if queue]


class Process:
    """One node's process: its exchange, its edges, and the node code as a generator whose yields are where others may run."""

    def __init__(self, world: World, name: str):
        self.world, self.name, self.rng = world, name, world.rng
        self.spec = world.topology.nodes[name]
        ins = [edge for edge in world.edges if edge.to_node == name]
        outs = [edge for edge in world.edges if edge.from_node == name]
        rows = [(edge.id, world.rings[edge.ring][1].entry_count) for edge in ins] + [(edge.id, 0) for edge in outs]
        self.page = segment.create(name, status_bytes(rows))
        format_status(self.page, rows)
        status = StatusWriter(self.page)
        self.inbox = Inbox()
        self.exchange = Exchange(name, self.inbox, status, logging.getLogger("edge_model"), KEY)  # type: ignore[arg-type]
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

    def tell_gone(self, peer: str) -> None:
        """As the lifeline hands over a command: it is in the list before the main loop is woken."""
        self.exchange.commands.append(PeerGone(peer))
        self.inbox.queue.append(sealed(WAKE_MESSAGE, KEY))

    def die(self) -> None:
        self.code.close()
        self.held.clear()

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
            if inlet.due or (inlet.want and self.rng.random() < 0.5):
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
        self.exchange.flush_receipts()

    def soon(self) -> int:
        """The time, as look_around is told it: sometimes so late that it looks."""
        return LATER_NS if self.rng.random() < 0.3 else 0
