"""Run one node without processes, rings or sockets: for unit tests of nodes, ours and yours.

    out = run_node(Blur, [StreamPacket.new(kind="frame", source_id="test", payload=picture)], {"ksize": 3})

The node sees what the host would show it: checked config with defaults, read-only payloads, loans that hold old bytes. What it emits
is checked as the host checks it. Whatever it raises comes out of `run_node`.
"""

from __future__ import annotations

import copy
import logging
import os
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from streamcore import limits
from streamcore.errors import ConfigError, PayloadError, PayloadTooLarge, PluginError
from streamcore.node.api import Counter, Metrics, Node, Room, Source, attach, number_of
from streamcore.node.checks import Check
from streamcore.packet import Meta, StreamPacket, derived_id16, encode_meta, source_id16
from streamcore.payload import DTYPE_NAMES
from streamcore.spec.plain import Wrong, plain
from streamcore.spec.schema import Checker, Finding

RUN_ID = "run_node"  # all calls are one run: a node may be given again what it has had
OLD_BYTE = 0xA5  # loans are filled with it, as a slot still holds an earlier frame: a node that leaves a gap is seen
_BLANK = {"ts": "2026-11-23T07:00:00.000000Z", "monotonic_ns": 1_000_000_000, "severity": "info", "edge": "", "path": "", "value": None}
LIFE = (  # what happens in a run, as a source sees it: SYNC: telemetry/journal.py
    {**_BLANK, "number": 1, "event": "node_ready", "node": "node", "detail": "", "run": "run_node"},
    {**_BLANK, "number": 2, "event": "run_up", "node": "", "detail": "", "run": "run_node"},
    {**_BLANK, "number": 3, "event": "run_ending", "node": "", "detail": "end of stream", "run": "run_node"},
)


class Outputs(list[StreamPacket]):
    """The packets that a node emitted, in order, with their ports and kinds filled in, and what else it did.

    Attributes:
      completed: (packet_id, outcome) of every call of on_completed.    metrics: name to value.
      failed: (packet_id, error) of every call of fail().
      deadlines_ns: what a source waited for; in run_node no time passes, so a test can look at the pace without waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.completed: list[tuple[str, str]] = []
        self.failed: list[tuple[str, Exception]] = []
        self.metrics: dict[str, float] = {}
        self.deadlines_ns: list[int] = []

    def on(self, port: str) -> list[StreamPacket]:
        """Those that left by one port."""
        return [packet for packet in self if packet.port == port]


def run_node(
    node: Node | type[Node],
    packets: Iterable[StreamPacket] = (),
    config: Mapping[str, Any] | None = None,
    *,
    node_id: str = "node",
    limit: int | None = None,
    resume_position: int | None = None,
) -> Outputs:
    """Call setup, then run, or begin and process or process_batch, then flush and close, as a node process does.

    Args:
      packets: inputs in order. A node with several inputs needs `in_port` set on each. None of them is changed.
      config: as in a spec; checked by the class's schema, defaults filled in.
      limit: ask a source to stop once it has emitted so many packets.
      resume_position: what a source finds in `self.resume_position`.
    Returns:
      What the node emitted, in order, with the ids that a run gives to the same inputs of a node of this id. Payloads are the very objects
      the node gave out. Each was completed at once, with outcome ok.
    Raises:
      ConfigError: names every key of the config that the schema refuses.
      PluginError: `node` is no node, or `packets` are no packets, or not for it.
      PayloadError: an output whose port, type or profile is wrong, or that is not able to travel.
      Whatever the node itself raises; close() is not called then.
    """
    cls = node if isinstance(node, type) else type(node)
    if not issubclass(cls, Node):
        raise PluginError(f"found {cls.__name__}, expected a subclass of Node, Source or Sink, or an object of one")
    if isinstance(packets, StreamPacket):
        raise PluginError(f"{node_id}: found one packet, expected a list of them")
    instance = node() if isinstance(node, type) else node
    bench = Bench(instance, node_id, resume_position)
    attach(instance, node_id, check_config(type(instance), config or {}), bench)
    try:
        instance.setup()
        if isinstance(instance, Source):
            if next(iter(packets), None) is not None:
                raise PluginError(f"{node_id}: packets for a source, which has no input")
            bench.run_source(instance, limit)
        else:
            bench.emit_each(instance.begin())
            bench.run_consumer(packets)
        bench.emit_each(instance.flush())
        instance.close()
    finally:
        bench.release()
    return bench.outputs


def check_config(cls: type[Node], config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the defaults of the class's schema. Raises ConfigError for all that the schema refuses."""
    wrong: Wrong = []
    given = plain(config, (), wrong)
    if not isinstance(given, dict):
        raise ConfigError(f"config of {cls.__name__}: found {type(config).__name__}, expected a mapping")
    checked, findings = Checker(cls.config).check(given)
    if wrong:  # the checker has seen None in their place
        findings = [Finding(*each) for each in wrong]
    if findings:
        told = "; ".join(f"{'.'.join(map(str, item.where))}: found {item.found}, expected {item.expected}" for item in findings)
        raise ConfigError(f"config of {cls.__name__}: {told}")
    return checked


