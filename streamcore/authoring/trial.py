"""One instance of a node under trial: its inputs come out of real rings, what it emits is checked, what it keeps is counted."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streamcore import limits
from streamcore.authoring import inputs
from streamcore.clock import Clock
from streamcore.errors import PayloadError, StreamcoreError
from streamcore.graph.model import EdgePlan, RingPlan
from streamcore.node.api import Node, Port, Source, attach, number_of
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.packet import StreamPacket
from streamcore.shm import segment
from streamcore.shm.ring import RingReader, RingWriter, attach_ring, format_ring, ring_bytes
from streamcore.shm.status import StatusWriter, format_status, status_bytes
from streamcore.testing import Bench
from streamcore.wire import messages

RUN_ID = "00" * 16
SPARE = 4  # packets under way beside those that the node declares to keep
LET_GO_S, LOOK_S = 1.0, 0.01  # so long may a thread of the node take to let go of a packet
ASK_S = 1.0  # a source that has not given enough packets by then is asked to end


class Stalled(Exception):
    """No slot came back: in a run, the producer would wait for ever."""


class Feed:
    """One input edge with its producer's end: a real outlet, ring and inlet, with a call in place of sockets."""

    def __init__(self, name: str, port: Port, slots: int):
        self.name, self.port = name, port
        self._released: deque[Record] = deque()  # by finalizers, in whatever thread
        self._received: deque[bytes] = deque()
        shape = RingPlan(0, f"feed.{name}", slots, limits.META_BYTES, slots, limits.MIB, ())
        fd = segment.create(shape.port, ring_bytes(shape))
        format_ring(fd, shape, RUN_ID)
        plan = EdgePlan(0, 0, "feed", "out", "node", name, 0, "block", slots, slots, ())
        reader = RingReader(attach_ring(segment.reopen_readonly(fd), shape, RUN_ID, writable=False), shape)
        self.inlet = Inlet(plan, {0: reader}, slots, 1, _page(slots), self._released.append)
        self.inlet.send = self._on_receipt
        self._edge = OutEdge(plan, 1, _page(0))
        self._edge.post = self._received.append
        writer = RingWriter(attach_ring(fd, shape, RUN_ID, writable=True), shape)
        offered = Port(port.kind, "any")
        self._outlet = Outlet("feed", "out", offered, writer, [self._edge], frozenset(), self._wait_for)

    def give(self, payload: Any, number: int, *, redelivered: bool = False) -> StreamPacket:
        """A packet with this payload as a node process would see it. Raises Stalled if the node holds all that there are."""
        kind = "frame" if self.port.kind == "any" else self.port.kind
        self._outlet.emit(StreamPacket.new(kind=kind, source_id="check", payload=payload, meta=inputs.meta_of(number)), False)
        self._edge.flush_batch()
        raw = self._received.popleft()
        (record,) = self.inlet.admit(raw, messages.read_header(raw))
        packet = self.inlet.take(record)
        if packet is None:
            raise StreamcoreError(f"a packet made for a check was refused: {self.inlet.refusal}")
        packet.redelivered = redelivered
        return packet

    def settle(self) -> int:
        """Take back what the node has let go of; how many packets it still holds."""
        while self._released:
            self._released.popleft().settle()
        if self.inlet.unreported:
            self.inlet.flush(0)
        return self.inlet.under_way

    def _on_receipt(self, raw: bytes) -> None:
        self._outlet.on_receipt(self._edge, *messages.read_receipt(raw, messages.read_header(raw).records))

    def _wait_for(self, ready: Callable[[], bool], deadline_ns: int | None) -> bool:
        clock = Clock()
        until_ns = clock.monotonic_ns() + round(LET_GO_S * 1e9)
        while not ready():
            if clock.monotonic_ns() > until_ns:
                raise Stalled
            clock.sleep(LOOK_S)
            self.settle()
        return True


def _page(marks: int) -> StatusWriter:
    fd = segment.create("status", status_bytes([(0, marks)]))
    format_status(fd, [(0, marks)])
    return StatusWriter(fd)


