"""From the first line of a node process to its last: boot, plugin, rings, sockets, setup, run, close, report."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import msgspec

from streamcore import limits, plugins
from streamcore.clock import log_stamp
from streamcore.errors import ConfigError, JobError, PluginError, Stopped, StreamcoreError
from streamcore.graph.model import Boot, NodePlan, RingPlan
from streamcore.interpreter import die_with
from streamcore.node import channel, masking, output, stacks
from streamcore.node.api import Node, attach, forwarded_inputs
from streamcore.node.checks import check_for
from streamcore.node.dead_letter import Letters
from streamcore.node.exchange import Exchange
from streamcore.node.following import Following
from streamcore.node.host import Host
from streamcore.node.inlet import Inlet
from streamcore.node.lifeline import Lifeline
from streamcore.node.ordering import Ordering
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.node.tapping import Tapping
from streamcore.secret import Masker
from streamcore.shm import segment
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.ring import RingReader, RingWriter, attach_ring
from streamcore.shm.status import STATES, StatusWriter
from streamcore.wire.inbox import Inbox, Peer
from streamcore.wire.sockets import inbox_path

EXIT_TERMINATED = 128 + signal.SIGTERM
_TEXT_CHARS_MAX = 16_000  # of a cause or traceback, so that a report fits its datagram


def main(boot_fd: int) -> int:
    """Run the node that the Boot at `boot_fd` describes; the process' exit status."""
    boot = msgspec.json.decode(os.pread(boot_fd, os.fstat(boot_fd).st_size, 0), type=Boot)
    die_with(boot.coordinator_pid)
    segment.keep_from_children([boot_fd, boot.status_fd, boot.control_fd, boot.inbox_fd, *boot.ring_fds.values()])
    os.close(boot_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the coordinator's to interpret
    losses = output.keep_printing()
    faulthandler.enable()
    stacks.register()
    masking.mask_output(Masker(boot.secrets))
    return NodeProcess(boot, _logger(boot), losses).run()


def _take_place(plan: NodePlan) -> None:
    """The CPUs and the niceness that the spec gives. Raises ConfigError if this box does not."""
    if plan.cpu_affinity:
        try:
            os.sched_setaffinity(0, plan.cpu_affinity)
        except OSError:
            have = sorted(os.sched_getaffinity(0))
            raise ConfigError(f"cpu_affinity: found {list(plan.cpu_affinity)}, expected some of the CPUs of this box: {have}") from None
    if plan.nice:
        try:
            os.nice(plan.nice)
        except OSError as error:
            raise ConfigError(f"nice: found {plan.nice}, which needs a right that streamctl does not have ({error.strerror})") from None


class _LineFormatter(logging.Formatter):
    """`2026-11-23T07:00:00.123Z LEVEL text`, its further lines and a traceback indented below it. SYNC: cli/follow.py LINE."""

    def format(self, record: logging.LogRecord) -> str:
        first, *more = record.getMessage().splitlines() or [""]
        if record.exc_info:
            more += self.formatException(record.exc_info).splitlines()
        head = f"{log_stamp(round(record.created * 1e9))} {record.levelname} {first}"
        return "\n".join([head, *("    " + line for line in more)])


def _logger(boot: Boot) -> logging.Logger:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.DEBUG if boot.debug else logging.INFO, handlers=[handler], force=True)
    return logging.getLogger(f"streamcore.node.{boot.node.id}")


