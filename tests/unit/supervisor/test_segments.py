"""The shared memory of a run: who gets which descriptor, and that all of it is given back."""

import gc
import os
import resource

import pytest
from fake_runs import ORDERLY, chain

from streamcore import limits
from streamcore.errors import RunError
from streamcore.packet import SlotRef
from streamcore.shm.ring import NO_REF, RingWriter, attach_ring
from streamcore.shm.status import StatusWriter
from streamcore.supervisor import segments as module
from streamcore.supervisor.segments import Segments
from streamcore.telemetry.snapshot import Left
from streamcore.wire.messages import AWAY, FAILED, MARK_BITS, OK

RUN_ID = "0123456789abcdef"


@pytest.fixture
def segments():
    made = Segments(chain(ORDERLY, ORDERLY, ORDERLY), RUN_ID)
    yield made
    made.close()


def test_a_node_may_write_its_own_rings_and_only_read_the_others(segments):
    _, b, _ = chain(ORDERLY, ORDERLY, ORDERLY).nodes
    rings = segments.rings_of(b)
    assert set(rings) == {0, 1}
    os.pwrite(rings[1], b"x", 5000)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(rings[0], b"x", 5000)


def test_status_pages_can_be_read_before_any_node_has_written(segments):
    assert {node: reader.read().consumed for node, reader in segments.readers.items()} == {"a": 0, "b": 0, "c": 0}


def test_memory_that_was_touched_is_counted_per_port(segments):
    before = segments.allocated()
    a, *_ = chain(ORDERLY, ORDERLY, ORDERLY).nodes
    os.pwrite(segments.rings_of(a)[0], b"x", 2 * limits.PAGE_BYTES + 1024)
    after = segments.allocated()
    assert after["a.out"] - before["a.out"] == limits.PAGE_BYTES
    assert after["b.out"] == before["b.out"]


def marked(segments, *outcomes):
    """(plan, writer of a's ring, page of b, four rows of a's ring), the first of them marked by b with these outcomes."""
    plan = chain(ORDERLY, ORDERLY, ORDERLY)
    a, b, _ = plan.nodes
    writer = RingWriter(attach_ring(segments.rings_of(a)[0], plan.rings[0], RUN_ID, writable=True), plan.rings[0])
    page = StatusWriter(segments.status_of(b))
    rows = [writer.commit(b"meta", 1, NO_REF) for _ in range(4)]
    for (entry, sequence), outcome in zip(rows, outcomes, strict=False):
        page.marks(0)[entry] = (sequence + 1 << MARK_BITS) + outcome
    return plan, writer, page, rows


def test_what_a_dead_node_has_left_is_judged_by_the_marks_of_its_consumers(segments):
    plan, writer, page, rows = marked(segments, OK, FAILED)
    a = plan.nodes[0]
    entry, sequence = rows[2]
    page.marks(0)[entry] = 4 * sequence  # of the packet that had this row before
    assert segments.left_by(a) == {0: Left(under_way=2, completed=1, failed=1)}
    writer.complete(*rows[3], 1)
    assert segments.left_by(a) == {0: Left(under_way=1, completed=1, failed=1)}


def test_what_an_ended_consumer_has_not_completed_well_is_known_while_its_producer_waits_for_it(segments):
    plan, writer, page, rows = marked(segments, OK, FAILED, AWAY, FAILED)
    assert segments.not_well(plan.edges[0]) == {FAILED: [rows[1][1], rows[3][1]], AWAY: [rows[2][1]]}
    page.marks(0)[rows[2][0]] += 4  # no outcome at all
    assert segments.not_well(plan.edges[0]) == {FAILED: [rows[1][1], rows[3][1]]}
    page.marks(0)[rows[2][0]] -= 4
    writer.complete(*rows[3], 1)  # its receipt has come
    assert segments.not_well(plan.edges[0]) == {FAILED: [rows[1][1]], AWAY: [rows[2][1]]}


def test_slots_that_a_lost_node_still_shows_are_known_to_the_next_process_of_their_owner(segments):
    # Its predecessor had put them aside, but only in its own memory; written again, a frame would be torn under those behind the lost one.
    plan = chain(ORDERLY, ORDERLY, ORDERLY)
    a, b, c = plan.nodes
    writer = RingWriter(attach_ring(segments.rings_of(b)[1], plan.rings[1], RUN_ID, writable=True), plan.rings[1])
    refs = [SlotRef(ring, slot, 0, 1, "uint8", (1,), ()) for ring, slot in ((0, 2), (0, 1), (0, 3), (1, 0))]
    rows = [writer.commit(b"meta", 1, ref) for ref in refs]
    writer.complete(*rows[2], 1)
    assert segments.lost_slots(a, [b]) == {0: (1, 2)}
    assert segments.lost_slots(a, []) == {} == segments.lost_slots(c, [b])
    owner = RingWriter(attach_ring(segments.rings_of(a)[0], plan.rings[0], RUN_ID, writable=True), plan.rings[0])
    owner.set_aside((1, 2))
    assert [owner.claim_slot() for _ in range(owner.free_slots)] == [0, 3]


def test_closing_gives_back_every_descriptor():
    before = os.listdir("/proc/self/fd")
    Segments(chain(ORDERLY, ORDERLY, ORDERLY), RUN_ID).close()
    assert os.listdir("/proc/self/fd") == before


def test_too_few_descriptors_are_found_out_before_anything_is_made(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(module, "descriptors", lambda plan: hard + 16)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RunError, match=rf"open files: this graph needs {hard + 16}, found a limit of {hard} \(ulimit -Hn\)"):
        Segments(chain(ORDERLY, ORDERLY, ORDERLY), RUN_ID)
    assert os.listdir("/proc/self/fd") == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_a_low_soft_limit_is_raised():
    gc.collect()  # of the tests before this one, nodes in cycles keep descriptors
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (70, hard))
    try:
        Segments(chain(ORDERLY, ORDERLY, ORDERLY), RUN_ID).close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 80
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
