"""The host loop of one process: takes packets, calls what the author wrote, emits what comes out of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from streamcore.errors import PayloadError, Stopped
from streamcore.graph.model import NodePlan
from streamcore.node.api import Node, Source
from streamcore.node.completions import Completions
from streamcore.node.dead_letter import Letters
from streamcore.node.exchange import Exchange
from streamcore.node.failures import DELIVERY, Failures
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.metrics import PageMetrics
from streamcore.node.outlet import Outlet
from streamcore.node.positions import Positions
from streamcore.node.pulling import Puller
from streamcore.packet import StreamPacket
from streamcore.shm.layout import NO_EDGE, REDELIVERED
from streamcore.shm.status import STATES, WORD, StatusWriter

monotonic_ns: Final = time.monotonic_ns  # a constant costs no look-up
WANT_NS: Final = 1_000_000  # a producer out of credit gets its receipt this soon, even if the node never idles

_BUSY: Final = WORD["busy_since_ns"]
_WORK: Final = WORD["work_ns"]
_CONSUMED: Final = WORD["consumed"]
_PRODUCED: Final = WORD["produced"]
_EMITTED: Final = WORD["emitted"]
_SOURCE_ENDED: Final = WORD["source_ended"]
_EDGE: Final = WORD["current_edge"]
_ENTRY: Final = WORD["current_entry"]
_SEQUENCE: Final = WORD["current_sequence"]
_WAITS: Final = WORD["waits_for_credit"]

_END: Any = object()  # of what run() yields; None would be a mistake of its author


class Host:
    """Runs one node from its first packet to its last; `node/start.py` builds it and reports for it."""

    __deletable__ = ("node",)  # by `start`, when its last call is done; a compiled class has to be told

    def __init__(self, node: Node, plan: NodePlan, exchange: Exchange, status: StatusWriter, log: logging.Logger):
        self.node, self.plan, self.log, self.exchange = node, plan, log, exchange
        self.metrics = PageMetrics(status)
        self.stopping, self.stopping_fd, self.run_id = False, -1, ""
        self.next_events: Callable[[int], list[dict[str, Any]]] = lambda after: []
        self._is_source, self._is_told = isinstance(node, Source), type(node).on_completed is not Node.on_completed
        self.positions = Positions(status, len(plan.outputs), self._is_told) if isinstance(node, Source) else None
        self.resume_position: int | None = None
        self.fail_poisoned: Callable[[StreamPacket], None] = lambda packet: None
        self.letters: Letters | None = None
        self.on_draining: Callable[[], None] = lambda: None
        self.still_starting: Callable[[], None] = lambda: None
        self._status, self._words, self._packet_type = status, status.words, StreamPacket
        self._outlets: dict[str, Outlet] = {}
        self._only_outlet: Outlet | None = None
        self._page_inlet: Inlet | None = None  # whose edge the page names as that of the packet under work
        # A successor goes on counting where its predecessor's page stands.
        self._work_ns, self._consumed, self._produced = map(status.get, ("work_ns", "consumed", "produced"))
        self._failures = Failures(status, log, plan.on_error == "stop")
        self._completions = Completions(self._failures, self.positions)
        self._timing = exchange.timing
        self._timing.is_source = self._is_source

    def wire(self, inlets: Iterable[Inlet], outlets: dict[str, Outlet]) -> None:
        """Take over the edges that `start` has built."""
        self.exchange.wire(inlets, outlets)
        self._outlets, self._only_outlet = outlets, next(iter(outlets.values())) if len(outlets) == 1 else None
        for outlet in outlets.values():
            outlet.emitted_ids = set() if self.plan.retries and not self._is_source else None
            outlet.positions = self.positions
            outlet.on_completed = self._completions.remember if self._is_told else None
            outlet.adopt(self.exchange.inlets)
        if self.positions is not None:
            self.resume_position = self.positions.resume
        self._produced = max(self._produced, sum(outlet.writer.next_sequence for outlet in outlets.values()))

    # --- what node code calls (Runtime)

    def loan(self, port: str, shape: Any, dtype: Any, timeout_ns: int) -> np.ndarray[Any, Any]:
        return self.outlet(port).loan(shape, dtype, timeout_ns)

    def wait_until(self, deadline_ns: int) -> bool:
        self._publish()
        self._words[_WAITS] = 1  # for its time: a source that gives a packet an hour does not hang
        try:
            while not self.stopping:
                if monotonic_ns() >= deadline_ns:
                    return True
                self.exchange.wait(deadline_ns, deaf=True)
            return False
        finally:
            self._words[_WAITS] = 0

    def fail(self, packet: StreamPacket, error: Exception) -> None:
        packet.parent.outcome = max(packet.parent.outcome, self._failures.judge(error, packet))

    # --- the life of a process after setup

    def await_start(self) -> None:
        """Block until the coordinator says that every node is ready. Raises Stopped if it says to end instead."""
        while not self.exchange.started:
            self.exchange.wait(None)

    def run(self) -> None:
        """From the first packet to END on every output, all of them completed.

        Raises Stopped at once, and what run(), flush() or process() raised: at once if a successor follows, else after everything emitted
        before it has been delivered.
        """
        failure: Exception | None = None
        try:
            if isinstance(self.node, Source):
                self._run_source(self.node)
            else:
                if not self._consumed:
                    self._call_apart(self.node.begin)
                self._run_consumer()
            self._set_state("draining")
            self.on_draining()
            self.exchange.closed = True
            self._call_apart(self.node.flush)
        except Stopped:
            raise
        except Exception as error:  # the author's code: the node has failed
            if self._has_successor:
                raise  # no END: the next incarnation goes on, and delivers what this one has emitted
            failure = error
        self.exchange.in_node_code = False
        self._words[_BUSY] = 0
        for outlet in self._outlets.values():
            for edge in outlet.edges:
                edge.end(outlet.writer.next_sequence)
        while not self.exchange.delivered:
            self.exchange.wait(None)
            self._completions.deliver(self.node)
        self._completions.deliver(self.node)  # of a port without edges, and of what was completed before the loop
        if failure is not None:
            raise failure

    def _call_apart(self, call: Callable[[], Any]) -> None:
        """Emit what node code gives that is called for no packet."""
        self._words[_EDGE], self._words[_BUSY] = NO_EDGE, monotonic_ns()
        self.exchange.in_node_code = True
        self._each(call())
        self.exchange.in_node_code = False
        self._words[_BUSY] = 0

    @property
    def _has_successor(self) -> bool:
        """Will an exception be answered by a restart. SYNC: supervisor/exits.py."""
        return self.plan.restart.policy != "never" and (self._is_source or self.plan.on_error != "stop")

    def finish(self) -> None:
        """Report what is completed. The node object must be gone by now: what something else still holds is given back all the same."""
        self.exchange.settle()
        for inlet in self.exchange.inlets.values():
            if inlet.under_way:
                self.log.warning("edge %s: %d packets are still held after close()", inlet.plan.name, inlet.under_way)
                inlet.give_up()
        self.exchange.flush_receipts()
        self._set_state("done")

    def _set_state(self, state: str) -> None:
        self._status.set("state", STATES.index(state))

    def _run_source(self, node: Source) -> None:
        words, exchange = self._words, self.exchange
        if words[_SOURCE_ENDED]:
            return  # a predecessor had come to the end; what it left is being delivered
        packets, give, end = iter(node.run()), next, _END  # here they cost no look-up
        began_ns = words[_BUSY] = monotonic_ns()
        while not self.stopping:
            if exchange.paused:
                words[_BUSY] = 0
                exchange.wait(None)
                began_ns = words[_BUSY] = monotonic_ns()
                continue
            waited_ns = exchange.credit_wait_ns + exchange.idle_ns
            item = give(packets, end)
            if item is end:
                break
            self._emit_all(item) if isinstance(item, (list, tuple)) else self._emit_own(item)
            del item  # it holds a slot while the source fills the next
            words[_EMITTED] = self._produced
            began_ns = words[_BUSY] = self._between(began_ns, waited_ns)
        self._publish()
        words[_BUSY] = 0
        if self.exchange.terminating:
            raise Stopped  # its stream has not ended: a successor goes on with it
        words[_SOURCE_ENDED] = 1
        if (close := getattr(packets, "close", None)) is not None:
            close()

    def _emit_all(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._emit_own(packet)

    def _emit_own(self, packet: Any) -> None:
        """One of a source's packets: if it cannot travel it has failed, the source goes on."""
        try:
            self._emit(packet)
        except PayloadError as error:
            self._failures.note("emit", error, packet)

    def _run_consumer(self) -> None:
        exchange, waiting, batch_max = self.exchange, self.exchange.waiting, self.plan.batch_max
        simple = batch_max == 1 and not self.plan.retries
        puller = Puller(self.node, exchange, self._words, self._emit, self._failures, self._completions.remember)
        while (waiting and not exchange.looped) or not exchange.ended or (puller.pulls and self.node.pending):
            if puller.pulls and not exchange.paused:
                puller.pull_all()
            if exchange.redrives and not exchange.paused:
                self._redrive(exchange.redrives.popleft())
            elif waiting and not exchange.paused and (not puller.pulls or self.node.taking):
                self._handle_one() if simple else self._handle(batch_max)
            else:
                self._publish()
                puller.wait()
                self._completions.deliver(self.node)
        self._publish()

    # --- one packet, or one batch

    def _handle_one(self) -> None:
        """What `_handle` and `_process` do, for the common node: one packet a call, no retries. Most of a small packet's time is here."""
        exchange, words, timing = self.exchange, self._words, self._timing
        inlet, record = exchange.waiting.popleft()
        packet = inlet.take(record)
        if inlet.due or inlet.want:
            self._report(inlet)
        if packet is None:
            if inlet.refusal:
                exchange.refuse(inlet.refusal)
            return
        if inlet.poisoned and record[0] in inlet.poisoned:
            self._fail_poisoned(packet)
            return
        if inlet.check is not None and not self._failures.fits(inlet, packet):
            return
        mine: Record = packet.parent
        if inlet is not self._page_inlet:
            self._page_inlet, words[_EDGE] = inlet, inlet.plan.id
        words[_ENTRY], words[_SEQUENCE] = mine.entry, mine.sequence
        words[_BUSY] = began_ns = monotonic_ns()
        waited_ns = exchange.credit_wait_ns + exchange.idle_ns
        capture_ns, trace, blocked_ns = packet.capture_ns, packet.trace, -exchange.credit_wait_ns
        exchange.in_node_code = True
        try:
            out = self.node.process(packet)
            if out is not None:
                self._each(out)
        except Stopped:
            raise
        except Exception as error:  # the author's code
            mine.outcome = max(mine.outcome, self._failures.judge(error, packet))
        exchange.in_node_code = False
        packet = out = None  # from here on only node code holds them
        words[_CONSUMED] = self._consumed = self._consumed + 1
        mine.settle()
        words[_BUSY] = 0  # not later: who dies between two packets must not be said to have died over the first
        blocked_ns += exchange.credit_wait_ns
        ended_ns = self._between(began_ns, waited_ns)
        if timing.on:
            timing.packet(mine, inlet.waits, capture_ns, trace, began_ns, ended_ns, blocked_ns)

    def _report(self, inlet: Inlet) -> None:
        now_ns = monotonic_ns()
        if inlet.due or (now_ns - inlet.flushed_ns > WANT_NS and not inlet.latest):
            inlet.flush(now_ns)

    def _handle(self, batch_max: int) -> None:
        packets: list[StreamPacket] = []
        waiting = self.exchange.waiting
        while waiting and len(packets) < batch_max:
            inlet, record = waiting[0]
            if record[3] & REDELIVERED:  # alone: if it kills, it is known which one did
                if packets:
                    break
                batch_max = 1
            waiting.popleft()
            packet = inlet.take(record)
            if packet is not None and record[0] in inlet.poisoned:
                self._fail_poisoned(packet)
            elif packet is not None:
                if inlet.check is None or self._failures.fits(inlet, packet):
                    packets.append(packet)
            elif inlet.refusal:
                self.exchange.refuse(inlet.refusal)
            if inlet.due or inlet.want:
                self._report(inlet)
        packet = None
        if packets:
            self._process(packets)

    def _fail_poisoned(self, packet: StreamPacket) -> None:
        self.fail_poisoned(packet)
        self._failures.end(packet)

    def _redrive(self, record: str) -> None:
        packet = self.letters.load(record) if self.letters is not None else None
        if packet is not None and self.letters is not None:
            mine, packet_id = packet.parent, packet.packet_id
            packets = [packet]
            del packet  # only node code may hold it while it is processed
            self._process(packets)
            self.letters.mark(packet_id, mine.outcome)

    def _process(self, packets: list[StreamPacket]) -> None:
        """Empties `packets`: from then on only node code holds them."""
        records, times = [packet.parent for packet in packets], [(packet.capture_ns, packet.trace) for packet in packets]
        words, first, blocked_ns = self._words, records[0], -self.exchange.credit_wait_ns
        self._page_inlet = None
        words[_EDGE], words[_ENTRY], words[_SEQUENCE] = first.inlet.plan.id, first.entry, first.sequence
        words[_BUSY] = began_ns = monotonic_ns()
        waited_ns = self.exchange.credit_wait_ns + self.exchange.idle_ns
        self.exchange.in_node_code = True
        for attempt in range(self.plan.retries + 1):
            try:
                # A list of its own: the author may keep it, and this one is emptied below.
                self._each(self.node.process_batch([*packets]) if self.plan.batch_max > 1 else self.node.process(packets[0]))
                break
            except Stopped:
                raise
            except Exception as error:  # the author's code
                if attempt < self.plan.retries and not isinstance(error, DELIVERY):
                    for record in records:
                        record.derived = 0  # what is derived again gets the same ids, and what was emitted before is not emitted twice
                        record.outcome = record.behind
                    continue
                outcome = self._failures.judge(error, packets[0], len(packets))
                for record in records:
                    record.outcome = max(record.outcome, outcome)
                break
        self.exchange.in_node_code = False
        words[_CONSUMED] = self._consumed = self._consumed + len(packets)
        packets.clear()
        if self.plan.retries:
            for outlet in self._outlets.values():
                outlet.emitted_ids = set()
        for record in records:
            record.settle()
        words[_BUSY] = 0
        blocked_ns += self.exchange.credit_wait_ns
        ended_ns = self._between(began_ns, waited_ns)
        for record, (capture_ns, trace) in zip(records, times, strict=True):
            if record.sent_ns and self._timing.on:
                self._timing.packet(record, record.inlet.waits, capture_ns, trace, began_ns, ended_ns, blocked_ns)

    def _between(self, began_ns: int, waited_before_ns: int) -> int:
        """After a packet: count its time, look whether something came in. The time it is now, in ns.

        Waiting inside node code, for a credit or until a source's next packet is due, is not work.
        """
        exchange, now_ns = self.exchange, monotonic_ns()
        work_ns = now_ns - began_ns - (exchange.credit_wait_ns + exchange.idle_ns - waited_before_ns)
        self._work_ns += work_ns
        if self._timing.on:
            self._timing.work(work_ns)
        if exchange.look_around(now_ns):
            self._publish()
            if self._completions.waiting:
                self._completions.deliver(self.node)
        return now_ns

    def _publish(self) -> None:
        """What need not be on the page after every packet: a successor finds what was produced in the ring."""
        self._words[_WORK], self._words[_PRODUCED] = self._work_ns, self._produced

    def _each(self, out: Any) -> None:
        """Emit what process() or flush() returned."""
        if isinstance(out, StreamPacket):
            self._emit(out)
        elif out is not None:
            for packet in out:
                self._emit(packet)

    def _emit(self, packet: Any) -> None:
        if type(packet) is not self._packet_type and not isinstance(packet, StreamPacket):
            what = f"found {type(packet).__name__}, expected a StreamPacket (StreamPacket.new or packet.derive)"
            raise PayloadError(f"node {self.plan.id}: {what}")
        outlet = self._only_outlet if not packet.port and self._only_outlet is not None else self.outlet(packet.port)
        if outlet.emit(packet, outlet.pinned > 0 and self.exchange.pressed):
            self._produced += 1

    def outlet(self, port: Any) -> Outlet:
        if (outlet := self._outlets.get(port)) is None:
            have = ", ".join(self._outlets) or "none"
            raise PayloadError(f"node {self.plan.id}: found output port {port!r}, expected one of: {have}")
        return outlet
