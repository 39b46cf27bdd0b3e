"""The node API: Port, Node, Source, Sink. What a plugin author sees; the host in this room calls it.

A class declares `inputs`, `outputs` and a Cerberus schema `config`; on an instance `self.config` holds the checked values. Everything
here is called from one thread, in this order: setup, then run, or begin and process, then flush (end of stream), then close.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from streamcore.errors import ConfigError
from streamcore.packet import PROFILES, Array, Emitted, JsonSchema, Profile, StreamPacket, carries_arrays

if TYPE_CHECKING:
    import numpy as np

FOREVER = -1
TRANSPORTS = ("shm", "durable", "network")


@dataclass(frozen=True)
class Port:
    """A named hole in a node.

    Args:
      kind: what its packets are, e.g. "frame"; "any" connects to every kind.
      profile: `array(...)`, `json_schema(...)`, "json", "bytes" or "any".
      required: an input without an edge is an error in the spec unless False. Outputs never need an edge.
      forwards: output ports only: the inputs whose payload (or a view of it) may leave by this port without a copy. None means every
        input that can carry arrays, if this port can. The plan keeps memory for what may be forwarded; anything else is copied.
      doc: one line for `streamctl node describe`.
      transport: input ports only: "durable" if the node stores what enters, "network" if it sends it away. Such an input takes JSON and
        bytes, and arrays only if the node's config names a `codec`.
    """

    kind: str
    profile: Profile = "any"
    required: bool = True
    forwards: tuple[str, ...] | None = None
    doc: str = ""
    transport: str = "shm"

    def __post_init__(self) -> None:
        if not isinstance(self.profile, (Array, JsonSchema)) and self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} is not array(...), json_schema(...) or one of {', '.join(PROFILES)}")
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport {self.transport!r} is not one of {', '.join(TRANSPORTS)}")


class Counter(Protocol):
    """A number on the node's status page; one store per call."""

    def add(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...


class Metrics(Protocol):
    def counter(self, name: str) -> Counter: ...
    def gauge(self, name: str) -> Counter: ...


class Room(Protocol):
    """What a node may know of an output port; `glance` takes in what its consumers have reported."""

    @property
    def has_room(self) -> bool: ...
    @property
    def has_consumer(self) -> bool: ...
    @property
    def glance(self) -> Callable[[], None]: ...


class Runtime(Protocol):
    """What runs a node: the host of a process, or `streamcore.testing.run_node`."""

    @property
    def log(self) -> logging.Logger: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def stopping_fd(self) -> int: ...
    @property
    def run_id(self) -> str: ...
    @property
    def resume_position(self) -> int | None: ...
    def loan(self, port: str, shape: tuple[int, ...], dtype: Any, timeout_ns: int) -> np.ndarray[Any, Any]: ...
    def outlet(self, port: str) -> Room: ...
    def wait_until(self, deadline_ns: int) -> bool: ...
    @property
    def next_events(self) -> Callable[[int], list[dict[str, Any]]]: ...
    def fail(self, packet: StreamPacket, error: Exception) -> None: ...
    def still_starting(self) -> None: ...


class Node:
    """A node with inputs and outputs: subclass it and write `process`.

    Class attributes:
      inputs, outputs: name to Port.        config: Cerberus schema of the node's `config:` mapping.
      retention: packets that the node keeps beyond `process` (batches, joins, windows); a number, or the name of a config key.
      batch_max: packets that `process_batch` takes at once; a number or the name of a config key.
      breaks_cycles: a cycle may pass through this node. Its outputs copy their payload (forwards=()), and it needs no packet of the cycle
        to begin or to end.
    """

    inputs: ClassVar[Mapping[str, Port]] = {}
    outputs: ClassVar[Mapping[str, Port]] = {}
    config: Any = {}
    retention: ClassVar[int | str] = 0
    batch_max: ClassVar[int | str] = 1
    breaks_cycles: ClassVar[bool] = False

    # Only of nodes with a `pull`. `taking`: False keeps inputs waiting at their producers. `pending`: the end of the stream waits for what
    # pull() has still to give. `pull_at_ns`: call it then (monotonic clock), though nothing has come. `pressing`: it waits for what is
    # completed, so consumers should report that at once.
    taking: bool = True
    pending: bool = False
    pull_at_ns: int | None = None
    pressing: bool = False

    id: str = "node"
    _runtime: Runtime

    def setup(self) -> None:
        """Called once before `ready`. Open files, load models; raise ConfigError for what the user must mend.

        What takes longer than `startup_s` says now and then that it gets on: `self.still_starting()`.
        """

    def begin(self) -> Emitted:
        """Called when all nodes are ready, before the first input; not of a source. May emit what a cycle begins with.

        Called again by a new process if none before it has processed an input: give packets a `position`, so that a repeat has its id.
        """
        return None

    def process(self, packet: StreamPacket) -> Emitted:
        """Handle one packet. Return or yield output packets, or nothing. An exception fails this packet, not the node."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def process_batch(self, packets: list[StreamPacket]) -> Emitted:
        """Handle what is waiting, at most `batch_max` packets, in order. Never waits to fill a batch.

        An exception fails all of them; `self.fail` fails one.
        """
        raise NotImplementedError(f"{type(self).__name__} has batch_max but no process_batch()")

    def pull(self) -> StreamPacket | None:
        """The next packet that the node has by itself, for one that stores and sends later; None: nothing now.

        Called between inputs, as long as every output can take a packet without waiting, and before the process waits. Give packets a
        `position`: it comes back in on_completed, and a repeat after a restart has the same id. One that cannot travel is completed as
        refused.
        """
        return None

    def blocked(self) -> None:
        """Called in place of pull() while an output has no room: to store what would otherwise wait. May set `pull_at_ns`."""

    def on_order(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what somebody asks of a live run for this node, and say what was done: JSON objects both, of a few KiB.

        Called between packets, also of a node that is paused; of a source while it waits. An exception is the answer to whoever asked, and
        nothing else: the node goes on. Other nodes wait meanwhile, so let a long piece of work be many orders.
        """
        raise ConfigError(f"{type(self).__name__} takes no orders, found {name!r}")

    def flush(self) -> Emitted:
        """Called once after the last input, before end of stream is passed on. May emit what was held back."""
        return None

    def close(self) -> None:
        """Called once at the end of an orderly stop, after every output was completed."""

    def on_completed(self, packet: StreamPacket, outcome: str) -> None:
        """An output of this node was completed by all its consumers; outcome is ok, dropped, refused, away or failed.

        Refused is what raised DeliveryRefused, away what raised DestinationAway; of several consumers the worst is told, the last first.
        Called between packets; `packet` comes without its payload. An exception is counted as a failure of the node and logged with the
        packet's id; the packet keeps its outcome and the node goes on, whatever `on_error` says.
        """

    def loan(self, port: str, shape: tuple[int, ...], dtype: Any = "uint8", timeout_ns: int = FOREVER) -> np.ndarray[Any, Any]:
        """Reserve an output slot and return it as a writable array, waiting up to `timeout_ns` for one to be free.

        Yielding a packet whose payload is this array (or a view of it) commits the slot without a copy; dropping the array aborts it.

        Args:
          shape: e.g. (height, width, 3) for BGR; nbytes must not exceed the port's slot_bytes.
          timeout_ns: monotonic nanoseconds; 0 tries once; FOREVER (-1) waits.
        Returns:
          C-contiguous array. It still holds the pixels of an earlier packet: overwrite all of it.
        Raises:
          PayloadTooLarge: carries port, found and allowed bytes, and the spec key to raise.
          RingFull: no slot was completed in time; `.holders` names (edge, packets) that keep them.
        """
        return self._runtime.loan(port, shape, dtype, timeout_ns)

    def has_room(self, port: str) -> bool:
        """Can one more packet leave by this port without waiting? If not, its consumers are asked to report what they have taken."""
        outlet = self._runtime.outlet(port)
        if not outlet.has_room:
            outlet.glance()
        return outlet.has_room

    def has_consumer(self, port: str) -> bool:
        """False once nobody takes what leaves by this port any more: it fails at once, and there is always room for it."""
        return self._runtime.outlet(port).has_consumer

    def still_starting(self) -> None:
        """From a long setup(), each time that it has got on: `startup_s` begins anew."""
        self._runtime.still_starting()

    def fail(self, packet: StreamPacket, error: Exception) -> None:
        """Fail one input of a batch, as an exception in process() fails a single one; the others are as process_batch() leaves them."""
        self._runtime.fail(packet, error)

    @property
    def log(self) -> logging.Logger:
        return self._runtime.log

    @property
    def metrics(self) -> Metrics:
        """`self.metrics.counter("frames_blurred").add()`; shown by `streamctl ps --json` and in the report."""
        return self._runtime.metrics

    @property
    def run_id(self) -> str:
        """What names this run and no other, the same in every incarnation: packet ids come again in another run."""
        return self._runtime.run_id

    @property
    def stopping(self) -> bool:
        """True once the run is asked to end: a source should return soon; other nodes finish what comes."""
        return self._runtime.stopping

    @property
    def stopping_fd(self) -> int:
        """A descriptor that becomes readable at that moment, for a source that waits in a poll() of its own. Never read or close it."""
        return self._runtime.stopping_fd


class Source(Node):
    """A node without inputs: write `run`."""

    def run(self) -> Iterable[StreamPacket | list[StreamPacket]]:
        """Yield packets made by StreamPacket.new, or lists of them; return at the end of the stream."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def wait_until(self, deadline_ns: int) -> bool:
        """Sleep until `deadline_ns` on the monotonic clock and answer receipts; False when the run is asked to end: at once, or at a
        deadline that is at most 50 ms away.

        Use this instead of time.sleep to pace a source.
        """
        return self._runtime.wait_until(deadline_ns)

    def next_events(self, after: int) -> list[dict[str, Any]]:
        """What has happened in this run since the event of this number, 0 for all; waits until there is something. See docs/operations.md.

        Each is a JSON object with a rising `number`; `lost` says how many before it were forgotten. None at all: nothing more is to come,
        for all nodes that this one does not feed are done. Until then events come also while the run drains: after run() has been left
        because the run is to end, flush() can go on with them.
        """
        return self._runtime.next_events(after)

    @property
    def resume_position(self) -> int | None:
        """The position behind which to go on after a restart, or None: all packets up to it were emitted, and what of them is not completed
        is sent again by itself. For a source with an `on_completed`: it was told of all packets up to it.
        """
        return self._runtime.resume_position


class Sink(Node):
    """A node without outputs: `process` returns nothing."""


def attach(node: Node, node_id: str, config: Mapping[str, Any], runtime: Runtime) -> None:
    """Give an instance its identity, checked config and runtime. Called once, before setup."""
    node.id, node.config, node._runtime = node_id, dict(config), runtime


class Declared(Protocol):
    """What a class and its manifest both tell of a plugin."""

    @property
    def inputs(self) -> Mapping[str, Port]: ...
    @property
    def outputs(self) -> Mapping[str, Port]: ...
    @property
    def retention(self) -> int | str: ...
    @property
    def batch_max(self) -> int | str: ...


def number_of(plugin: Declared, attribute: str, config: Mapping[str, Any]) -> int:
    """`retention` or `batch_max` of a plugin under this config."""
    value = getattr(plugin, attribute)
    return int(config[value]) if isinstance(value, str) else int(value)


def forwarded_inputs(plugin: Declared, port: str) -> tuple[str, ...]:
    """The inputs whose payload may leave by output `port` as a reference."""
    out = plugin.outputs[port]
    if not carries_arrays(out.profile):
        return ()
    if out.forwards is not None:
        return out.forwards
    return tuple(name for name, into in plugin.inputs.items() if carries_arrays(into.profile))


def takes_arrays(port: Port, config: Mapping[str, Any]) -> bool:
    """May an array enter by this input? What stores packets or sends them away needs a codec for it, named in the node's config."""
    return port.transport == "shm" or bool(config.get("codec"))


def role_of(cls: type[Node]) -> str:
    """source, sink or node."""
    return "source" if issubclass(cls, Source) else "sink" if issubclass(cls, Sink) else "node"
