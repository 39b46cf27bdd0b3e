"""One simulated node process: the real host, exchange, edges and ring writer in a thread that runs only when the scheduler lets it.

A fuse counts every store to what outlives the process (status page, ring table, metadata, payloads) and every message sent, and kills
the process before the chosen one. What it has stored by then stays, a metadata block or a row half written included; what it tries
to store afterwards, in a `finally`, is ignored, as a dead process stores nothing.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from streamcore import limits
from streamcore.errors import Stopped
from streamcore.node import channel
from streamcore.node.api import attach, forwarded_inputs
from streamcore.node.exchange import Exchange
from streamcore.node.host import Host
from streamcore.node.inlet import Inlet
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.shm import words as words_module
from streamcore.shm.ring import RingReader, RingWriter
from streamcore.shm.status import SPAN_WORDS, STATES, WORK, StatusWriter
from streamcore.wire.messages import WAKE_MESSAGE, sealed

if TYPE_CHECKING:
    from crash_world import World

POLL, STEP = "poll", "step"
KEY = 0xC0FFEE01
WAKE = sealed(WAKE_MESSAGE, KEY)


class Killed(BaseException):
    """SIGKILL. No `except Exception` sees it."""


class Violation(AssertionError):
    """A broken promise."""


class Fuse:
    """Burns down with every store; at 0 the process is dead, and the store does not happen."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.dead = False

    def burn(self) -> bool:
        """False: the process is dead already. Raises Killed if it dies here."""
        if self.dead:
            return False
        if self.left is not None:
            if not self.left:
                self.dead = True
                raise Killed
            self.left -= 1
        return True


class Watched:
    """A memoryview whose stores burn a fuse, but for those at `spared`. A store of a whole block may be cut in two by the kill."""

    def __init__(self, view: Any, fuse: Fuse, spared: range = range(0)):
        self.view, self.fuse, self.spared = view, fuse, spared

    def __getitem__(self, key: Any) -> Any:
        found = self.view[key]
        return Watched(found, self.fuse) if type(key) is slice else found

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is slice and self.fuse.left == 0 and not self.fuse.dead:
            half = len(value) // 2
            self.view[key.start : key.start + half] = value[:half]
        if (type(key) is int and key in self.spared and not self.fuse.dead) or self.fuse.burn():
            self.view[key] = value

    def __iter__(self) -> Iterator[int]:
        return iter(self.view)

    def __len__(self) -> int:
        return len(self.view)

    def __bytes__(self) -> bytes:
        return bytes(self.view)


class WatchedStruct:
    """Stands for a struct.Struct of the ring: packs as CPython does, zeroes first and then field by field, each a store."""

    def __init__(self, real: struct.Struct, running: Callable[[], Fuse]):
        self.real, self.running = real, running
        self.size, self.unpack_from = real.size, real.unpack_from
        code = real.format.lstrip("@")
        self.ends = [struct.calcsize("@" + code[: at + 1]) for at in range(len(code))]

    def pack_into(self, memory: Any, offset: int, *values: int) -> None:
        fuse = self.running()
        if fuse.left is None and not fuse.dead:
            self.real.pack_into(memory, offset, *values)
            return
        new = self.real.pack(*values)
        if not fuse.burn():
            return
        memory[offset : offset + self.size] = bytes(self.size)
        start = 0
        for end in self.ends:
            fuse.burn()
            memory[offset + start : offset + end] = new[start:end]
            start = end


