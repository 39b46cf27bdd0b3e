"""The one writer of a ring: which row and slot it takes, and what sets them free again."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from streamcore import limits
from streamcore.packet import SlotRef
from streamcore.shm import segment
from streamcore.shm.layout import COMMITTED, ENTRY, ENTRY_BYTES, FREE, HEADER_BYTES, NO_EDGE
from streamcore.shm.ring import NO_REF, RingWriter, attach_ring, geometry

RUN_ID = "0123456789abcdef" * 2
FIRST, SECOND = 1, 2  # bits of two edges
FIELDS = ("sequence", "state", "pending", "ring", "slot", "offset", "nbytes")
FIELDS += ("parent_edge", "parent_entry", "parent_sequence", "meta_len", "flags")
STALE = [(0, 0, FIRST), (-1, 1, FIRST), (4, 1, FIRST), (2**31, 1, FIRST), (0, -1, FIRST)]
STALE += [(None, 2, FIRST), (None, 0, FIRST), (None, 1, 4), (None, 1, 0)]  # None: the very row of the packet that is under way


def row(writer: RingWriter, entry: int) -> dict[str, int]:
    """One row of the entry table as anybody who maps the ring reads it."""
    return dict(zip(FIELDS, ENTRY.unpack_from(writer.memory, HEADER_BYTES + entry * ENTRY_BYTES), strict=True))


def ref_to(writer: RingWriter, slot: int, nbytes: int = 10) -> SlotRef:
    return SlotRef(writer.shape.id, slot, 0, nbytes, "", (nbytes,), ())


def commit_copy(writer: RingWriter, content: bytes, pending: int = FIRST) -> tuple[int, int, int]:
    """What a copied payload does: claim, write, commit, let go. Gives (slot, entry, sequence)."""
    slot = writer.claim_slot()
    writer.slot_view(slot, len(content))[:] = content
    entry, sequence = writer.commit(b"m", pending, ref_to(writer, slot, len(content)))
    writer.release_slot(slot)
    return slot, entry, sequence


def test_a_committed_entry_says_everything_of_its_packet(writer):
    ref = SlotRef(9, 2, 100, 50, "uint8", (50,), ())
    entry, sequence = writer.commit(b"metadata", FIRST | SECOND, ref, parent=(5, 6, 7), flags=1)
    assert row(writer, entry) == {
        "sequence": sequence, "state": COMMITTED, "pending": FIRST | SECOND, "ring": 9, "slot": 2, "offset": 100, "nbytes": 50,
        "parent_edge": 5, "parent_entry": 6, "parent_sequence": 7, "meta_len": 8, "flags": 1,
    }  # fmt: skip
    start = geometry(writer.shape).meta_offset + entry * geometry(writer.shape).meta_bytes
    assert writer.memory[start : start + 8] == b"metadata"


def test_an_entry_without_a_parent_says_so(writer):
    entry, _ = writer.commit(b"", FIRST, NO_REF)
    assert row(writer, entry)["parent_edge"] == NO_EDGE


def test_sequences_count_every_commit_whatever_row_it_takes(writer):
    sequences = []
    for _ in range(10):
        entry, sequence = writer.commit(b"", FIRST, NO_REF)
        writer.complete(entry, sequence, FIRST)
        sequences.append(sequence)
    assert sequences == list(range(10))
    assert writer.next_sequence == 10


def test_rows_and_slots_are_reused_last_in_first_out(writer):
    # Warm caches and few touched pages: a stream that keeps up lives in one slot and one row.
    places = set()
    for _ in range(100):
        slot, entry, sequence = commit_copy(writer, b"x")
        places.add((slot, entry))
        assert writer.complete(entry, sequence, FIRST)
    assert len(places) == 1


def test_a_row_is_free_again_when_its_last_edge_has_completed(writer, shape):
    entry, sequence = writer.commit(b"", FIRST | SECOND, NO_REF)
    assert writer.complete(entry, sequence, SECOND) is False
    assert (row(writer, entry)["state"], row(writer, entry)["pending"]) == (COMMITTED, FIRST)
    assert writer.complete(entry, sequence, FIRST) is True
    assert (row(writer, entry)["state"], row(writer, entry)["sequence"]) == (FREE, sequence)  # the sequence is kept for who looks back
    assert (writer.free_entries, writer.sequence_at(entry)) == (shape.entry_count, -1)


def test_no_row_is_given_twice(writer, shape):
    entries = [writer.commit(b"", FIRST, NO_REF)[0] for _ in range(shape.entry_count)]
    assert sorted(entries) == list(range(shape.entry_count))
    with pytest.raises(IndexError):
        writer.commit(b"", FIRST, NO_REF)


def test_no_slot_is_given_twice(writer, shape):
    slots = [writer.claim_slot() for _ in range(shape.slot_count)]
    assert sorted(slots) == list(range(shape.slot_count))
    with pytest.raises(IndexError):
        writer.claim_slot()


def test_a_slot_is_free_only_when_neither_an_entry_nor_an_array_uses_it(writer, shape):
    slot = writer.claim_slot()  # the loan
    entry, sequence = writer.commit(b"", FIRST, ref_to(writer, slot))
    again, again_sequence = writer.commit(b"", FIRST, ref_to(writer, slot))
    writer.hold_slot(slot)  # a second array of it
    writer.release_slot(slot)
    writer.complete(entry, sequence, FIRST)
    writer.complete(again, again_sequence, FIRST)
    assert writer.free_slots == shape.slot_count - 1
    writer.release_slot(slot)
    assert writer.free_slots == shape.slot_count
    assert writer.claim_slot() == slot


def test_a_slot_that_was_claimed_and_never_committed_comes_back(writer, shape):
    writer.release_slot(writer.claim_slot())
    assert writer.free_slots == shape.slot_count


def test_a_reference_into_another_ring_holds_no_slot_of_this_one(writer, shape):
    entry, sequence = writer.commit(b"", FIRST, SlotRef(shape.id + 1, 0, 0, 10, "", (10,), ()))
    assert writer.free_slots == shape.slot_count
    assert writer.complete(entry, sequence, FIRST)


@pytest.mark.parametrize(("entry", "sequence", "bit"), STALE)
def test_a_stale_or_invented_completion_changes_nothing(writer, entry, sequence, bit):
    # A late receipt that freed a row would tear the packet that lives there now.
    old = commit_copy(writer, b"old")
    writer.complete(old[1], old[2], FIRST)
    _, mine, my_sequence = commit_copy(writer, b"new", FIRST | SECOND)
    assert my_sequence == 1
    before, free = row(writer, mine), (writer.free_entries, writer.free_slots)
    assert writer.complete(mine if entry is None else entry, sequence, bit) is None
    assert (row(writer, mine), (writer.free_entries, writer.free_slots)) == (before, free)


def test_a_completion_counts_once(writer):
    _, entry, sequence = commit_copy(writer, b"x", FIRST | SECOND)
    assert writer.complete(entry, sequence, FIRST) is False
    assert writer.complete(entry, sequence, FIRST) is None
    assert writer.complete(entry, sequence, SECOND) is True
    assert writer.complete(entry, sequence, SECOND) is None


def test_what_an_edge_has_not_completed_is_listed_in_order(writer):
    # Rows are reused, so the order of the table says nothing; the sequence does.
    rows = [writer.commit(b"", FIRST | SECOND, NO_REF) for _ in range(3)]
    writer.complete(*rows[0], FIRST)
    writer.complete(*rows[0], SECOND)
    rows = [*rows[1:], writer.commit(b"", FIRST, NO_REF)]
    writer.complete(*rows[0], SECOND)
    assert writer.pending_on(FIRST) == rows
    assert writer.pending_on(SECOND) == [rows[1]]
    assert writer.pending_on(4) == []


def test_the_rows_of_any_history_say_what_is_under_way(writer, shape):
    # Against a plain dict, so that no order of commits and completions can leave a row or a slot behind.
    chance, alive = random.Random(4), {}
    for _ in range(5000):
        if alive and (chance.random() < 0.5 or not writer.free_entries or not writer.free_slots):
            key = chance.choice(sorted(alive))
            bit = chance.choice([bit for bit in (FIRST, SECOND) if alive[key] & bit])
            alive[key] &= ~bit
            assert writer.complete(*key, bit) is (not alive[key])
            if not alive[key]:
                del alive[key]
        else:
            pending = chance.choice([FIRST, SECOND, FIRST | SECOND])
            _, entry, sequence = commit_copy(writer, b"x", pending)
            alive[entry, sequence] = pending
        assert writer.free_slots == shape.slot_count - len(alive)
        assert writer.free_entries == shape.entry_count - len(alive)
    table = [(entry, row(writer, entry)) for entry in range(shape.entry_count)]
    assert {(entry, found["sequence"]): found["pending"] for entry, found in table if found["state"] == COMMITTED} == alive


def test_memory_behind_a_ring_is_slots_in_use_times_frame_bytes(make_ring, shape):
    wide = shape.but(entry_count=8, meta_bytes=8192, slot_count=8, slot_bytes=32 << 20)
    fd = make_ring(wide)
    writer = RingWriter(attach_ring(fd, wide, RUN_ID, writable=True), wide)
    frame = bytes(np.random.default_rng(1).integers(1, 255, 100 * 4096, np.uint8))
    before = segment.allocated_bytes(fd)
    held = [commit_copy(writer, frame) for _ in range(3)]
    metadata = 3 * 4096  # one page per row; they come on top of the slots
    assert 3 * len(frame) <= segment.allocated_bytes(fd) - before <= 3 * len(frame) + metadata
    for _, entry, sequence in held:
        writer.complete(entry, sequence, FIRST)
    for _ in range(50):
        _, entry, sequence = commit_copy(writer, frame)
        writer.complete(entry, sequence, FIRST)
    assert segment.allocated_bytes(fd) - before <= 3 * len(frame) + metadata
    assert os.fstat(fd).st_size > 8 * (32 << 20)


def test_a_spare_slot_is_in_play_only_while_it_is_lent(writer, shape):
    # What a tap holds must be taken from no edge, and without a tap nothing may change.
    for number in range(limits.TAPS_PER_PORT_MAX):
        assert writer.lend()
        assert writer.free_slots == shape.slot_count + number + 1
    assert not writer.lend()
    slots = [writer.claim_slot() for _ in range(shape.slot_count + limits.TAPS_PER_PORT_MAX)]
    assert slots[: shape.slot_count] == list(range(shape.slot_count))  # the spare ones last: their pages may never be touched
    for slot in slots:
        writer.release_slot(slot)
    for _ in range(limits.TAPS_PER_PORT_MAX):
        writer.take_back()
    assert writer.free_slots == shape.slot_count
    assert writer.lend()


def test_a_successor_has_as_many_slots_in_play_as_the_plan_says_wherever_its_predecessor_left_packets(make_ring, shape):
    fd = make_ring(shape)
    before = RingWriter(attach_ring(fd, shape, RUN_ID, writable=True), shape)
    assert before.lend()
    rows = []
    for _ in range(shape.slot_count + 1):
        slot = before.claim_slot()
        rows.append(before.commit(b"", FIRST, ref_to(before, slot)))
        before.release_slot(slot)
    assert before.complete(*rows[0], FIRST)  # what is left lies in the spare slot, too
    after = RingWriter(attach_ring(fd, shape, RUN_ID, writable=True), shape)
    assert after.free_slots == 0
    for row in rows[1:]:
        assert after.complete(*row, FIRST)
    assert after.free_slots == shape.slot_count