class _Number:
    """A counter or gauge that lives in a dict."""

    def __init__(self, values: dict[str, float], name: str):
        self._values, self._name = values, name
        values.setdefault(name, 0)

    def add(self, amount: float = 1) -> None:
        self._values[self._name] += amount

    def set(self, value: float) -> None:
        self._values[self._name] = value


class _Numbers:
    def __init__(self, values: dict[str, float]):
        self._values = values

    def counter(self, name: str) -> Counter:
        return _Number(self._values, name)

    gauge = counter


class _Input:
    """What the packets that are derived from one input have in common."""

    def __init__(self) -> None:
        self.derived = 0  # as node/lease.Record.derived counts: part of their ids


class _Open:
    """An output whose consumer takes everything at once."""

    has_room = has_consumer = True

    def glance(self) -> None:
        pass


def _close(fd: int) -> None:
    with suppress(OSError):  # a plugin that is being checked may have closed it
        os.close(fd)


class Bench:
    """The Runtime behind `run_node`, and behind the trials of `streamctl node check`."""

    def __init__(self, node: Node, node_id: str, resume_position: int | None):
        self.node, self.node_id = node, node_id
        self.outputs = Outputs()
        self.log = logging.getLogger(f"streamcore.node.{node_id}")
        self.metrics: Metrics = _Numbers(self.outputs.metrics)
        self.stopping = False
        self.run_id = RUN_ID
        self.stopping_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.release = weakref.finalize(self, _close, self.stopping_fd)
        self.resume_position = resume_position

    # --- what node code calls

    def outlet(self, port: str) -> Room:
        self._port(port)
        return _Open()

    def loan(self, port: str, shape: tuple[int, ...], dtype: Any, timeout_ns: int) -> np.ndarray[Any, Any]:
        self._port(port)
        kind = np.dtype(dtype)
        if kind not in DTYPE_NAMES:
            raise PayloadError(f"port {self.node_id}.{port}: a loan of dtype {kind} cannot travel")
        loan = np.empty(shape, kind)
        if loan.nbytes > limits.SLOT_BYTES:
            raise PayloadTooLarge(f"{self.node_id}.{port}", loan.nbytes, limits.SLOT_BYTES)
        loan.reshape(-1).view(np.uint8).fill(OLD_BYTE)
        return loan

    def wait_until(self, deadline_ns: int) -> bool:
        self.outputs.deadlines_ns.append(deadline_ns)
        return not self.stopping

    def next_events(self, after: int) -> list[dict[str, Any]]:
        """The life of a run in three events, one at a time."""
        return [event | {"lost": 0} for event in LIFE if event["number"] == after + 1]

    def still_starting(self) -> None:
        """Here nobody waits for it."""

    def fail(self, packet: StreamPacket, error: Exception) -> None:
        self.outputs.failed.append((packet.packet_id, error.with_traceback(None)))  # which would keep the packet

    # --- driving the node

    def ask_to_stop(self) -> None:
        self.stopping = True
        os.eventfd_write(self.stopping_fd, 1)

    def run_source(self, source: Source, limit: int | None) -> None:
        steps = iter(source.run())
        for item in steps:
            for packet in (item,) if isinstance(item, StreamPacket) else item:
                self.emit(packet)
            if limit is not None and len(self.outputs) >= limit:
                self.ask_to_stop()
                break
        close = getattr(steps, "close", None)
        if close is not None:
            close()

    def run_consumer(self, packets: Iterable[StreamPacket]) -> None:
        batch_max = number_of(type(self.node), "batch_max", self.node.config)
        sequences: dict[str, int] = {}
        inputs = (self._as_input(packet, sequences) for packet in packets)
        while batch := list(islice(inputs, batch_max)):
            self.emit_each(self.node.process_batch(batch) if batch_max > 1 else self.node.process(batch[0]))
            self._pull_all()
        self._pull_all()

    def _pull_all(self) -> None:
        """What the node has by itself; it is completed at once, so there is always room for more."""
        while (packet := self.node.pull()) is not None:
            self.emit(packet)

    def _as_input(self, packet: StreamPacket, sequences: dict[str, int]) -> StreamPacket:
        """The packet as the host would hand it over: addressed, numbered, with a read-only payload."""
        if not isinstance(packet, StreamPacket):
            found = type(packet).__name__
            raise PluginError(f"{self.node_id}: found an input of the type {found}, expected a StreamPacket (StreamPacket.new)")
        given = copy.copy(packet)
        ports = type(self.node).inputs
        if not given.in_port and len(ports) == 1:
            given.in_port = next(iter(ports))
        if given.in_port not in ports:
            raise PluginError(f"{self.node_id}: a packet has in_port {given.in_port!r}, expected one of: {', '.join(ports) or 'none'}")
        Check(f"{self.node_id}.{given.in_port}", ports[given.in_port], config=self.node.config).done_with(given.payload)
        if isinstance(given.payload, np.ndarray) and given.payload.flags.writeable:
            given.payload = given.payload.view()
            given.payload.flags.writeable = False
        if given.sequence < 0:
            given.sequence = sequences.get(given.in_port, 0)
        sequences[given.in_port] = given.sequence + 1
        given.port, given.parent = "", _Input()
        return given

    # --- checking what it emits

    def emit_each(self, out: Any) -> None:
        for packet in () if out is None else (out,) if isinstance(out, StreamPacket) else out:
            self.emit(packet)

    def emit(self, packet: StreamPacket) -> None:
        if not isinstance(packet, StreamPacket):
            found = type(packet).__name__
            raise PayloadError(f"node {self.node_id}: found {found}, expected a StreamPacket (StreamPacket.new or packet.derive)")
        packet = copy.copy(packet)  # the node may keep the one that it made, derive from it, or emit it again
        ports = type(self.node).outputs
        if not packet.port and len(ports) == 1:
            packet.port = next(iter(ports))
        port = self._port(packet.port)
        Check(f"{self.node_id}.{packet.port}", port).done_with(packet.payload)
        if port.kind != "any":
            packet.kind = port.kind
        self._seal(packet)
        self._refuse_unable_to_travel(packet)
        self.outputs.append(packet)
        finished = copy.copy(packet)
        finished.payload = finished.lease = None  # SYNC: placing.without_payload
        self.outputs.completed.append((packet.packet_id, "ok"))
        self.node.on_completed(finished, "ok")

    def _port(self, name: str) -> Any:
        ports = type(self.node).outputs
        if name not in ports:
            raise PayloadError(f"node {self.node_id}: found output port {name!r}, expected one of: {', '.join(ports) or 'none'}")
        return ports[name]

    def _seal(self, packet: StreamPacket) -> None:
        """Give the packet the id that the host gives it, and that a repeat would get again. SYNC: placing.id16_of."""
        if isinstance(packet.parent, _Input):
            packet.parent.derived += 1
            packet.id16 = derived_id16(packet.id16, f"{self.node_id}.{packet.port}\0{packet.parent.derived - 1}".encode())
        elif packet.position is not None:
            packet.id16 = source_id16(self.node_id, packet.port, packet.position)
        packet.parent = None

    def _refuse_unable_to_travel(self, packet: StreamPacket) -> None:
        payload = packet.payload
        by_slot = isinstance(payload, (np.ndarray, bytes, bytearray, memoryview))
        nbytes = payload.nbytes if isinstance(payload, (np.ndarray, memoryview)) else len(payload) if by_slot else 0
        if nbytes > limits.SLOT_BYTES:
            raise PayloadTooLarge(f"{self.node_id}.{packet.port}", nbytes, limits.SLOT_BYTES)
        value = None if by_slot else payload
        encode_meta(
            Meta(packet.id16, packet.kind, packet.source_id, packet.wall_ns, packet.capture_ns, None, value, position=packet.position)
        )
        found = len(encode_meta(Meta(packet.id16, packet.kind, packet.source_id, packet.wall_ns, packet.capture_ns, meta=packet.meta)))
        if found > limits.META_BYTES:
            raise PayloadError(f"port {self.node_id}.{packet.port}: metadata of {found} bytes, meta_bytes is {limits.META_BYTES}")