class WatchedWriter(RingWriter):
    """The ring's writer, its stores watched from the adoption on."""

    fuse: Fuse

    def __init__(self, memory: Any, shape: Any, fuse: Fuse):
        self.fuse = fuse
        super().__init__(memory, shape)

    def _adopt(self) -> Any:
        for name in ("_bytes", "_u32", "_u64"):
            if hasattr(self, name):
                setattr(self, name, Watched(getattr(self, name), self.fuse))
        return super()._adopt()

    def slot_view(self, slot: int, nbytes: int) -> memoryview:
        view: Watched = super().slot_view(slot, nbytes)  # type: ignore[assignment]
        if self.fuse.left == 0 and nbytes and not self.fuse.dead:
            view.view[: nbytes // 2] = b"\xee" * (nbytes // 2)  # the copy had begun
        self.fuse.burn()
        return view.view  # type: ignore[no-any-return]


class SimInbox:
    """What has reached a process and was not yet read; where the real inbox would be. Waiting is handing over to the scheduler."""

    def __init__(self, process: SimProcess):
        self.queue: deque[bytes] = deque()
        self._process = process
        self.path = ""

    def take(self) -> bytes | None:
        process = self._process
        if process.world.rng.random() < 0.1:
            process.park("looking into its inbox", STEP)
        return self.queue.popleft() if self.queue else None

    def poll(self, timeout_ms: int | None) -> bool:
        """False when the scheduler lets the time pass."""
        process = self._process
        process.may_idle = timeout_ms is not None
        process.park("waiting", POLL)
        if not self.queue and timeout_ms is not None:
            process.world.clock_ns += timeout_ms * 1_000_000
        return bool(self.queue)


class SimPeer:
    """A connection to one incarnation of another node."""

    def __init__(self, process: SimProcess, node: str, incarnation: int):
        self._process = process
        self.key = ((process.name, process.incarnation), (node, incarnation))
        self._closed = False

    def send(self, message: bytes) -> None:
        if not self._closed and self._process.fuse.burn():
            self._process.world.net.send(self.key, sealed(message, KEY))

    def close(self, *, orderly: bool) -> None:
        self._closed = True
        if not orderly:
            self._process.world.net.hung_up(self.key)


class SimProcess:
    """One incarnation of one node. `ended` says how: done, killed, terminated, or the text of what it raised."""

    def __init__(self, world: World, name: str, incarnation: int, make_node: Callable[[SimProcess], Any]):
        self.world, self.name, self.incarnation = world, name, incarnation
        self.fuse = Fuse()
        self.inbox = SimInbox(self)
        self.where, self.kind, self.may_idle = "born", STEP, False
        self.ended = ""
        self.said: deque[str] = deque()  # to the coordinator
        self.orders: deque[channel.Command] = deque()  # from it, not yet arrived
        self.poisoned = world.poison[name].removed
        self.views: list[Any] = []
        self.host: Host | None = None
        self._make_node = make_node
        self._go = threading.Lock()
        self._go.acquire()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    # --- seen from the scheduler

    @property
    def me(self) -> tuple[str, int]:
        return self.name, self.incarnation

    @property
    def runnable(self) -> bool:
        return not self.ended and (self.kind == STEP or self.may_idle or bool(self.inbox.queue))

    def resume(self) -> None:
        """Let it run to where it parks or ends."""
        world = self.world
        before, world.running = world.running, self
        self._go.release()
        world.turn.acquire()
        world.running = before
        if self.ended:
            self._thread.join()

    def order(self, command: channel.Command) -> None:
        """A command arrives, as in the lifeline's thread."""
        assert self.host is not None
        if isinstance(command, channel.Stop):
            self.host.stopping = True
        self.host.exchange.commands.append(command)
        self.inbox.queue.append(WAKE)

    def terminate(self) -> None:
        """SIGTERM."""
        if self.host is not None:
            self.host.stopping = self.host.exchange.terminating = True
            self.inbox.queue.append(WAKE)

    # --- in the thread

    def park(self, where: str, kind: str = STEP) -> None:
        """Let others run. Dies here if it was killed meanwhile."""
        if self.fuse.dead:  # it unwinds
            raise Killed
        self.where, self.kind = where, kind
        self.world.turn.release()
        self._go.acquire()
        if self.fuse.dead:
            raise Killed

    def _main(self) -> None:
        self._go.acquire()
        try:
            if self.fuse.dead:
                raise Killed
            self._work()
            self.ended = "done"
        except Killed:
            self.ended = "killed"
        except Stopped:
            self.ended = "terminated"
        except BaseException as error:  # the model's or the host's: the run has found something
            self.ended = f"{type(error).__name__}: {error}"
            if self.world.trace:
                logging.getLogger("crash_model").exception("%s", self.me)
        self.fuse.dead = True
        self.host = None
        self.world.turn.release()

    def _work(self) -> None:
        """SYNC: NodeProcess._work, without sockets and signals."""
        world, plan = self.world, self.world.graph.plans[self.name]
        status = StatusWriter(world.pages[self.name])
        # No promise hangs on durations and spans.
        shown = range(status.histogram(WORK), status.spans_word + limits.SPANS_MAX * SPAN_WORDS)
        status.words = Watched(status.words, self.fuse, shown)  # type: ignore[assignment]
        status.set("incarnation", self.incarnation)
        for word in ("busy_since_ns", "waits_for_credit"):
            status.set(word, 0)
        status.set("state", STATES.index("starting"))
        exchange = Exchange(self.name, self.inbox, status, world.log, KEY)  # type: ignore[arg-type]
        node = self._make_node(self)
        host = Host(node, plan, exchange, status, world.log)
        host.fail_poisoned = lambda packet: world.saw_poisoned(self, packet)
        exchange.open_peer = lambda peer, n: SimPeer(self, peer, n)  # type: ignore[assignment,return-value]
        self._wire(host, exchange, status, type(node))
        attach(node, self.name, {}, host)
        self.host = host
        node.setup()
        status.set("state", STATES.index("ready"))
        self.said.append("ready")
        host.await_start()
        host.run()
        node.close()
        del node, host.node
        host.finish()
        self._check_free(host)
        self.said.append("done")
        self.park("about to exit")

    def _wire(self, host: Host, exchange: Exchange, status: StatusWriter, cls: Any) -> None:
        """SYNC: NodeProcess._wire."""
        world, plan = self.world, self.world.graph.plans[self.name]
        shapes = {shape.id: shape for shape in world.graph.rings.values()}
        readers = {number: RingReader(world.memory[number], shapes[number]) for number in plan.reads}
        inlets, out_edges = [], []
        for edge in world.graph.edges:
            if edge.to_node == self.name:
                release = exchange.released_in(lambda: None)
                inlets.append(Inlet(edge, readers, shapes[edge.ring].entry_count, self.incarnation, status, release))
            if edge.from_node == self.name:
                out_edges.append(OutEdge(edge, self.incarnation, status))
        for inlet in inlets:
            inlet.poisoned = frozenset(poisoned.sequence for poisoned in self.poisoned if poisoned.edge == inlet.plan.id)
        outlets = {}
        for name, number in plan.outputs.items():
            writer = WatchedWriter(world.memory[number], shapes[number], self.fuse)
            writer.set_aside(world.lost_slots(number))
            forwards = frozenset(forwarded_inputs(cls, name))
            outlets[name] = Outlet(self.name, name, cls.outputs[name], writer, out_edges, forwards, exchange.wait_for)
        host.wire(inlets, outlets)

    def _check_free(self, host: Host) -> None:
        """At an orderly end every row and slot of our ring is free, and nothing of our inputs is open."""
        for outlet in host._outlets.values():
            outlet.settle_loans()
            writer, shape = outlet.writer, outlet.writer.shape
            lost = [edge for edge in self.world.graph.edges if edge.to_node in self.world.gone]
            aside_max = sum(edge.window + edge.kept for edge in lost)  # what a lost node may have passed on
            slots = shape.slot_count
            if writer.free_entries != shape.entry_count or not slots - aside_max <= writer.free_slots <= slots:
                raise Violation(
                    f"{self.me} ends with {writer.free_entries}/{shape.entry_count} rows and {writer.free_slots}/{slots} slots free"
                )
        for inlet in host.exchange.inlets.values():
            if inlet.under_way or inlet.waiting:
                raise Violation(f"{self.me} ends while {inlet.under_way} inputs are open and {inlet.waiting} wait")


def watch_ring_structs(running: Callable[[], Fuse]) -> Callable[[], None]:
    """Let every pack_into of a ring's row burn the running process' fuse; returns what undoes it."""
    real = words_module.ENTRY_REST
    words_module.ENTRY_REST = WatchedStruct(real, running)  # type: ignore[assignment]

    def undo() -> None:
        words_module.ENTRY_REST = real

    return undo
