"""The consumer's side of one edge: from DATA to packets, from finished packets to receipts.

Receipts are coalesced: one is sent when enough was taken or completed (credit.report_every), when the producer asked for it (WANT) and
this process is about to wait or has let it wait for a while, or when the process has idled for RECEIPT_IDLE_MS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec import DecodeError

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.graph.model import EdgePlan
from streamcore.node.checks import Check
from streamcore.node.lease import Record
from streamcore.node.packing import open_packet
from streamcore.node.views import Lease, lend
from streamcore.packet import SlotRef, StreamPacket, decode_json
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.ring import RingReader
from streamcore.shm.status import EDGE_WORD, StatusWriter
from streamcore.wire import messages
from streamcore.wire.credit import BATCHING_DEPTH, LATEST, report_every
from streamcore.wire.messages import DROPPED, FAILED, LOST, MARK_BITS, OK, REFUSED

_TAKEN: Final = EDGE_WORD["taken"]
_REDELIVERED: Final = EDGE_WORD["redelivered"]
_WAITING: Final = EDGE_WORD["waiting"]
_BYTES: Final = EDGE_WORD["bytes"]
_IN_FLIGHT: Final = EDGE_WORD["in_flight"]
U64_MAX: Final = 2**64 - 1
SEQUENCE_MAX: Final = 2**62 - 2  # what a mark on the status page holds; a row never used holds a higher one
_WARM_BYTES: Final = limits.WARM_BYTES
_WARM_NS: Final = limits.WARM_NS
_RECEIPTS_MAX: Final = messages.RECEIPTS_MAX
COUNT_MAX: Final = 2**62 - 1  # above it, counting takes longer


class Inlet:
    """One input edge. `take` turns a received record into a packet; a Record's completion comes back through `_on_complete`.

    Packets are taken in the order of their sequence, so what was received is known by two numbers: everything below `_taken_upto` was
    taken, and from there to `_high_water` it waits. A repeat of what is completed is answered with its receipt again: the first may have
    gone to a producer that died.
    """

    def __init__(
        self,
        plan: EdgePlan,
        readers: dict[int, RingReader],
        entry_count: int,
        incarnation: int,
        status: StatusWriter,
        release: Callable[[Record], None],
    ):
        self.plan, self._readers, self._entry_count = plan, readers, entry_count
        self._reader = readers.get(plan.ring)
        # Here they cost no look-up, per packet.
        self._open_packet, self._lend, self._to_port, self._id = open_packet, lend, plan.to_port, plan.id
        self._read_data, self._receipt = messages.read_data, messages.receipt
        self._lease_type: Callable[[Any, Any, Any], Lease] = Lease
        self.peer_incarnation = 1
        self.delivered = plan.completion == "delivered"
        self.waiting = 0  # received and not yet taken
        self.ended = plan.feedback  # a cycle ends where it is fed from, and END of what comes round would come too late
        self.want = False
        self.flushed_ns = 0
        self.refusal = ""
        self.waits: Any = status.waits(plan.id)  # as an object, for the leaf that counts there
        self.check: Check | None = None  # asked by the host of what `take` gives, until it is done with
        self.send: Callable[[bytes], None] = lambda message: None  # set when the peer is connected
        self._incarnation = incarnation
        self._release = release
        self._words, self._row, self._marks = status.words, status.row(plan.id), status.marks(plan.id)
        self._high_water = -1
        self._taken_upto = 0
        self._taken_unreported = 0
        self._due_at, self.latest = report_every(plan.depth), plan.policy == LATEST
        self._let_go_bytes = 0  # of slots since the last receipt
        self._warm_bytes = _WARM_BYTES if plan.depth < BATCHING_DEPTH else limits.WARM_BYTES_DEEP  # so many are due at once
        self._brisk = False  # frames follow each other so soon that the next one finds it there
        self._completions: list[messages.Completion] = []
        self._open: dict[int, Record] = {}  # taken and not yet completed, by sequence
        self._expected: dict[tuple[int, int], Record] = {}  # (entry, sequence) that adopted outputs depend on and that will come again
        self._ids: deque[bytes] = deque(maxlen=max(64, 2 * plan.window))  # of the last packets taken
        self._keep_id = self._ids.append
        self._known: set[bytes] | None = None  # the same, once some of them may be derived again
        self.poisoned: frozenset[int] = frozenset()  # sequences of packets that have killed the process too often
        self._call_mark, self._call_complete = self._mark, self._on_complete  # bound once, not per packet
        before = status.counters(plan.id)
        self._taken, self._redelivered, self._bytes = before.taken, before.redelivered, before.bytes

    def expect(self, entry: int, sequence: int) -> Record:
        """The record of an input on which an adopted output depends: it is not completed, so its producer will send it again."""
        key = (entry, sequence)
        if key not in self._expected:
            self._expected[key] = self._record(sequence, entry)
        return self._expected[key]

    def producer_restarted(self, incarnation: int) -> None:
        """What it had committed comes again with its old sequence; what it derives again comes with its old id."""
        self.peer_incarnation = incarnation
        self.want = False
        self._known = set(self._ids)

    def _record(self, sequence: int, entry: int) -> Record:
        return Record(self, sequence, entry, self._call_mark, self._call_complete)

    def admit(self, raw: bytes, header: messages.Header) -> list[messages.Record]:
        """The records of a DATA message that are new, checked against the producer's table. Raises MessageError."""
        records = self._read_data(raw, header.records)
        reader = self._reader
        if records and records[0][0] > self._high_water and reader is not None and reader.vouches(records, SEQUENCE_MAX):
            fresh = records
        else:
            fresh = self._checked(records)
        if header.flags & messages.WANT:
            self.want = True
        if fresh:
            self._high_water = fresh[-1][0]
            self.waiting += len(fresh)
        return fresh

    def _checked(self, records: list[messages.Record]) -> list[messages.Record]:
        """The same for records of which some may be repeats, or wrong."""
        self._check_entries(records)
        fresh = self._fresh(records)
        self._check_rows(fresh)
        if len(fresh) < len(records):
            self._answer_repeats(records)
        return fresh

    def _fresh(self, records: list[messages.Record]) -> list[messages.Record]:
        return [record for record in records if record[0] > self._high_water]

    def publish(self) -> None:
        """Bring the page up to date. Not per packet: each store costs a tenth of a microsecond, and the loop comes by here often enough."""
        words, row = self._words, self._row
        words[row + _TAKEN], words[row + _WAITING], words[row + _IN_FLIGHT] = self._taken, self.waiting, len(self._open)
        total = self._bytes
        words[row + _BYTES] = total if total <= COUNT_MAX else total & U64_MAX  # an array of stride 0 may claim to be enormous

    def left_behind(self) -> list[messages.Record]:
        """What a producer that is gone for good had committed to this edge and this process has not received, in order.

        Exact: the producer was reaped, and nobody else writes its table. Once it is gone a receipt changes nothing there, so what a
        predecessor of this process has completed is still pending; its marks tell.
        """
        repeat = REDELIVERED if self._incarnation > 1 else 0  # a predecessor may have had it
        rows = self._readers[self.plan.ring].pending_on(1 << self.plan.bit)
        records = [(row.sequence, 0, row.entry, row.flags | repeat, row.meta) for row in rows if row.sequence > self._high_water]
        if records:
            self._high_water = records[-1][0]
            self.waiting += len(records)
            self.publish()
        return records

    def check_restarted(self, raw: bytes, header: messages.Header) -> None:
        """Raises MessageError unless a DATA message of an incarnation not known yet is vouched for by the producer's table."""
        records = messages.read_data(raw, header.records)
        self._check_entries(records)
        self._check_rows(records)

    def _check_entries(self, records: list[messages.Record]) -> None:
        count = self._entry_count
        for record in records:
            if record[2] >= count:
                raise MessageError(f"edge {self.plan.name}: entry {record[2]}, the ring has {self._entry_count}")

    def _check_rows(self, records: list[messages.Record]) -> None:
        """A wrong sequence would make the packets that follow look like repeats."""
        sequence_at, last = self._readers[self.plan.ring].sequence_at, -1
        for sequence, _, entry, _, _ in records:
            if sequence_at(entry) != sequence:
                raise MessageError(f"edge {self.plan.name}: sequence {sequence} in entry {entry}, the table has {sequence_at(entry)}")
            if sequence <= last:
                raise MessageError(f"edge {self.plan.name}: sequence {sequence} after {last} in one message")
            last = sequence
        if last > SEQUENCE_MAX:
            raise MessageError(f"edge {self.plan.name}: sequence {last} is that of no packet")

    def _answer_repeats(self, records: list[messages.Record]) -> None:
        for sequence, _, entry, _, _ in records:
            if sequence < self._taken_upto:
                self._taken_unreported += 1
                if sequence not in self._open:
                    self._completions.append((sequence, entry, max(OK, self._marked(entry, sequence))))

    def take(self, record: messages.Record) -> StreamPacket | None:
        """Begin a packet. None if there is nothing to process: it was processed before, or its metadata is refused.

        Why it is refused stands in `refusal`, which is empty otherwise.
        """
        sequence, sent_ns, entry, flags, raw = record
        number: Any = record[0]  # the same as an object, which `sequence` is not once this is compiled
        self.waiting -= 1
        self._taken += 1
        self._taken_unreported += 1
        self._taken_upto = sequence + 1
        mine = self._expected.pop((entry, sequence), None) if self._expected else None
        if mine is None:
            mine = self._record(sequence, entry)
        self._open[number] = mine
        mine.sent_ns = sent_ns
        self.refusal = ""
        marked = self._marked(entry, sequence)
        if marked >= OK:
            mine.outcome = max(mine.outcome, marked)
            mine.settle_unused()
            return None
        try:
            again = flags & REDELIVERED
            packet, id16, ref, nbytes = self._open_packet(raw, again != 0, number, self._to_port, mine)
            if again and self._known is None:  # we, or a node before us, died: more may come again with their old ids
                self._known = set(self._ids)
            if self._known is not None and self._is_known(id16):
                mine.settle_unused()
                return None
            self._keep_id(id16)
            mine.id16 = id16
            if again:
                self._redelivered += 1
                self._words[self._row + _REDELIVERED] = self._redelivered
            self._fill(packet, ref, nbytes, mine)
            return packet
        except MessageError as error:
            self.refusal = str(error)  # not the error itself: its traceback would keep the lease
            mine.outcome = FAILED
            if mine.ref is None:  # no lease was made, so nothing else will settle it
                mine.settle()
            mine.settle()
            return None

    def _marked(self, entry: int, sequence: int) -> int:
        """The outcome with which this process, or a predecessor, has marked a packet; -1 if it has not."""
        mark = int(self._marks[entry]) - ((sequence + 1) << MARK_BITS)
        return mark if OK <= mark <= LOST else -1

    def _is_known(self, id16: bytes) -> bool:
        known, ids = self._known, self._ids
        assert known is not None
        if id16 in known:
            return True
        if len(ids) == ids.maxlen:
            known.discard(ids[0])
        known.add(id16)
        return False

    def _forget(self, id16: bytes) -> None:
        """Who waits for its delivery may send it again with its old id: that would be no repeat of what has arrived."""
        if id16 in self._ids:
            self._ids.remove(id16)
        if self._known is not None:
            self._known.discard(id16)

    def skip(self, record: messages.Record) -> None:
        """Complete a packet that came after this node's end: a restarted producer derived again what was processed before, or it comes
        round in a cycle and nobody wants it any more.
        """
        sequence, _, entry, _, _ = record
        self.waiting -= 1
        self._taken_upto = sequence + 1
        self._open[sequence] = mine = self._record(sequence, entry)
        mine.outcome = DROPPED if self.plan.feedback else OK
        mine.settle_unused()

    def _fill(self, packet: StreamPacket, ref: SlotRef | None, nbytes: int, mine: Record) -> None:
        """Give a packet its lease, and the payload that `ref` names."""
        if ref is not None:
            packet.lease, packet.payload = self._view(ref, mine)
            return
        packet.lease = self._lease_type(mine, self._release, None)
        self._bytes += nbytes

    def _view(self, ref: SlotRef, mine: Record) -> tuple[Lease, Any]:
        reader = self._readers.get(ref.ring)
        if reader is None:
            raise MessageError(f"edge {self.plan.name}: ring {ref.ring} is not one that this node may read")
        lease, view, nbytes = self._lend(reader, reader.reach, ref, mine, self._release)
        mine.ref = ref
        self._bytes += nbytes
        if ref.dtype == "msgpack":
            try:
                return lease, decode_json(view)
            except (DecodeError, ValueError, RecursionError) as error:
                raise MessageError(f"edge {self.plan.name}: payload is not msgpack: {error}") from None
        return lease, view

    def _mark(self, mine: Record) -> None:
        """Processed and let go of: a successor completes it without processing it again. Stored before its receipt can leave."""
        self._marks[mine.entry] = (mine.sequence + 1) << MARK_BITS | mine.outcome

    def mark_again(self, mine: Record) -> None:
        """An output of it turns out not to be delivered. It may have been marked by a predecessor, and not have come again yet."""
        if self._marked(mine.entry, mine.sequence) >= OK:
            self._mark(mine)

    def _on_complete(self, mine: Record) -> None:
        number: Any = mine.sequence
        try:
            del self._open[number]
        except KeyError:
            return
        self._completions.append((number, mine.entry, mine.outcome))
        if mine.outcome != OK:
            self._mark(mine)  # for a repeat, which is answered with the same outcome
            if mine.outcome >= REFUSED and self.delivered:
                self._forget(mine.id16)
        if mine.ref is not None:
            self._let_go_bytes += mine.ref.nbytes

    def give_up(self) -> None:
        """Complete what node code never let go of; only at the end of the process, when nobody reads it any more."""
        for mine in list(self._open.values()):
            self._on_complete(mine)

    @property
    def under_way(self) -> int:
        """Packets taken and not yet completed."""
        return len(self._open)

    @property
    def unreported(self) -> bool:
        return bool(self._taken_unreported or self._completions)

    @property
    def due(self) -> bool:
        """Is it time for a receipt: enough was taken, or completed.

        On a `latest` edge, only when work on a packet is over: what is sent at its beginning would be old when the next begins.
        """
        if self.latest:
            return len(self._completions) > 0
        warm = self._brisk and self._let_go_bytes >= self._warm_bytes
        return warm or self._taken_unreported >= self._due_at or len(self._completions) >= self._due_at

    def flush(self, now_ns: int) -> None:
        """Report everything that the producer does not know yet."""
        completions, self._completions = self._completions, []
        self._taken_unreported = 0
        self.want = False
        self._brisk = self._let_go_bytes * _WARM_NS >= _WARM_BYTES * (now_ns - self.flushed_ns)
        self._let_go_bytes = 0
        self.flushed_ns = now_ns
        while len(completions) > _RECEIPTS_MAX:
            head, completions = completions[:_RECEIPTS_MAX], completions[_RECEIPTS_MAX:]
            self.send(self._receipt(self._id, self._incarnation, self._taken_upto, head))
        self.send(self._receipt(self._id, self._incarnation, self._taken_upto, completions))


Waiting = deque[tuple[Inlet, messages.Record]]
