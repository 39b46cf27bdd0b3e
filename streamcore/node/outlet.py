"""One output port: loans, the commit of a packet, and its edges with their policies.

The host hands in what may block: `wait_for(ready, deadline_ns)` answers messages until `ready()` or the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from streamcore import limits
from streamcore.errors import MessageError, PayloadError
from streamcore.node.api import Port
from streamcore.node.checks import ALL, OFF, Check
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.node.packing import Fields, encode_packet, fields_of, meta_of
from streamcore.node.placing import as_bytes, id16_of, meta_too_long, packet_of, ref_to, small_bytes, trace_of, without_payload
from streamcore.node.positions import Positions
from streamcore.node.slots import Slots
from streamcore.node.timing import Tracer
from streamcore.node.views import Lease, Loan, loan_ref, owner_of
from streamcore.packet import Meta, SlotRef, StreamPacket, decode_meta, encode_json, encode_meta
from streamcore.payload import DTYPE_NAMES, JSON_TYPES, describe_payload, payload_fits
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.ring import NO_PARENT, NO_REF, Parent, RingWriter
from streamcore.wire import messages
from streamcore.wire.credit import DROP, SEND

monotonic_ns: Final = time.monotonic_ns  # a constant costs no look-up
_NDIM_MAX: Final = limits.NDIM_MAX


class Outlet(Slots):
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
        super().__init__(f"{node_id}.{name}", writer, edges, wait_for)
        self.port = port
        for edge in edges:
            edge.brisk_ns *= len(edges)  # a packet takes a message on each
        self._node, self._name, self._forwards = node_id, name, forwards
        self._kind = "" if port.kind == "any" else port.kind
        self.check: Check | None = None if checks == OFF else Check(self.full_name, port, checks)
        self._blocking = [edge for edge in edges if edge.plan.policy == "block"]
        # Here they cost no look-up, per packet.
        self._fields_of, self._encode_packet, self._json_types, self._array_type = fields_of, encode_packet, JSON_TYPES, np.ndarray
        self._loan_ref, self._ring = loan_ref, writer.shape.id
        self._drop, self._no_ref, self._no_parent, self._inline_max = DROP, NO_REF, NO_PARENT, limits.INLINE_BYTES_MAX
        self._parents: list[list[Record]] = [[] for _ in range(writer.geometry.entry_count)]
        self._outcomes = [messages.OK] * writer.geometry.entry_count
        self._packets: list[StreamPacket | None] = [None] * writer.geometry.entry_count
        self.on_completed: Callable[[StreamPacket, int], None] | None = None
        self.pinned = 0  # inputs that cannot complete before our consumers have completed an output
        self._adopted_ids: dict[bytes, int] = {}  # of packets that a predecessor committed: not committed again
        self.emitted_ids: set[bytes] | None = None  # by the running process(), where it may be tried again
        self.positions: Positions | None = None  # of a source
        self.tracer = Tracer(None)
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
                self.positions.adopted(meta.position)
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

    # --- emitting. Packets are Any where their fields are read: an author may put anything there, and _pack says what is wrong with it

    def emit(self, packet: Any, pressed: bool) -> bool:
        """Commit and send one packet; waits as the `block` edges want it. False if it was committed already: by a
        predecessor, or by an attempt at the same input that failed later.

        `pressed`: a producer of ours is out of credit, so our consumers should report soon.

        Raises:
          PayloadError: not what the port declares, or not able to travel. Nothing was committed.
        """
        fields = self._fields_of(packet)
        payload, parent, position, id16, _, _ = fields
        if self.check is not None and self.check.done_with(payload):
            self.check = None
        if parent is not None or position is not None:
            id16 = id16_of(id16, parent, position, self._node, self._name, self.full_name)
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
            if edge.decide(now_ns) is not self._drop:
                pending |= edge.bit
        if pending:
            self._commit(packet, fields, id16, pending, now_ns, blocked_ns, pressed)
        else:
            for edge in self.edges:
                edge.drop()
            if self.positions is not None and position is not None:
                self.positions.emitted(position)
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

    def _commit(self, packet: Any, fields: Fields, id16: Any, pending: int, now_ns: int, blocked_ns: int, pressed: bool) -> None:
        writer = self.writer
        payload, lineage, position, _, before, again = fields
        if not writer.free_entries:
            self.press()
            self._wait_for(self._entry_is_free, None)
        parents: list[Record] = []
        trace = trace_of(before, lineage, self._node, now_ns, now_ns >= self.tracer.next_ns)
        if trace is not None and before is None:
            self.tracer.begin(writer.next_sequence, packet.capture_ns, now_ns, blocked_ns)
        if lineage is not None:
            position = None
        if position is not None and self.positions is not None:
            again = again or position <= self.positions.emitted_before
        flags = REDELIVERED if again else 0
        try:
            ref, raw = self._pack(packet, payload, id16, position, trace, parents)
            parent = self._no_parent if lineage is None and not parents else self._tie(lineage, parents)
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
        if self.on_completed is not None:
            self._packets[entry] = without_payload(packet, id16)
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
            self.taps.offer(decode_meta(raw), raw, payload, sequence, flags, now_ns)

    def _entry_is_free(self) -> bool:
        return self.writer.free_entries > 0

    def _pack(self, packet: Any, payload: Any, id16: Any, position: Any, trace: Any, parents: list[Record]) -> tuple[SlotRef, bytes]:
        """Put the payload where it belongs and encode the metadata; `parents` gets the input whose payload is forwarded."""
        ref: SlotRef | None = None
        value: Any = None
        kind = type(payload)
        if kind is self._array_type:
            ref = self._loan_ref(payload, self.writer, self._ring)
        if ref is not None:
            pass  # the whole of a loan: where it lies it is
        elif kind in self._json_types or (kind is bytes and len(payload) <= self._inline_max):
            value = payload
        elif kind is self._array_type and payload.dtype in DTYPE_NAMES and payload.ndim <= _NDIM_MAX:
            ref = self._place(payload, parents)
        elif kind is bytes:
            ref = self._copy_bytes(payload, "")
        elif not payload_fits("any", payload):  # whatever is checked of it: it would arrive as something else, or not at all
            raise PayloadError(f"port {self.full_name}: found {describe_payload(payload)}, which cannot travel")
        elif not isinstance(payload, (np.ndarray, bytes, bytearray, memoryview)):
            value = payload
        elif (small := small_bytes(payload)) is not None:
            value = small
        else:
            ref = self._place(payload, parents)
        raw = self._encode_packet(packet, id16, self._kind, ref, value, position, trace)
        if len(raw) > self.writer.geometry.meta_bytes:
            return self._spill(meta_of(packet, id16, self._kind, ref, value, position, trace))
        return self._no_ref if ref is None else ref, raw

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
        """Where the payload lies: in our ring if it is part of a loan, in another if it is forwarded, else in a slot it is copied to."""
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

    def _spill(self, meta: Meta) -> tuple[SlotRef, bytes]:
        """A payload that does not fit the metadata goes to a slot: bytes as they are, JSON as msgpack."""
        ref = meta.ref
        if ref is None:
            raw, dtype = (meta.value, "") if type(meta.value) is bytes else (encode_json(meta.value), "msgpack")
            ref = self._copy_bytes(raw, dtype)
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
