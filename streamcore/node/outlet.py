"""One output port: loans, the commit of a packet, and its edges with their policies.

The host hands in what may block: `wait_for(ready, deadline_ns)` answers messages until `ready()` or the deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import prod
from threading import get_ident
from time import monotonic_ns
from typing import Any

import numpy as np

from streamcore import limits
from streamcore.errors import MessageError, PayloadError, PayloadTooLarge, RingFull
from streamcore.node.api import FOREVER, Port
from streamcore.node.checks import ALL, OFF, Check
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Lease, Loan, Record, owner_of
from streamcore.node.out_edge import OutEdge
from streamcore.node.placing import JSON_TYPES, as_bytes, id16_of, meta_of, meta_too_long, packet_of, ref_to, small_bytes, without_payload
from streamcore.node.positions import Positions
from streamcore.node.timing import Tracer
from streamcore.packet import Meta, SlotRef, StreamPacket, decode_meta, encode_json, encode_meta
from streamcore.payload import DTYPE_NAMES, describe_payload, payload_fits
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.ring import NO_PARENT, NO_REF, Parent, RingWriter
from streamcore.wire import messages
from streamcore.wire.credit import DROP, SEND


class Outlet:
    """The host's side of one output port."""

    def __init__(
        self,
        node_id: str,
        name: str,
        port: Port,
        writer: RingWriter,
        edges: list[OutEdge],
        forwards: frozenset[str],
        wait_for: Callable[[Callable[[], bool], int | None], bool],
        checks: str = ALL,
    ):
        self.full_name = f"{node_id}.{name}"
        self.port, self.writer, self.edges = port, writer, edges
        self._node, self._name, self._forwards, self._wait_for = node_id, name, forwards, wait_for
        self._kind = "" if port.kind == "any" else port.kind
        self.check: Check | None = None if checks == OFF else Check(self.full_name, port, checks)
        self._blocking = [edge for edge in edges if edge.plan.policy == "block"]
        self.returned: deque[int] = deque()  # slots; filled by finalizers, in whatever thread, and by what taps have copied
        self._parents: list[list[Record]] = [[] for _ in range(writer.geometry.entry_count)]
        self._outcomes = [messages.OK] * writer.geometry.entry_count
        self._packets: list[StreamPacket | None] = [None] * writer.geometry.entry_count
        self.on_completed: Callable[[StreamPacket, int], None] | None = None
        self.copied = self.pinned = 0  # pinned: inputs that cannot complete before our consumers have completed an output
        self.poke: Callable[[], None] = lambda: None  # ends the main loop's wait; for finalizers in other threads
        self.glance: Callable[[], None] = lambda: None  # answers what has come in: the slot given back last is the one in the cache
        self._home_thread = get_ident()
        self._adopted_ids: dict[bytes, int] = {}  # of packets that a predecessor committed: not committed again
        self.emitted_ids: set[bytes] | None = None  # by the running process(), where it may be tried again
        self.positions: Positions | None = None  # of a source
        self.tracer = Tracer(None)
        self._position_of: list[int | None] = [None] * writer.geometry.entry_count
        self._copy_slot = -1  # claimed by a copy that is not yet committed
        self.taps: Any = None  # node.tapping.Taps while somebody taps this port
        self.rest_until_ns = self.passed = 0  # when a tap may want a packet again; packets that none was offered since

    # --- after a restart

    def adopt(self, inlets: Mapping[int, Inlet]) -> None:
        """Take over what a predecessor has committed and its consumers have not completed.

        An adopted output that forwards an input's payload holds that input: its producer sends it again, and it completes with the output.
        """
        for row in self.writer.adopted:
            entry = row.entry
            self.writer.mark_redelivered(entry)
            try:
                meta = decode_meta(row.meta)
            except MessageError:  # ours, so it cannot be; if it is, only the id and the position are unknown
                continue
            self._adopted_ids[meta.id16] = entry
            if row.parent[0] in inlets:
                record = inlets[row.parent[0]].expect(row.parent[1], row.parent[2])
                record.outputs += 1
                self.pinned += 1
                self._parents[entry] = [record]
            if row.outcome:
                self._worsen(entry, row.outcome)
            if self.positions is not None and meta.position is not None:
                self.positions.emitted(meta.position)
                self._position_of[entry] = meta.position
            if self.on_completed is not None:
                self._packets[entry] = packet_of(meta)
        for edge in self.edges:
            edge.resume([sequence for _, sequence in self.writer.pending_on(edge.bit)])

    def resend(self, edge: OutEdge) -> None:
        """Send every row that an edge has not completed to its consumer's new incarnation, or as ours is new."""
        kept = {row[1] for row in edge.credit.kept}
        rows = [(entry, sequence) for entry, sequence in self.writer.pending_on(edge.bit) if sequence not in kept]
        for entry, _ in rows:
            self.writer.mark_redelivered(entry)
        edge.resend([(entry, sequence, self.writer.meta_of(entry)) for entry, sequence in rows])

    # --- loans

    def loan(self, shape: tuple[int, ...], dtype: Any, timeout_ns: int) -> np.ndarray[Any, Any]:
        """See Node.loan."""
        wanted = np.dtype(dtype)
        if wanted not in DTYPE_NAMES:
            raise PayloadError(f"port {self.full_name}: a loan of dtype {wanted} cannot travel")
        slot = self._claim_slot(wanted.itemsize * prod(shape), timeout_ns)
        address = self.writer.slots_address + slot * self.writer.geometry.slot_bytes
        interface = {"data": (address, False), "shape": tuple(shape), "typestr": wanted.str, "version": 3}
        return np.asarray(Loan(self.writer, slot, self._drop_loan, interface))

    def _drop_loan(self, slot: int) -> None:
        """In whatever thread. The main loop may be waiting for just this slot."""
        self.returned.append(slot)
        if get_ident() != self._home_thread:
            self.poke()

    def _claim_slot(self, nbytes: int, timeout_ns: int = FOREVER) -> int:
        writer = self.writer
        if not 0 <= nbytes <= writer.geometry.slot_bytes:
            raise PayloadTooLarge(self.full_name, nbytes, writer.geometry.slot_bytes)
        if nbytes >= limits.WARM_BYTES:
            self.glance()
        self.settle_loans()
        if not writer.free_slots:
            deadline_ns = None if timeout_ns == FOREVER else monotonic_ns() + timeout_ns
            self.press()
            if not self._wait_for(self._slot_is_free, deadline_ns):
                raise RingFull(self.full_name, [(edge.plan.name, edge.credit.in_flight) for edge in self.edges if edge.credit.in_flight])
        return writer.claim_slot()

    def _slot_is_free(self) -> bool:
        self.settle_loans()
        return self.writer.free_slots > 0

    def settle_loans(self) -> None:
        while self.returned:
            self.writer.release_slot(self.returned.popleft())

    def press(self) -> None:
        """Ask every consumer to report what it has completed."""
        for edge in self.edges:
            edge.ask()

    # --- emitting. Packets are Any where their fields are read: an author may put anything there, and _pack says what is wrong with it

    def emit(self, packet: Any, pressed: bool) -> bool:
        """Commit and send one packet; waits as the `block` edges want it. False if it was committed already: by a
        predecessor, or by an attempt at the same input that failed later.

        `pressed`: a producer of ours is out of credit, so our consumers should report soon.

        Raises:
          PayloadError: not what the port declares, or not able to travel. Nothing was committed.
        """
        if self.check is not None and self.check.done_with(packet.payload):
            self.check = None
        id16 = id16_of(packet, self._node, self._name, self.full_name)
        if (self._adopted_ids and id16 in self._adopted_ids) or (self.emitted_ids is not None and id16 in self.emitted_ids):
            return False
        blocked_ns = 0
        for edge in self._blocking:
            if not edge.credit.has_credit:
                blocked_ns = -monotonic_ns()
                self._wait_for(self._may_send, None)
                blocked_ns += monotonic_ns()
                break
        now_ns = monotonic_ns()
        pending = 0
        for edge in self.edges:
            if edge.decide(now_ns) is not DROP:
                pending |= edge.bit
        if pending:
            self._commit(packet, id16, pending, now_ns, blocked_ns, pressed)
        else:
            for edge in self.edges:
                edge.drop()
            if self.positions is not None and packet.position is not None:
                self.positions.emitted(packet.position)
                self.positions.completed(packet.position)
            self._tell_completed(without_payload(packet, id16), messages.DROPPED if self.edges else messages.OK)
            if self.taps is not None and self._may_show(now_ns):
                self.taps.offer_dropped(packet, id16, now_ns)
        if self.emitted_ids is not None:
            self.emitted_ids.add(id16)
        return True

    def _may_show(self, now_ns: int) -> bool:
        if now_ns >= self.rest_until_ns:
            return True
        self.passed += 1
        return False

    @property
    def has_room(self) -> bool:
        """Can one more packet be emitted without waiting. If not it is asked for."""
        if self._blocking and not self._may_send():
            return False
        self.settle_loans()
        if self.writer.free_entries and self.writer.free_slots:
            return True
        self.press()
        return False

    @property
    def has_consumer(self) -> bool:
        """Does any edge still take packets."""
        return any(not edge.gone for edge in self.edges)

    def _may_send(self) -> bool:
        """Every `block` edge has credit, all at once: while one is waited for, a restarted consumer may take that of another."""
        answers = [edge.may_send() for edge in self._blocking]  # ask them all, not up to the first that cannot
        return all(answers)

    def _commit(self, packet: Any, id16: Any, pending: int, now_ns: int, blocked_ns: int, pressed: bool) -> None:
        writer = self.writer
        if not writer.free_entries:
            self.press()
            self._wait_for(lambda: writer.free_entries > 0, None)
        parents: list[Record] = []
        meta = meta_of(packet, id16, self._kind, self._node, now_ns, now_ns >= self.tracer.next_ns)
        if packet.trace is None and meta.trace is not None:
            self.tracer.begin(writer.next_sequence, meta.capture_ns, now_ns, blocked_ns)
        position, again = meta.position, packet.redelivered
        if position is not None and self.positions is not None:
            again = again or position <= self.positions.emitted_before
        flags = REDELIVERED if again else 0
        try:
            ref, raw = self._pack(meta, packet.payload, parents)
            parent = NO_PARENT if packet.parent is None and not parents else self._tie(packet.parent, parents)
            entry, sequence = writer.commit(raw, pending, ref, parent, flags)
        finally:
            if self._copy_slot >= 0:  # the entry holds it from here on, or nothing was committed
                writer.release_slot(self._copy_slot)
                self._copy_slot = -1
        if parents:
            self._parents[entry] = parents
        self._outcomes[entry] = messages.OK
        if position is not None and self.positions is not None:
            self.positions.emitted(position)
            self._position_of[entry] = position
        if self.on_completed is not None:
            self._packets[entry] = without_payload(packet, meta.id16)
        for edge in self.edges:
            if edge.verdict is DROP:
                edge.drop()
            elif edge.gone:  # while this packet waited for a row or a slot
                edge.drop()
                self._finish(entry, sequence, edge.bit, messages.FAILED)
            elif edge.verdict is SEND:
                edge.send(entry, sequence, raw, flags, now_ns, pressed)
            else:
                displaced = edge.keep(entry, sequence, raw, flags)
                if displaced is not None:
                    self._finish(*displaced, edge.bit, messages.DROPPED)
        if self.taps is not None and self._may_show(now_ns):
            self.taps.offer(meta, raw, packet.payload, sequence, flags, now_ns)

    def _pack(self, meta: Meta, payload: Any, parents: list[Record]) -> tuple[SlotRef, bytes]:
        """Put the payload where it belongs and encode the metadata; `parents` gets the input whose payload is forwarded."""
        ref = NO_REF
        if type(payload) in JSON_TYPES:
            meta.value = payload
        elif not payload_fits("any", payload):  # whatever is checked of it: it would arrive as something else, or not at all
            raise PayloadError(f"port {self.full_name}: found {describe_payload(payload)}, which cannot travel")
        elif not isinstance(payload, (np.ndarray, bytes, bytearray, memoryview)):
            meta.value = payload
        elif (small := small_bytes(payload)) is not None:
            meta.value = small
        else:
            ref = meta.ref = self._place(payload, parents)
        raw = encode_meta(meta)
        return (ref, raw) if len(raw) <= self.writer.geometry.meta_bytes else self._spill(meta)

    def _tie(self, lineage: Record | None, parents: list[Record]) -> Parent:
        """Make the inputs that this output depends on wait for it; gives what its entry says of them.

        An entry names one: that whose memory it forwards, if there is one, for a successor must not give that back too early.
        """
        if lineage is not None and lineage.inlet.delivered and lineage not in parents:
            parents.append(lineage)
        for record in parents:
            record.outputs += 1
            self.pinned += 1
        return (parents[0].inlet.plan.id, parents[0].entry, parents[0].sequence) if parents else NO_PARENT

    def _place(self, payload: Any, parents: list[Record]) -> SlotRef:
        """Where the payload lies: in our ring if it is a loan, in another if it is forwarded, else in a slot that it is copied to."""
        owner = owner_of(payload)
        array = payload if isinstance(payload, np.ndarray) else as_bytes(payload, self.full_name)
        dtype = DTYPE_NAMES[array.dtype] if isinstance(payload, np.ndarray) else ""
        if not array.nbytes:  # it has no place, wherever it was cut from
            return self._copy(array, dtype)
        if type(owner) is Loan and owner.writer is self.writer:
            if isinstance(payload, np.ndarray):
                payload.flags.writeable = False  # from now on it belongs to its readers
            return ref_to(array, owner, self.writer.shape.id, owner.slot, 0, dtype)
        if type(owner) is Lease and owner.record.inlet.plan.to_port in self._forwards:
            source = owner.record.ref
            assert source is not None  # arrays on a lease come from a slot
            parents.append(owner.record)
            return ref_to(array, owner, source.ring, source.slot, source.offset, dtype)
        return self._copy(array, dtype)

    def _copy(self, array: np.ndarray[Any, Any], dtype: str) -> SlotRef:
        slot = self._copy_slot = self._claim_slot(array.nbytes)
        self.copied += 1
        if array.nbytes:
            room = np.frombuffer(self.writer.slot_view(slot, array.nbytes), array.dtype).reshape(array.shape)
            np.copyto(room, array)
        return SlotRef(self.writer.shape.id, slot, 0, array.nbytes, dtype, array.shape, ())

    def _spill(self, meta: Meta) -> tuple[SlotRef, bytes]:
        """A payload that does not fit the metadata goes to a slot: bytes as they are, JSON as msgpack."""
        ref = meta.ref
        if ref is None:
            raw, dtype = (meta.value, "") if type(meta.value) is bytes else (encode_json(meta.value), "msgpack")
            ref = self._copy(np.frombuffer(raw, np.uint8), dtype)
            meta.ref, meta.value = ref, None
        encoded = encode_meta(meta)
        if len(encoded) > self.writer.geometry.meta_bytes and meta.trace:
            meta.trace = None  # one packet in many carries it: that one must not fail where the others pass
            encoded = encode_meta(meta)
        if len(encoded) > self.writer.geometry.meta_bytes:
            raise meta_too_long(self.full_name, self._node, len(encoded), self.writer.geometry.meta_bytes)
        return ref, encoded

    # --- receipts

    def on_receipt(self, edge: OutEdge, taken_upto: int, completions: list[messages.Completion]) -> None:
        edge.asked = False
        edge.credit.on_taken(taken_upto)
        credit, writer, bit = edge.credit, self.writer, edge.bit
        for sequence, entry, outcome in completions:
            if writer.sequence_at(entry) == sequence and credit.on_completed(sequence, outcome):
                self._finish(entry, sequence, bit, outcome)
        edge.send_kept()
        if edge.credit.kept:
            edge.ask()
        edge.publish()

    def on_gone(self, edge: OutEdge) -> None:
        """The consumer will not come back: what it had not completed has failed, and the edge takes no more."""
        edge.on_gone()
        for entry, sequence in self.writer.pending_on(edge.bit):
            self._finish(entry, sequence, edge.bit, messages.LOST if edge.plan.passed_on else messages.FAILED)

    def on_done(self, edge: OutEdge) -> None:
        """The consumer has ended in good order."""
        for entry, sequence, outcome in edge.on_done(self.writer.pending_on(edge.bit)):
            self._finish(entry, sequence, edge.bit, outcome)

    def _finish(self, entry: int, sequence: int, bit: int, outcome: int) -> None:
        if outcome > self._outcomes[entry]:
            self._worsen(entry, outcome)
        if outcome == messages.LOST:
            self.writer.quarantine(entry)
        if not self.writer.complete(entry, sequence, bit):
            return
        parents = self._parents[entry]
        if parents:
            self._parents[entry] = []
            for record in parents:
                self.pinned -= 1
                record.settle_output()
        if self._adopted_ids:
            self._adopted_ids = {id16: row for id16, row in self._adopted_ids.items() if row != entry}
        position = self._position_of[entry]
        if position is not None and self.positions is not None:
            self._position_of[entry] = None
            self.positions.completed(position)
        packet = self._packets[entry]
        if packet is not None:
            self._packets[entry] = None
            self._tell_completed(packet, self._outcomes[entry])

    def _worsen(self, entry: int, outcome: int) -> None:
        """A consumer has not taken a packet. Told before its bit is cleared: whenever this process dies, a successor knows it."""
        self._outcomes[entry] = outcome
        self.writer.note_outcome(entry, outcome)
        for record in self._parents[entry]:
            if record.inlet.delivered or outcome == messages.LOST:
                record.worsen(outcome)

    def _tell_completed(self, packet: StreamPacket, outcome: int) -> None:
        if self.on_completed is not None:
            self.on_completed(packet, outcome)
