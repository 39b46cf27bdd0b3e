"""A ring's table as an onlooker reads it, from the descriptor alone, while its writer goes on."""

from __future__ import annotations

import os

import numpy as np
import pytest

from streamcore import limits
from streamcore.graph.model import RingPlan
from streamcore.packet import Meta, SlotRef, encode_meta
from streamcore.shm import segment
from streamcore.shm.entries import pending_on, read_entry, read_slot
from streamcore.shm.ring import NO_REF, RingWriter, attach_ring, format_ring, ring_bytes

RUN_ID = "5a" * 16
SHAPE = RingPlan(0, "camera.out", 4, 512, 3, 8192, ())
META = encode_meta(Meta(b"i" * 16, "frame", "camera", 1, 2, meta={"n": 1}))


@pytest.fixture
def ring():
    """(descriptor for reading only, writer)"""
    fd = segment.create("ring", ring_bytes(SHAPE))
    format_ring(fd, SHAPE, RUN_ID)
    reading = segment.reopen_readonly(fd)
    yield reading, RingWriter(attach_ring(fd, SHAPE, RUN_ID, writable=True), SHAPE)
    os.close(fd)
    os.close(reading)


def test_a_fresh_table_is_empty(ring):
    fd, _ = ring
    assert [read_entry(fd, SHAPE, entry) for entry in range(-1, 6)] == [None] * 7
    assert pending_on(fd, SHAPE, 0) == []


def test_a_committed_packet_is_seen_until_it_is_completed(ring):
    fd, writer = ring
    slot = writer.claim_slot()
    writer.slot_view(slot, 5)[:] = b"hello"
    entry, sequence = writer.commit(META, 0b11, SlotRef(0, slot, 0, 5, "", (5,), ()))
    writer.release_slot(slot)
    row = read_entry(fd, SHAPE, entry)
    assert (row.sequence, row.pending, row.meta, row.redelivered) == (sequence, 0b11, META, False)
    assert read_slot(fd, SHAPE, row.ref.slot, row.ref.offset, row.ref.nbytes) == b"hello"
    writer.mark_redelivered(entry)
    writer.complete(entry, sequence, 0b01)
    row = read_entry(fd, SHAPE, entry)
    assert (row.pending, row.redelivered) == (0b10, True)
    writer.complete(entry, sequence, 0b10)
    assert read_entry(fd, SHAPE, entry) is None


def test_what_an_edge_has_not_completed_comes_in_order(ring):
    fd, writer = ring
    rows = [writer.commit(META, pending, NO_REF) for pending in (0b01, 0b10, 0b11)]
    assert [(row.entry, row.sequence) for row in pending_on(fd, SHAPE, 0)] == [rows[0], rows[2]]
    assert [(row.entry, row.sequence) for row in pending_on(fd, SHAPE, 1)] == [rows[1], rows[2]]


@pytest.mark.parametrize(
    ("slot", "offset", "nbytes"), [(-1, 0, 1), (3 + limits.TAPS_PER_PORT_MAX, 0, 1), (0, -1, 1), (0, 8192, 1), (0, 0, 0), (0, 0, -5)]
)
def test_nothing_outside_a_slot_is_read(ring, slot, offset, nbytes):
    fd, writer = ring
    for number in range(3):
        writer.slot_view(number, 8192)[:] = np.full(8192, number + 1, np.uint8).tobytes()
    assert read_slot(fd, SHAPE, slot, offset, nbytes) == b""
    assert read_slot(fd, SHAPE, 0, 8190, 100) == b"\1\1"
