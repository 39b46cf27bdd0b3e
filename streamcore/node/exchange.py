"""The messages of one process: what comes into its inbox, who has to be answered, and when.

The inbox is the only thing waited for. While node code waits for a credit or a slot, the same `wait` answers the messages that bring
it. Everything here runs in the main thread, but `released` and `commands` are filled by others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Final

from streamcore import limits
from streamcore.errors import MessageError, Stopped
from streamcore.node import channel
from streamcore.node.inlet import Inlet, Waiting
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.node.timing import Timing, Tracer
from streamcore.shm.status import WORD, StatusWriter
from streamcore.wire import messages
from streamcore.wire.credit import BLOCK
from streamcore.wire.inbox import Incoming, Outgoing

monotonic_ns: Final = time.monotonic_ns  # a constant costs no look-up
TURN_PACKETS: Final = 64  # look into the inbox at least that often while there is work
DROPPING_TURN_PACKETS: Final = 16  # where a packet is dropped for want of a credit that may have come
TURN_NS: Final = 1_000_000
GLANCE_NS: Final = 10_000  # between two looks for a slot that is still in the cache
DEAF_NS: Final = 50_000_000  # receipts of a camera's frames need not wake its source between them
DRAIN_MAX: Final = 256  # messages per look: a flood must not keep the node from its packets; what is left ends the next wait at once
GUARD_NS: Final = 200_000_000  # the guard stays on for so long after the last batch was begun
BATCH_NS: Final = 1_000_000  # a batch older than this is sent by the guard

_DATA: Final = messages.DATA
_END: Final = messages.END
_RECEIPT: Final = messages.RECEIPT
_WAKE: Final = messages.WAKE
_LOOPS: Final = WORD["loop_count"]
_BEAT: Final = WORD["heartbeat_ns"]
_WAIT: Final = WORD["wait_ns"]
_CREDIT: Final = WORD["credit_wait_ns"]
_LEASES: Final = WORD["leases"]
_REFUSED: Final = WORD["refused"]
_COPIED: Final = WORD["copied"]
_WAITS: Final = WORD["waits_for_credit"]


class Exchange:
    """Owns the inbox and the connections of one process, and both kinds of edges."""

    def __init__(self, node_id: str, inbox: Incoming, status: StatusWriter, log: logging.Logger, key: int):
        self.node_id, self.log, self._key = node_id, log, key
        self.started = self.terminating = self.paused = False
        self.looped = False  # an input is a feedback edge
        self.closed = False  # nothing more is taken: flush() has been called
        self.in_node_code = False  # what it lets go of is settled when its call is over, for only then its outputs are committed
        self.waiting: Waiting = deque()  # received and not yet taken, over all inlets, in order of arrival
        self.commands: deque[channel.Command] = deque()  # filled by the lifeline's thread
        self.redrives: deque[str] = deque()  # dead letters to be processed again
        self.orders: deque[channel.Order] = deque()
        self.carry_out: Callable[[channel.Order], None]  # set by `start`
        self.on_tap: Callable[[channel.Tap | channel.Untap], None]  # set by `start`
        self.released: deque[Record] = deque()  # filled by finalizers, in whatever thread
        self.inlets: dict[int, Inlet] = {}
        self._inlets: list[Inlet] = []  # the same, to go through
        self.outlets: dict[str, Outlet] = {}
        self.out_edges: dict[int, tuple[Outlet, OutEdge]] = {}
        self.peers: dict[str, Outgoing] = {}
        self.open_peer: Callable[[str, int], Outgoing]  # node and incarnation; set by `start`
        self._incarnations: dict[str, int] = {}  # of the peers, as far as known
        self.call_guard: Callable[[Callable[[], bool]], None] = lambda guard: None
        self.timing = Timing(status)
        self.idle_ns, self.credit_wait_ns = status.get("wait_ns"), status.get("credit_wait_ns")  # a predecessor's are counted on
        self._inbox, self._words = inbox, status.words
        # Here they cost no look-up, per message.
        self._unsealed, self._read_header, self._read_receipt = messages.unsealed, messages.read_header, messages.read_receipt
        self._edges: list[OutEdge] = []  # all of out_edges, to go through
        self._keeping: list[OutEdge] = []
        self._turn_packets = TURN_PACKETS
        self._turned_ns = monotonic_ns()
        self._guarded_until_ns = self._since_turn = self._loops = 0
        self._refused = status.get("refused")

    def wire(self, inlets: Iterable[Inlet], outlets: dict[str, Outlet]) -> None:
        """Take over the edges that `start` has built."""
        self.inlets = {inlet.plan.id: inlet for inlet in inlets}
        self._inlets = list(self.inlets.values())
        self.looped = any(inlet.plan.feedback for inlet in self._inlets)
        self.outlets = outlets
        self.out_edges = {edge.plan.id: (outlet, edge) for outlet in outlets.values() for edge in outlet.edges}
        self._edges = [edge for _, edge in self.out_edges.values()]
        self._keeping = [edge for edge in self._edges if edge.plan.kept]
        self._turn_packets = TURN_PACKETS if all(edge.plan.policy == BLOCK for edge in self._edges) else DROPPING_TURN_PACKETS
        for edge in self._edges:
            edge.on_batch = self._need_guard
        for outlet in outlets.values():
            outlet.glance = self.glance
            outlet.tracer = Tracer(self.timing)

    def released_in(self, poke: Callable[[], None]) -> Callable[[Record], None]:
        """What a lease's finalizer calls. From another thread it also ends the main loop's wait."""
        append, main_thread = self.released.append, get_ident()

        def release(record: Record) -> None:
            append(record)
            if get_ident() != main_thread:
                poke()

        return release

    # --- waiting and looking

    @property
    def pressed(self) -> bool:
        """A producer of ours is out of credit."""
        return any(inlet.want for inlet in self._inlets)

    @property
    def ended(self) -> bool:
        """Every input has ended and everything received was taken. Of what comes round in a cycle some may always wait."""
        return all(inlet.ended and (not inlet.waiting or inlet.plan.feedback) for inlet in self._inlets)

    @property
    def delivered(self) -> bool:
        """Every output was completed and every edge told of the end."""
        return all(edge.gone or (edge.end_sent and not edge.credit.in_flight) for _, edge in self.out_edges.values())

    def look_around(self, now_ns: int) -> bool:
        """Between packets: every few of them, or after a long one, answer what has come in. True if it did."""
        if self.released:
            self.settle()
        self._since_turn += 1
        if self._since_turn < self._turn_packets and now_ns - self._turned_ns < TURN_NS and not (self._keeping and self._keeps()):
            return False
        self._flush_batches()
        self._drain()
        for inlet in self._inlets:
            if inlet.due:
                inlet.flush(self._turned_ns)
        return True

    def _keeps(self) -> bool:
        return any(edge.credit.kept for edge in self._keeping)

    def glance(self) -> None:
        """Answer what has come in, without waiting; not if that was done a moment ago."""
        if monotonic_ns() - self._turned_ns >= GLANCE_NS and self._inbox.poll(0):
            self._drain()

    def wait(self, deadline_ns: int | None, deaf: bool = False) -> None:
        """Wait for a message (or the deadline) and answer all that came. Producers that are out of credit get their receipts first.

        `deaf`: for the deadline alone, if it is near and nothing that may come has to be answered sooner. Raises Stopped when the process
        was told to terminate.
        """
        self.settle()
        self._flush_batches()
        now_ns, unreported = monotonic_ns(), False
        for inlet in self._inlets:
            inlet.publish()
            if inlet.unreported:
                if inlet.want or inlet.due:
                    inlet.flush(now_ns)
                else:
                    unreported = True
        timeout_ms = limits.RECEIPT_IDLE_MS if unreported else None
        if deadline_ns is not None:
            left_ms = min(limits.POLL_MS_MAX, max(0, -(-(deadline_ns - now_ns) // 1_000_000)))
            timeout_ms = left_ms if timeout_ms is None else min(timeout_ms, left_ms)
        if deaf and deadline_ns is not None and 0 < deadline_ns - now_ns <= DEAF_NS and not unreported and not self._keeping:
            self._inbox.sleep(deadline_ns - now_ns)
        elif not self._inbox.poll(timeout_ms) and unreported:
            self.flush_receipts()
        self.idle_ns += monotonic_ns() - now_ns
        self._words[_WAIT] = self.idle_ns
        self._drain()

    def wait_for(self, ready: Callable[[], bool], deadline_ns: int | None) -> bool:
        """Outlets wait here for credits, entries and slots; that time is counted as waiting for credit, not as idle."""
        began_ns, idle_ns = monotonic_ns(), self.idle_ns
        self._words[_WAITS] = 1
        try:
            while not ready():
                if deadline_ns is not None and monotonic_ns() >= deadline_ns:
                    return False
                self.wait(deadline_ns)
            return True
        finally:
            self._words[_WAITS] = 0
            self.idle_ns = idle_ns
            self.credit_wait_ns += monotonic_ns() - began_ns
            self._words[_CREDIT] = self.credit_wait_ns

    def settle(self) -> None:
        """Count what node code has let go of. Not while an output that was made of it may wait for a credit."""
        while self.released and not self.in_node_code:
            self.released.popleft().settle()

    def flush_receipts(self) -> None:
        for inlet in self._inlets:
            if inlet.unreported:
                inlet.flush(monotonic_ns())

    def _drain(self) -> None:
        inbox = self._inbox
        for _ in range(DRAIN_MAX):
            raw = inbox.take()
            if raw is None:
                break
            self._on_message(raw)
        while self.commands:
            self._on_command(self.commands.popleft())
        while self.closed and self.waiting:
            inlet, record = self.waiting.popleft()
            inlet.skip(record)
        if self.terminating:
            raise Stopped
        while self.orders and not self.in_node_code:
            self.carry_out(self.orders.popleft())
        self.settle()
        self._since_turn = 0
        self._loops += 1
        words = self._words
        words[_LOOPS] = self._loops
        words[_BEAT] = self._turned_ns = monotonic_ns()
        leases = copied = 0
        for inlet in self._inlets:
            leases += inlet.under_way
            inlet.publish()
        for outlet in self.outlets.values():
            copied += outlet.copied
        words[_LEASES], words[_COPIED] = leases, copied

    # --- batches

    def _flush_batches(self) -> None:
        for edge in self._edges:
            if edge.batch_since_ns:
                edge.flush_batch()

    def _need_guard(self) -> None:
        """A batch was begun: if node code keeps this thread, the lifeline sends it. Armed once for a while, not per batch."""
        now_ns = monotonic_ns()
        unguarded = now_ns > self._guarded_until_ns
        self._guarded_until_ns = now_ns + GUARD_NS
        if unguarded:
            self.call_guard(self._guard)

    def _guard(self) -> bool:
        """In the lifeline's thread. False: not needed any more."""
        now_ns = monotonic_ns()
        for _, edge in self.out_edges.values():
            if edge.batch_since_ns and now_ns - edge.batch_since_ns > BATCH_NS:
                edge.flush_batch()
        return now_ns <= self._guarded_until_ns

    # --- messages

    def _on_message(self, raw: bytes) -> None:
        """SYNC: Peer and Lifeline seal."""
        try:
            message = self._unsealed(raw, self._key)
            header = self._read_header(message)
            if header.type == _RECEIPT:
                self._on_receipt(message, header)
            elif header.type != _WAKE:
                self._on_inlet(message, header)
        except MessageError as error:
            self.refuse(str(error))

    def _on_inlet(self, raw: bytes, header: messages.Header) -> None:
        """SYNC: OutEdge posts DATA and END."""
        inlet = self.inlets.get(header.edge)
        if inlet is None:
            raise MessageError(f"edge {header.edge} does not end at node {self.node_id}")
        if header.type == _END:
            messages.read_end(raw)
        if header.incarnation != inlet.peer_incarnation:
            if header.incarnation < inlet.peer_incarnation:
                return  # its successor sends it again
            if header.type == _DATA:
                inlet.check_restarted(raw, header)
            self._on_peer_restarted(inlet.plan.from_node, header.incarnation)  # it came before the coordinator's word
        if header.type == _END:
            inlet.ended = True
            return
        append = self.waiting.append
        for record in inlet.admit(raw, header):
            append((inlet, record))
        if inlet.want:
            for outlet in self.outlets.values():
                if outlet.pinned:  # what the producer waits for hangs on our own consumers
                    outlet.press()

    def _on_receipt(self, raw: bytes, header: messages.Header) -> None:
        """SYNC: Inlet.flush posts RECEIPT."""
        found = self.out_edges.get(header.edge)
        if found is None:
            raise MessageError(f"edge {header.edge} does not begin at node {self.node_id}")
        outlet, edge = found
        if header.incarnation != edge.peer_incarnation:
            return  # of a dead one: the entry was sent again since, and its slot may be about to be read
        taken_upto, completions = self._read_receipt(raw, header.records)
        outlet.on_receipt(edge, taken_upto, completions)

    def refuse(self, why: str) -> None:
        """Count a message that is none of ours; the 1st, 2nd, 4th, 8th ... is logged."""
        self._refused += 1
        self._words[_REFUSED] = self._refused
        if self._refused & (self._refused - 1) == 0:
            self.log.warning("message refused (%d so far): %s", self._refused, why)

    # --- commands

    def _on_command(self, command: channel.Command) -> None:
        if isinstance(command, channel.Start):
            self._on_start(command)
        elif isinstance(command, channel.PeerRestarted):
            self._on_peer_restarted(command.node, command.incarnation)
        elif isinstance(command, channel.Outcomes):
            self.out_edges[command.edge][1].last_outcomes.update(dict.fromkeys(command.sequences, command.outcome))
        elif isinstance(command, channel.PeerDone):
            self._on_peer_ended(command.node, Outlet.on_done)
        elif isinstance(command, channel.PeerGone):
            self._on_peer_gone(command.node)
        elif isinstance(command, channel.Redrive):
            self.redrives.append(command.record)
        elif isinstance(command, channel.Order):
            self.orders.append(command)
        elif isinstance(command, (channel.Tap, channel.Untap)):
            self.on_tap(command)
        elif isinstance(command, (channel.Pause, channel.Resume)):
            self.paused = isinstance(command, channel.Pause)

    def _on_start(self, start: channel.Start) -> None:
        neighbours = {inlet.plan.from_node for inlet in self.inlets.values()}
        neighbours |= {edge.plan.to_node for _, edge in self.out_edges.values()}
        for node in sorted(neighbours - {*start.done, *start.gone}):
            if start.peers[node] > self._incarnations.get(node, 0):  # DATA of a later one may have come before this word
                self._connect(node, start.peers[node])
        for node in start.done:
            self._on_peer_ended(node, Outlet.on_done)
        for node in start.gone:
            self._on_peer_gone(node)
        self.started = True

    def _connect(self, node: str, incarnation: int) -> None:
        """Talk to this incarnation of a peer from now on; send it what its predecessor, or ours, has left."""
        self._incarnations[node] = incarnation
        before, peer = self.peers.get(node), self.open_peer(node, incarnation)
        self.peers[node] = peer
        if before is not None:
            before.close(orderly=False)
        for inlet in self.inlets.values():
            if inlet.plan.from_node == node:
                inlet.send, inlet.peer_incarnation = peer.send, incarnation
        for outlet, edge in self.out_edges.values():
            if edge.plan.to_node == node:
                edge.post, edge.peer_incarnation = peer.send, incarnation
                outlet.resend(edge)

    def _on_peer_restarted(self, node: str, incarnation: int) -> None:
        """May come twice, from the coordinator and from the first DATA, and late."""
        if incarnation <= self._incarnations.get(node, 0):
            return
        for inlet in self.inlets.values():
            if inlet.plan.from_node == node:
                inlet.producer_restarted(incarnation)
        self._connect(node, incarnation)

    def _on_peer_gone(self, node: str) -> None:
        """It failed for good. This word may overtake its last DATA, but not what it had committed before it died."""
        for inlet in self.inlets.values():
            if inlet.plan.from_node == node:
                self.waiting.extend((inlet, record) for record in inlet.left_behind())
        self._on_peer_ended(node, Outlet.on_gone)

    def _on_peer_ended(self, node: str, settle: Callable[[Outlet, OutEdge], None]) -> None:
        peer = self.peers.pop(node, None)
        if peer is not None:
            peer.close(orderly=False)
        for inlet in self.inlets.values():
            if inlet.plan.from_node == node:
                inlet.ended = True
                inlet.send = _to_nobody
        for outlet, edge in self.out_edges.values():
            if edge.plan.to_node == node and not edge.gone:
                edge.post = _to_nobody
                settle(outlet, edge)


def _to_nobody(message: bytes) -> None:
    """Stands where a peer was that is gone for good."""
