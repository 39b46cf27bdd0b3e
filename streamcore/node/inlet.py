"""The consumer's side of one edge: from DATA to packets, from finished packets to receipts.

Receipts are coalesced: one is sent when half the depth was taken or completed, when the producer asked for it (WANT) and this process
is about to wait or has let it wait for a while, or when the process has idled for RECEIPT_IDLE_MS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import DecodeError

from streamcore.errors import MessageError
from streamcore.graph.model import EdgePlan
from streamcore.node.lease import Lease, Record
from streamcore.packet import Meta, SlotRef, StreamPacket, decode_json, decode_meta
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.ring import RingReader
from streamcore.shm.status import EDGE_WORD, StatusWriter
from streamcore.wire import messages
from streamcore.wire.messages import FAILED

_TAKEN, _REDELIVERED, _WAITING, _BYTES = (EDGE_WORD[name] for name in ("taken", "redelivered", "waiting", "bytes"))
_IN_FLIGHT = EDGE_WORD["in_flight"]
U64_MAX = 2**64 - 1


class Inlet:
    """One input edge. `take` turns a received record into a packet; a Record's completion comes back through `_on_complete`."""

    def __init__(
        self,
        plan: EdgePlan,
        readers: Mapping[int, RingReader],
        entry_count: int,
        incarnation: int,
        status: StatusWriter,
        release: Callable[[Record], None],
    ):
        self.plan, self._readers, self._entry_count = plan, readers, entry_count
        self.peer_incarnation = 1
        self.delivered = plan.completion == "delivered"
        self.waiting = 0  # received and not yet taken
        self.ended = False
        self.want = False
        self.flushed_ns = 0
        self._incarnation = incarnation
        self._release = release
        self._words, self._row = status.words, status.row(plan.id)
        self._taken_upto = 0
        self._taken_unreported = 0
        self._completions: list[messages.Completion] = []
        self._open: dict[int, Record] = {}  # taken and not yet completed, by sequence
        self.refusal = ""
        self._taken = self._redelivered = self._bytes = 0
        self.send: Callable[[bytes], None] = lambda message: None  # set when the peer is connected

    def admit(self, raw: bytes, header: messages.Header) -> list[messages.Record]:
        """The records of a DATA message, checked against the producer's table. Raises MessageError."""
        if header.incarnation != self.peer_incarnation:
            raise MessageError(f"edge {self.plan.name}: DATA of incarnation {header.incarnation}, expected {self.peer_incarnation}")
        records = messages.read_data(raw, header.records)
        for record in records:
            if record[2] >= self._entry_count:
                raise MessageError(f"edge {self.plan.name}: entry {record[2]}, the ring has {self._entry_count}")
        if header.flags & messages.WANT:
            self.want = True
        self.waiting += len(records)
        self._words[self._row + _WAITING] = self.waiting
        return records

    def take(self, record: messages.Record) -> StreamPacket | None:
        """Begin a packet; None if its metadata is refused, which fails the packet (the cause is in `refusal`)."""
        sequence, _, entry, flags, raw = record
        self.waiting -= 1
        self._taken += 1
        self._taken_unreported += 1
        self._taken_upto = sequence + 1
        words, row = self._words, self._row
        words[row + _TAKEN] = self._taken
        words[row + _WAITING] = self.waiting
        mine = self._open[sequence] = Record(self, sequence, entry, self._on_complete)
        words[row + _IN_FLIGHT] = len(self._open)
        try:
            return self._packet(decode_meta(raw), mine, flags)
        except MessageError as error:
            self.refusal = str(error)  # not the error itself: its traceback would keep the lease
            mine.outcome = FAILED
            if mine.ref is None:  # no lease was made, so nothing else will settle it
                mine.settle()
            mine.settle()
            return None

    def _packet(self, meta: Meta, mine: Record, flags: int) -> StreamPacket:
        redelivered = bool(flags & REDELIVERED)
        if redelivered:
            self._redelivered += 1
            self._words[self._row + _REDELIVERED] = self._redelivered
        ref = meta.ref
        if ref is None:
            lease, payload = Lease(mine, self._release, None), meta.value
        else:
            lease, payload = self._view(ref, mine)
        return StreamPacket(
            meta.kind,
            meta.source_id,
            payload,
            meta.meta,
            meta.id16,
            meta.wall_ns,
            meta.capture_ns,
            meta.position,
            redelivered,
            mine.sequence,
            "",
            self.plan.to_port,
            meta.trace,
            mine,
            lease,
        )

    def _view(self, ref: SlotRef, mine: Record) -> tuple[Lease, Any]:
        reader = self._readers.get(ref.ring)
        if reader is None:
            raise MessageError(f"edge {self.plan.name}: ring {ref.ring} is not one that this node may read")
        interface = reader.interface(ref)
        mine.ref = ref
        self._bytes += ref.nbytes
        self._words[self._row + _BYTES] = self._bytes & U64_MAX  # an array of stride 0 may claim to be enormous
        lease = Lease(mine, self._release, interface)
        view: Any = np.asarray(lease)
        if ref.dtype == "msgpack":
            try:
                return lease, decode_json(view)
            except (DecodeError, ValueError, RecursionError) as error:
                raise MessageError(f"edge {self.plan.name}: payload is not msgpack: {error}") from None
        return lease, view if ref.dtype else memoryview(view)

    def _on_complete(self, mine: Record) -> None:
        if self._open.pop(mine.sequence, None) is None:
            return
        self._words[self._row + _IN_FLIGHT] = len(self._open)
        self._completions.append((mine.sequence, mine.entry, mine.outcome))

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
    def receipt_due(self) -> bool:
        """Half the depth was taken, or half the depth completed."""
        return self._taken_unreported * 2 >= self.plan.depth or len(self._completions) * 2 >= self.plan.depth

    def flush(self, now_ns: int) -> None:
        """Report everything that the producer does not know yet."""
        completions, self._completions = self._completions, []
        self._taken_unreported = 0
        self.want = False
        self.flushed_ns = now_ns
        while len(completions) > messages.RECEIPTS_MAX:
            head, completions = completions[: messages.RECEIPTS_MAX], completions[messages.RECEIPTS_MAX :]
            self.send(messages.receipt(self.plan.id, self._incarnation, self._taken_upto, head))
        self.send(messages.receipt(self.plan.id, self._incarnation, self._taken_upto, completions))


Waiting = deque[tuple[Inlet, messages.Record]]