class Watched(dict[str, Any]):
    """A config that writes down which keys it was asked for in vain."""

    def __init__(self, values: Mapping[str, Any]):
        super().__init__(values)
        self.missing: set[str] = set()

    def __missing__(self, key: str) -> Any:
        self.missing.add(key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self.missing.add(key)
        return super().get(key, default)


class Trial(Bench):
    """A fresh instance and its feeds. `setup` first, then `push`, then `end`; whatever the node raises comes out."""

    def __init__(self, cls: type[Node], config: Mapping[str, Any], samples: Mapping[str, Any], resume_position: int | None = None):
        super().__init__(cls(), "node", resume_position)
        self.config = Watched(config)
        attach(self.node, "node", {}, self)
        self.node.config = self.config
        self.retention, self.batch_max = number_of(cls, "retention", config), number_of(cls, "batch_max", config)
        self.slots = self.retention + self.batch_max + SPARE
        self.feeds = [Feed(name, port, self.slots) for name, port in cls.inputs.items()]
        self.samples = samples
        self.wrong = ""  # the first thing that was emitted and is not what the ports declare
        self.ended = False
        self._pushed = 0

    def push_ordinary(self, *, redelivered: bool = False) -> None:
        """A packet to each input port, in turn."""
        number, self._pushed = self._pushed, self._pushed + 1
        for feed in self.feeds:
            self.push(feed, inputs.ordinary(feed.port, number, self.samples.get(feed.name)), redelivered=redelivered)

    def push(self, feed: Feed, payload: Any, *, redelivered: bool = False) -> None:
        """One call of process or process_batch, as the host makes it: afterwards only the node can hold the packet."""
        for each in self.feeds:
            each.settle()
        packet: StreamPacket | None = feed.give(payload, self._pushed, redelivered=redelivered)
        assert packet is not None
        record = packet.parent
        try:
            if self.batch_max > 1:
                self.emit_each(self.node.process_batch([packet]))
            else:
                self.emit_each(self.node.process(packet))
        finally:
            packet = None
            record.settle()

    def run(self, limit: int) -> None:
        """Take packets of a source, and ask it to end once there are so many, or when it has waited in its own way for ASK_S.

        It is asked between two packets, and must then come back from its next step: with a last packet, or at its end.
        """
        assert isinstance(self.node, Source)
        asking = threading.Timer(ASK_S, self.ask_to_stop)
        asking.daemon = True
        asking.start()
        steps = iter(self.node.run())
        try:
            for item in steps:
                if item is None:
                    self.emit(item)  # nothing is not a packet; for process() it means that there is none
                else:
                    self.emit_each(item)
                if self.stopping:
                    break
                if len(self.outputs) >= limit:
                    self.ask_to_stop()
        finally:
            asking.cancel()
            asking.join()
        close = getattr(steps, "close", None)
        if close is not None:
            close()

    def emit_each(self, out: Any) -> None:
        """See Bench.emit_each."""
        if not isinstance(out, (StreamPacket, Iterable, type(None))):
            self.wrong = self.wrong or f"found {type(out).__name__}, expected a StreamPacket, several, or nothing"
            raise PayloadError(self.wrong)
        super().emit_each(out)

    def emit(self, packet: StreamPacket) -> None:
        """See Bench.emit. What is wrong fails a node's packet, and is left out of a source's stream, as in a run."""
        try:
            super().emit(packet)
        except PayloadError as error:  # of emitting: what the node's own code raises does not pass here
            self.wrong = self.wrong or str(error)
            if not isinstance(self.node, Source):
                raise
        if self.outputs:
            self.outputs[-1].payload = self.outputs[-1].lease = None  # or the trial itself would hold inputs

    def held(self) -> dict[str, int]:
        """By input port, how many packets the node holds."""
        return {feed.name: feed.settle() for feed in self.feeds}

    def held_in_the_end(self, allowed: int) -> tuple[dict[str, int], bool]:
        """The same, once threads had time to let go of what is more than allowed; and did only the garbage collector help."""
        clock = Clock()
        deadline_ns = clock.monotonic_ns() + round(LET_GO_S * 1e9)
        while max((held := self.held()).values(), default=0) > allowed and clock.monotonic_ns() < deadline_ns:
            clock.sleep(LOOK_S)
        if max(held.values(), default=0) <= allowed:
            return held, False
        gc.collect()
        return held, max(self.held().values()) <= allowed

    def end(self) -> None:
        """The end of the stream, and of the process."""
        self.emit_each(self.node.flush())
        self.close()

    def close(self) -> None:
        self.ended = True  # it is called once, whatever it raises
        self.node.close()
