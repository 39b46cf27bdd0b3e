"""Garbage, mutants and lies into a process between two edges, nine hundred thousand of them: refused and counted, or harmless.

The messages go the whole way: checksum, header, records, the producer's table, metadata, the view of the payload; receipts to the rows
of a real ring. After each, everything that it could have changed is looked at. Reproducible by the number of the block.
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import random
import struct
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hostile_messages import EDGE_IN, EDGE_OUT, ENTRIES, KEY, SLOT_BYTES, SLOTS, Forge

from streamcore import Port, StreamPacket
from streamcore.graph.model import EdgePlan, RingPlan
from streamcore.node import inlet
from streamcore.node.exchange import Exchange
from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.node.outlet import Outlet
from streamcore.packet import encode_json
from streamcore.shm import ring, segment
from streamcore.shm.layout import ENTRY_BYTES, HEADER_BYTES
from streamcore.shm.ring import RingReader, RingWriter, clear_table, geometry, ring_bytes
from streamcore.shm.status import EDGE_WORD, WORD, StatusWriter, format_status, status_bytes
from streamcore.wire import messages
from streamcore.wire.messages import data_one, sealed

BLOCKS = 10
STRANGERS, ASTRAY, METADATA = 50_000, 25_000, 18_000  # of each block
PER_VICTIM = 250  # messages; then a new one, since a message that is right may end a stream
PLAN_IN = EdgePlan(EDGE_IN, 0, "camera", "out", "middle", "in", 0, "block", 64, 70, ())
PLAN_OUT = EdgePlan(EDGE_OUT, 0, "middle", "out", "sink", "in", 1, "block", 6, 7, ())


class Violation(AssertionError):
    """Something that a message must never be able to do."""


class Line:
    """A connection to nobody."""

    def __init__(self, *_: object):
        pass

    def send(self, message: bytes) -> None:
        pass

    def close(self, *, orderly: bool) -> None:
        pass


class Victim:
    """A process without sockets and node code: an inlet on one ring, an outlet on another, both real, and the looks at them."""

    def __init__(self, seed: int):
        self.shapes = [RingPlan(n, port, ENTRIES, 1024, SLOTS, SLOT_BYTES, ()) for n, port in enumerate(("camera.out", "middle.out"))]
        self.memories = [mmap.mmap(-1, ring_bytes(shape)) for shape in self.shapes]
        self.reader = RingReader(self.memories[0], self.shapes[0])
        g, chance = geometry(self.shapes[0]), random.Random(seed)
        for slot in range(SLOTS):
            start = g.slots_offset + slot * g.slot_bytes
            content = encode_json({"n": slot, "list": [1, 2.5, None]}) if slot % 2 else b"\x91" * 5000
            self.memories[0][start : start + SLOT_BYTES] = (content + chance.randbytes(SLOT_BYTES))[:SLOT_BYTES]
        rows = [(EDGE_IN, ENTRIES), (EDGE_OUT, 0)]
        self.page = segment.create("status", status_bytes(rows))
        format_status(self.page, rows)
        self.status = StatusWriter(self.page)
        self.log = logging.getLogger("hostile")
        self.log.setLevel(logging.CRITICAL)
        self.counts: Counter[str] = Counter()
        self.renew()

    def renew(self) -> None:
        """A new process of the node, its rings empty but for five packets that its consumer has."""
        self.sequence, self.since = 0, 0
        for memory, shape in zip(self.memories, self.shapes, strict=True):
            clear_table(memory, geometry(shape))
        words, marks = self.status.words, self.status.marks(EDGE_IN)
        for entry in range(ENTRIES):
            marks[entry] = 0
        for name in ("sent", "completed", "dropped", "failed", "in_flight"):
            words[self.status.row(EDGE_OUT) + EDGE_WORD[name]] = 0
        self.released: deque[Record] = deque()
        self.inlet = Inlet(PLAN_IN, {0: self.reader}, ENTRIES, 1, self.status, self.released.append)
        self.edge = OutEdge(PLAN_OUT, 1, self.status)
        self.writer = RingWriter(self.memories[1], self.shapes[1])
        self.outlet = Outlet("middle", "out", Port("any", "any"), self.writer, [self.edge], frozenset({"in"}), lambda ready, until: ready())
        self.exchange = Exchange("middle", None, self.status, self.log, KEY)  # type: ignore[arg-type]
        self.exchange.wire([self.inlet], {"out": self.outlet})
        self.exchange.open_peer = Line  # type: ignore[assignment]
        for number in range(5):
            self.outlet.emit(StreamPacket.new(kind="n", source_id="s", payload=bytes([number]) * 50), False)

    def renew_if_spent(self) -> None:
        if self.since >= PER_VICTIM or self.inlet.ended or self.inlet.peer_incarnation != 1 or self.inlet._high_water > 2**60:
            self.renew()

    # --- what it is given

    def get(self, raw: bytes) -> bool:
        """One message arrives. False if it was refused; then nothing has changed but the count."""
        self.since += 1
        refused, before, rows = self.refused, self.state(), dict(enumerate(self.writer.entry_sequence))
        self.exchange._on_message(raw)
        added = self.refused - refused
        if added not in (0, 1) or (added and self.state() != before):
            raise Violation(f"refused {added} times, {before} became {self.state()}")
        if not added:
            self.look_at_rows(rows, raw)
            self.look_at_waiting()
        return not added

    def from_stranger(self, raw: bytes) -> None:
        self.renew_if_spent()
        if self.get(raw):
            raise Violation(f"heard a stranger: {raw!r}")
        self.counts["strangers refused"] += 1

    def from_peer(self, raw: bytes) -> None:
        self.renew_if_spent()
        self.counts["astray heard" if self.get(sealed(raw, KEY)) else "astray refused"] += 1
        self.exchange.waiting.clear()

    def packet(self, meta: bytes, entry: int) -> None:
        """A record that the table vouches for, taken as the host does."""
        self.renew_if_spent()
        sequence = self.sequence = self.inlet._high_water + 1
        struct.pack_into("<Q", self.memories[0], HEADER_BYTES + entry * ENTRY_BYTES, sequence)
        if not self.get(sealed(data_one(EDGE_IN, 1, 0, sequence, 0, entry, 0, meta), KEY)):
            raise Violation("refused what the table vouches for")
        inlet, record = self.exchange.waiting.popleft()
        taken = inlet.take(record)
        if taken is None:
            if not inlet.refusal:
                raise Violation("no packet and no reason")
            self.exchange.refuse(inlet.refusal)
            self.counts["packets refused"] += 1
        else:
            self.look_at_view(taken)
            taken.parent.settle()
        del taken
        while self.released:
            self.released.popleft().settle()
        if inlet.under_way:
            raise Violation("a packet that nobody has is still under way")

    # --- looking

    @property
    def refused(self) -> int:
        return int(self.exchange._words[WORD["refused"]])

    def state(self) -> tuple[Any, ...]:
        """Everything that a message could change, in short."""
        inlet, credit = self.inlet, self.edge.credit
        return (
            *(inlet._high_water, inlet.waiting, inlet.ended, inlet.want, inlet.peer_incarnation, inlet._taken_unreported),
            *(len(inlet._completions), len(self.exchange.waiting), credit.in_flight, credit.untaken, credit.completed, credit.failed),
            *(self.writer.free_entries, self.writer.free_slots, self.edge.asked, self.edge.peer_incarnation),
        )

    def look_at_rows(self, before: dict[int, int], raw: bytes) -> None:
        """A row is freed only by a receipt that names it and its packet; the account balances."""
        credit = self.edge.credit
        if credit.sent != credit.completed + credit.dropped + credit.failed + credit.in_flight:
            raise Violation(f"the account does not balance: {vars(credit)}")
        freed = {(s, e) for e, s in before.items() if self.writer.entry_sequence[e] != s}
        if freed:
            message = raw[:-4]
            header = messages.read_header(message)
            named = {(s, e) for s, e, _ in messages.read_receipt(message, header.records)[1]}
            if header.edge != EDGE_OUT or not freed <= named or self.writer.free_entries > ENTRIES:
                raise Violation(f"rows {freed} were freed by a message that names {named}")
            self.counts["rows freed"] += len(freed)

    def look_at_waiting(self) -> None:
        last = -1
        for _, (sequence, _, entry, _, _) in self.exchange.waiting:
            place = HEADER_BYTES + entry * ENTRY_BYTES
            if not 0 <= entry < ENTRIES or struct.unpack_from("<Q", self.memories[0], place)[0] != sequence or not last < sequence < 2**62:
                raise Violation(f"let in: sequence {sequence} in entry {entry} after {last}")
            last = sequence

    def look_at_view(self, packet: StreamPacket) -> None:
        """An array, if one was made, lies in its slot and cannot be written. Its bytes are not read before that is known."""
        ref = packet.parent.ref
        if ref is None or ref.dtype == "msgpack":
            self.counts["values"] += 1
            return
        g = self.reader.geometry
        found = np.asarray(packet.payload).__array_interface__
        address, readonly = found["data"]
        low = high = address
        if 0 not in found["shape"]:
            itemsize = int(found["typestr"][2:])
            strides = found["strides"]
            if strides is None:
                high += itemsize * int(np.prod(found["shape"], dtype=object))
            else:
                steps = [(n - 1) * stride for n, stride in zip(found["shape"], strides, strict=True)]
                low += sum(step for step in steps if step < 0)
                high += sum(step for step in steps if step > 0) + itemsize
        start = self.reader.slots_address + ref.slot * g.slot_bytes
        if not 0 <= ref.slot < g.slot_count or low < start or high > start + g.slot_bytes:
            raise Violation(f"a view from {low - start} to {high - start} of slot {ref.slot}, which has {g.slot_bytes} bytes")
        if not readonly or found["typestr"][1] not in "biuf":
            raise Violation(f"a view that can be written or holds objects: {found}")
        if isinstance(packet.payload, np.ndarray) and packet.payload.nbytes <= SLOT_BYTES:
            packet.payload.tobytes()
        self.counts["views"] += 1

    def close(self) -> None:
        os.close(self.page)


def storm(victim: Victim, seed: int, strangers: int, astray: int, packets: int) -> Counter[str]:
    forge = Forge(seed)
    for _ in range(strangers):
        victim.from_stranger(forge.stranger())
    for _ in range(astray):
        victim.from_peer(forge.astray())
    for number in range(packets):
        victim.packet(forge.metadata(), number % ENTRIES)
    return victim.counts


@pytest.fixture(autouse=True)
def _no_chance_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def victim() -> Iterator[Victim]:
    made = Victim(1)
    yield made
    made.close()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_that_arrives_breaks_a_process_or_is_believed_without_cause(victim, block):
    counts = storm(victim, block, STRANGERS, ASTRAY, METADATA)
    print(f"block {block}: {STRANGERS + ASTRAY + METADATA} messages, {dict(counts)}")
    assert counts["strangers refused"] == STRANGERS
    assert counts["astray heard"] + counts["astray refused"] == ASTRAY
    assert min(counts["astray heard"], counts["astray refused"]) > ASTRAY // 10
    assert counts["packets refused"] + counts["views"] + counts["values"] == METADATA
    assert min(counts["packets refused"], counts["views"], counts["values"]) > METADATA // 50
    assert counts["rows freed"] > 0


def test_a_seed_gives_the_same_messages_and_the_same_answers_again():
    # A violation that cannot be seen again cannot be mended.
    found = []
    for seed in (5, 5, 6):
        made = Victim(1)
        found.append(storm(made, seed, 500, 500, 500))
        made.close()
    assert found[0] == found[1] != found[2]


def free_whatever(outlet: Outlet, edge: OutEdge, taken_upto: int, completions: list[messages.Completion]) -> None:
    """As if a receipt's sequence were not held against the row that it names."""
    for _, entry, outcome in completions:
        sequence = outlet.writer.sequence_at(entry)
        if edge.credit.on_completed(sequence, outcome):
            outlet._finish(entry, sequence, edge.bit, outcome)


BROKEN: dict[str, tuple[str, tuple[Any, str, Any]]] = {
    "the checksum is not looked at": ("heard a stranger|let in", (messages, "unsealed", lambda raw, key: raw[:-4])),
    "how far an array reaches is not looked at": ("a view from", (ring, "extent", lambda shape, strides, itemsize: (0, 0))),
    "the table is not asked": ("let in", (Inlet, "_check_rows", lambda inlet, records: None)),
    "a row never used vouches for its number": ("let in", (inlet, "SEQUENCE_MAX", 2**64)),
    "a receipt frees whatever is in the row": ("were freed by", (Outlet, "on_receipt", free_whatever)),
    "a new incarnation is believed before its message is": ("became", (Inlet, "check_restarted", lambda inlet, raw, header: None)),
}


@pytest.mark.source
@pytest.mark.parametrize(("violation", "change"), BROKEN.values(), ids=BROKEN.keys())
def test_the_looks_find_what_is_broken(victim, monkeypatch, violation, change):
    # A test that never objects proves nothing.
    monkeypatch.setattr(*change)
    with pytest.raises(Violation, match=violation):
        storm(victim, 3, 3000, 20_000, 3000)
