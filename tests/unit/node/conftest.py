"""One edge without sockets: a real outlet on a real ring, a real inlet that reads it, and a list of messages between them."""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tap_rig import Rig

from streamcore.graph.model import EdgePlan, RingPlan
from streamcore.node.api import Port
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.packet import StreamPacket
from streamcore.shm import segment
from streamcore.shm.layout import ENTRY_BYTES, HEADER_BYTES
from streamcore.shm.ring import RingReader, RingWriter, clear_table, geometry, ring_bytes
from streamcore.shm.status import StatusReader, StatusWriter, format_status, status_bytes
from streamcore.wire import messages

SLOT_BYTES = 64 * 1024
MARKS = 64  # more than any ring here has entries


def edge_plan(number: int, policy: str = "block", depth: int = 4, ring: int = 0, to_node: str = "", completion: str = "hop") -> EdgePlan:
    depth = 1 if policy == "latest" else depth
    kept = {"drop_oldest": depth, "latest": 1}.get(policy, 0)
    rate = 10.0 if policy == "sample" else 0.0
    to_node = to_node or f"sink{number}"
    return EdgePlan(number, number, "camera", "out", to_node, "in", ring, policy, depth, depth + 1, (), kept, rate, completion)


class Page:
    """A status page with its reader."""

    def __init__(self, *edges: int):
        rows = [(edge, MARKS) for edge in edges]
        self.fd = segment.create("status", status_bytes(rows))
        format_status(self.fd, rows)
        self.writer, self._reader = StatusWriter(self.fd), StatusReader(self.fd)

    def edge(self, number: int) -> Any:
        return self._reader.read().edges[number]

    def node(self, name: str) -> int:
        return int(getattr(self._reader.read(), name))


@dataclass
class Consumer:
    """The far end of one edge: its inlet, the messages on their way there, and leases that were let go."""

    inlet: Inlet
    page: Page
    released: deque[Record]
    ring: mmap.mmap
    to_it: deque[bytes] = field(default_factory=deque)
    to_producer: deque[bytes] = field(default_factory=deque)

    def forge_row(self, entry: int, sequence: int) -> None:
        """Let the producer's table vouch for a message that it never sent."""
        struct.pack_into("<Q", self.ring, HEADER_BYTES + entry * ENTRY_BYTES, sequence)

    records: deque[messages.Record] = field(default_factory=deque)

    def arrive(self) -> int:
        """Deliver everything that was sent; how many packets wait."""
        while self.to_it:
            raw = self.to_it.popleft()
            header = messages.read_header(raw)
            if header.type == messages.DATA:
                self.records.extend(self.inlet.admit(raw, header))
        return len(self.records)

    def take(self) -> StreamPacket | None:
        self.arrive()
        return self.inlet.take(self.records.popleft())

    def settle(self) -> None:
        while self.released:
            self.released.popleft().settle()


class Wire:
    """One output port, `outlet`, with a consumer per edge. Nothing moves by itself."""

    def __init__(
        self,
        port: Port,
        plans: list[EdgePlan],
        slots: int = 8,
        forwards: frozenset[str] = frozenset(),
        ring: int = 0,
        meta_bytes: int = 1024,
        slot_bytes: int = SLOT_BYTES,
    ):
        self.shape = RingPlan(ring, "camera.out", max(2, slots), meta_bytes, slots, slot_bytes, ())
        memory = mmap.mmap(-1, ring_bytes(self.shape))
        clear_table(memory, geometry(self.shape))
        self.page = Page(*(plan.id for plan in plans))
        self.memory = memory
        self.writer = RingWriter(memory, self.shape)
        self.reader = RingReader(memory, self.shape)
        self.edges = [OutEdge(plan, 1, self.page.writer) for plan in plans]
        self.outlet = Outlet("camera", "out", port, self.writer, self.edges, forwards, self.wait_for)
        self.consumers = [self._consumer(plan) for plan in plans]
        self.on_wait: Callable[[], None] = lambda: None
        for edge, consumer in zip(self.edges, self.consumers, strict=True):
            edge.post = consumer.to_it.append

    def _consumer(self, plan: EdgePlan) -> Consumer:
        page, released = Page(plan.id), deque[Record]()
        inlet = Inlet(plan, {self.shape.id: self.reader}, self.shape.entry_count, 1, page.writer, released.append)
        consumer = Consumer(inlet, page, released, self.memory)
        consumer.inlet.send = consumer.to_producer.append
        return consumer

    def wait_for(self, ready: Callable[[], bool], deadline_ns: int | None) -> bool:
        """Let `on_wait` do something about it once; a wait that it does not end would last for ever."""
        if ready():
            return True
        self.on_wait()
        assert ready() or deadline_ns is not None, "the outlet waits for ever"
        return ready()

    def emit(self, payload: Any, pressed: bool = False, **fields: Any) -> bool:
        """Send one packet at once, batches included."""
        sent = self.outlet.emit(StreamPacket.new(**{"kind": "frame", "source_id": "test", "payload": payload} | fields), pressed)
        self.flush()
        return sent

    def flush(self) -> None:
        for edge in self.edges:
            edge.flush_batch()

    def receipts(self) -> None:
        """Deliver what the consumers have reported."""
        for edge, consumer in zip(self.edges, self.consumers, strict=True):
            while consumer.to_producer:
                raw = consumer.to_producer.popleft()
                self.outlet.on_receipt(edge, *messages.read_receipt(raw, messages.read_header(raw).records))

    def finish(self) -> None:
        """Every consumer takes and lets go of everything."""
        for consumer in self.consumers:
            while consumer.arrive():
                packet = consumer.take()
                if packet is not None:
                    packet.parent.settle()
                del packet
        self.report()

    def report(self) -> None:
        """Consumers report everything, and the producer hears of it."""
        for consumer in self.consumers:
            consumer.settle()
            consumer.inlet.flush(0)
        self.receipts()

    def is_empty(self) -> bool:
        """Nothing under way, no row and no slot in use."""
        free = (self.writer.free_entries, self.writer.free_slots)
        return free == (self.shape.entry_count, self.shape.slot_count) and not any(edge.credit.in_flight for edge in self.edges)


@pytest.fixture
def make_wire() -> Iterator[Callable[..., Wire]]:
    made: list[Wire] = []

    def make(
        *policies: str, port: Port | None = None, depth: int = 4, feedback: bool = False, completion: str = "hop", **options: Any
    ) -> Wire:
        plans = [edge_plan(number, policy, depth) for number, policy in enumerate(policies or ("block",))]
        plans = [msgspec.structs.replace(plan, feedback=feedback, completion=completion) for plan in plans]
        made.append(Wire(port or Port("frame", "any"), plans, **options))
        return made[-1]

    yield make
    for wire in made:
        for page in (wire.page, *(consumer.page for consumer in wire.consumers)):
            os.close(page.fd)


@pytest.fixture
def wire(make_wire: Callable[..., Wire]) -> Wire:
    """One `block` edge of depth 4 on a port that carries anything."""
    return make_wire()


@pytest.fixture
def make_rig(make_wire: Callable[..., Wire], tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """As make_wire, with an outlet that can be tapped."""
    made: list[Rig] = []

    def make(*policies: str, **options: Any) -> Rig:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Rig(make_wire(*policies, **options), folder))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig("block")