class NodeProcess:
    """One node's process; `where` says what it is doing, for the report of a failure."""

    def __init__(self, boot: Boot, log: logging.Logger, losses: output.Losses):
        self.boot, self.log = boot, log
        self.where = "host"
        self._control = socket.socket(fileno=boot.control_fd)
        losses.tell(lambda why: self._say(channel.LogLost(why)))
        self._status = StatusWriter(boot.status_fd)
        path = inbox_path(boot.run_dir, boot.node.id, boot.incarnation)
        peers = {node for edge in boot.edges for node in (edge.from_node, edge.to_node)}
        connections_max = 2 * len(peers) + limits.STRANGERS_MAX  # that of a peer's predecessor may not have ended yet
        self._inbox = Inbox(socket.socket(fileno=boot.inbox_fd), path, connections_max, lingers=boot.lingers)
        self._exchange = Exchange(boot.node.id, self._inbox, self._status, log, boot.message_key)
        self._following = Following(self._exchange, self._status, boot.run, self._say)
        self._host: Host
        self._tapping: Tapping
        self._lifeline = Lifeline(self._inbox, self._control, self._on_command, self._status, boot.message_key)

    def run(self) -> int:
        """Exit status: 0 done, 1 failed (reported on the control channel), 143 terminated."""
        try:
            self._work()
        except Stopped:
            self.log.info("stopped before the end of its stream")
            try:
                self._step("close", self._host.node.close)
            except Exception:  # the author's code; told to go is told to go
                self.log.exception("close() failed")
            self._close(orderly=False)
            return EXIT_TERMINATED
        except (Exception, SystemExit) as error:  # whatever the author's code did, the coordinator must learn of it
            return self._fail(error)
        self._close(orderly=True)
        return 0

    def _work(self) -> None:
        self._status.set("pid", os.getpid())
        self._status.set("incarnation", self.boot.incarnation)
        for name in ("busy_since_ns", "waits_for_credit"):  # a predecessor may have died with them set
            self._status.set(name, 0)
        self._status.set("state", STATES.index("starting"))
        self.where = "config"
        _take_place(self.boot.node)
        self.where = "import"
        cls = plugins.load_target(self.boot.node.target)
        self.where = "host"
        node = cls()
        self._host = host = Host(node, self.boot.node, self._exchange, self._status, self.log)
        self._exchange.open_peer = self._open_peer
        self._exchange.call_guard = self._lifeline.call_guard
        ordering = Ordering(node, self._exchange, self._status, self._say, self.log)
        self._exchange.carry_out = ordering.carry_out
        host.run_id = self.boot.run_id
        host.stopping_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        host.letters = Letters(self.boot.run, self.boot.run_dir, self.boot.node.id, self.boot.poisoned, self.log)
        host.fail_poisoned = host.letters.keep
        host.on_draining = lambda: self._say(channel.Draining())
        host.next_events = self._following.next_events
        host.still_starting = lambda: self._say(channel.Starting())
        self._wire(host, cls)
        attach(node, self.boot.node.id, self.boot.node.config, host)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.set_wakeup_fd(self._lifeline.wake_fd, warn_on_full_buffer=False)
        self._lifeline.start()
        self._step("setup", node.setup)
        gc.collect()
        gc.freeze()  # what setup made lives as long as the process; keep the collector from walking it again
        self._status.set("state", STATES.index("ready"))
        self._say(channel.Ready(os.getpid()))
        host.await_start()
        self._step("run", host.run)
        self._step("close", node.close)
        ordering.end()
        del node, host.node
        gc.collect()  # cycles of the author's objects may hold packets
        host.finish()
        self._tapping.end()
        self._say(channel.Done())

    def _step(self, where: str, call: Callable[[], None]) -> None:
        self.where = where
        if where == "close":  # its hang is found like that of process(); setup has its own deadline, run() counts by itself
            self._status.set("current_edge", NO_EDGE)
            self._status.set("busy_since_ns", monotonic_ns())
        call()
        if where == "close":
            self._status.set("busy_since_ns", 0)

    # --- building

    def _wire(self, host: Host, cls: type[Node]) -> None:
        boot, plan = self.boot, self.boot.node
        rings = {ring.id: ring for ring in boot.rings}
        readers = {number: RingReader(self._attach(rings[number], writable=False), rings[number]) for number in plan.reads}
        inlets, out_edges = [], []
        for edge in boot.edges:
            if edge.to_node == plan.id:
                entries = rings[edge.ring].entry_count
                release = self._exchange.released_in(self._lifeline.poke)
                inlet = Inlet(edge, readers, entries, boot.incarnation, self._status, release)
                inlet.check = check_for(f"{plan.id}.{edge.to_port}", cls.inputs[edge.to_port], plan.checks, plan.config)
                inlet.poisoned = frozenset(poisoned.sequence for poisoned in boot.poisoned if poisoned.edge == edge.id)
                inlets.append(inlet)
            if edge.from_node == plan.id:
                out_edges.append(OutEdge(edge, boot.incarnation, self._status))
        outlets = {}
        for name, number in plan.outputs.items():
            writer = RingWriter(self._attach(rings[number], writable=True), rings[number])
            writer.set_aside(boot.lost_slots.get(str(number), ()))
            edges = [edge for edge in out_edges if edge.plan.from_port == name]
            forwards = frozenset(forwarded_inputs(cls, name))
            outlets[name] = Outlet(plan.id, name, cls.outputs[name], writer, edges, forwards, self._exchange.wait_for, plan.checks)
            outlets[name].poke = self._lifeline.poke
        host.wire(inlets, outlets)
        self._tapping = Tapping(outlets, boot.ring_fds, boot.run_dir, boot.incarnation, plan.id)
        self._tapping.equip(self._lifeline, self._exchange.commands, self._status, self.log)
        self._exchange.on_tap = self._tapping.on_command

    def _attach(self, ring: RingPlan, *, writable: bool) -> Any:
        return attach_ring(self.boot.ring_fds[str(ring.id)], ring, self.boot.run_id, writable=writable)

    def _open_peer(self, node: str, incarnation: int) -> Peer:
        return Peer(inbox_path(self.boot.run_dir, node, incarnation), self.boot.message_key, self._push_later)

    def _push_later(self, peer: Peer) -> None:
        """The lifeline sends what it has, as soon as there is room."""
        fd = peer.fileno()

        def push() -> None:
            if peer.push():
                self._lifeline.unwatch(fd, push)

        self._lifeline.watch(fd, push, select.POLLOUT)

    # --- telling and being told

    def _say(self, report: channel.Report) -> None:
        self._control.send(channel.encode(report))

    def _on_command(self, command: channel.Command) -> None:
        """In the lifeline's thread."""
        if isinstance(command, (channel.Stop, channel.Drain)):
            self._ask_to_stop()
        if isinstance(command, channel.News):
            self._following.news.append(command)
        else:
            self._exchange.commands.append(command)

    def _on_sigterm(self, *_: object) -> None:
        self._exchange.terminating = True
        self._ask_to_stop()
        self._lifeline.poke()

    def _ask_to_stop(self) -> None:
        self._host.stopping = True
        os.eventfd_write(self._host.stopping_fd, 1)

    def _fail(self, error: Exception | SystemExit) -> int:
        text = traceback.format_exc()
        known, no_memory = isinstance(error, (ConfigError, JobError, PluginError)), isinstance(error, MemoryError)
        fault = error.fault if isinstance(error, StreamcoreError) else "box" if no_memory else "plugin"
        name = "MemoryError" if no_memory else type(error).__name__  # numpy has one of its own; SYNC: supervisor/exits.py
        cause = str(error) if known else f"{name}: {error}"
        where = "config" if isinstance(error, ConfigError) and self.where == "setup" else self.where
        self.log.error("failed in %s: %s", where, cause, exc_info=not known)
        if self.where == "run":
            try:
                self._host.node.close()
            except Exception:  # the first failure is the one to report
                self.log.exception("close() failed too")
        if self.where in ("run", "close"):
            self._exchange.settle()
            self._exchange.flush_receipts()  # what was processed is not lost with the node
        cause, text = (Masker(self.boot.secrets).mask(said) for said in (cause, text))
        self._say(channel.Failed(where, cause[:_TEXT_CHARS_MAX], fault, text[-_TEXT_CHARS_MAX:]))
        self._close(orderly=True)
        return 1

    def _close(self, *, orderly: bool) -> None:
        if self._lifeline.started:
            self._lifeline.close()  # first: its guard sends through the peers
        for peer in self._exchange.peers.values():
            peer.close(orderly=orderly)
        self._inbox.close()
