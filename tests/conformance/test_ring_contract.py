"""The contract of a ring, over every implementation: plain bytes, and a memfd between two processes. And again after a SIGKILL."""

from __future__ import annotations

import pytest
from ring_pairs import PlainPair, ProcessPair
from ring_program import Shape

from streamcore import limits
from streamcore.shm.layout import COMMITTED, FREE, WRITING

FIRST, SECOND = 1, 2


@pytest.fixture(params=[PlainPair, ProcessPair], ids=["plain bytes", "two processes"])
def pair(request):
    made = request.param(Shape())
    yield made
    made.close()


def committed(pair) -> dict[int, str]:
    """Sequence to content of every committed row, read by the reader through the row's own reference."""
    rows = [row for row in pair.read_side("rows") if row["state"] == COMMITTED]
    return {row["sequence"]: pair.read_side("read", row["slot"], row["offset"], [row["nbytes"]], [], "", row["nbytes"]) for row in rows}


def test_the_reader_sees_what_was_committed_and_nothing_else(pair):
    assert committed(pair) == {}
    pair.write_side("write", "first frame", FIRST)
    pair.write_side("write", "second frame", FIRST | SECOND)
    assert committed(pair) == {0: "first frame", 1: "second frame"}
    rows = {row["sequence"]: row for row in pair.read_side("rows") if row["state"] == COMMITTED}
    assert [(rows[n]["meta"], rows[n]["pending"], rows[n]["ring"]) for n in (0, 1)] == [
        ("first frame", FIRST, pair.shape.id),
        ("second frame", FIRST | SECOND, pair.shape.id),
    ]


def test_a_completed_packet_is_no_longer_committed_and_its_place_is_used_next(pair):
    entry, sequence, slot = pair.write_side("write", "first", FIRST | SECOND)
    assert pair.write_side("complete", entry, sequence, FIRST) is False
    assert committed(pair) == {0: "first"}
    assert pair.write_side("complete", entry, sequence, SECOND) is True
    assert committed(pair) == {}
    assert pair.write_side("write", "second", FIRST) == [entry, 1, slot]


def test_a_full_ring_takes_nothing_until_something_is_completed(pair):
    written = [pair.write_side("write", f"frame {n}", FIRST) for n in range(pair.shape.slot_count)]
    assert pair.write_side("write", "one too many", FIRST) is None
    assert pair.write_side("complete", *written[1][:2], FIRST)
    assert pair.write_side("write", "now it fits", FIRST) == [written[1][0], 3, written[1][2]]
    assert committed(pair) == {0: "frame 0", 2: "frame 2", 3: "now it fits"}


@pytest.mark.parametrize(
    ("entry_off", "sequence_off", "bit"), [(0, 1, FIRST), (0, -1, FIRST), (1, 0, FIRST), (99, 0, FIRST), (0, 0, 1 << 31)]
)
def test_a_stale_or_invented_completion_changes_nothing(pair, entry_off, sequence_off, bit):
    entry, sequence, _ = pair.write_side("write", "alive", FIRST)
    before = pair.read_side("rows")
    assert pair.write_side("complete", entry + entry_off, sequence + sequence_off, bit) is None
    assert pair.read_side("rows") == before
    assert pair.write_side("free") == [pair.shape.entry_count - 1, pair.shape.slot_count - 1]


def test_a_crop_of_a_frame_is_read_in_place(pair):
    frame = "".join(chr(n) for n in range(60))  # 5 rows of 12
    _, _, slot = pair.write_side("write", frame, FIRST)
    assert pair.read_side("read", slot, 12 * 2 + 3, [2, 4], [12, 1], "uint8", 8) == frame[27:31] + frame[39:43]
    assert pair.read_side("read", slot, 59, [60], [-1], "uint8", 60) == frame[::-1]
    assert pair.read_side("read", slot, 0, [3], [24], "uint8", 3) == frame[0] + frame[24] + frame[48]


@pytest.mark.parametrize(
    "reference",
    [
        [0, 8190, [3], [], "uint8", 3],
        [0, 0, [3], [-1], "uint8", 3],
        [3 + limits.TAPS_PER_PORT_MAX, 0, [3], [], "uint8", 3],
        [0, -1, [3], [], "uint8", 3],
        [0, 0, [3], [], "O", 24],
        [0, 0, [3, 2**62], [], "uint8", 3],
    ],
    ids=str,
)
def test_a_reference_that_leaves_its_slot_is_refused(pair, reference):
    assert pair.read_side("read", *reference) == "MessageError"


def test_a_reader_in_another_process_cannot_write():
    pair = ProcessPair(Shape())
    try:
        assert pair.read_side("poke") == "refused"
    finally:
        pair.close()


def test_the_table_stays_readable_and_committed_rows_intact_when_the_writer_is_killed(pair):
    pair.write_side("write", "kept one", FIRST)
    entry, sequence, _ = pair.write_side("write", "completed", FIRST)
    pair.write_side("write", "kept two", FIRST | SECOND)
    pair.write_side("complete", entry, sequence, FIRST)
    before = pair.read_side("rows")
    pair.kill_writer()
    assert pair.read_side("rows") == before
    assert committed(pair) == {0: "kept one", 2: "kept two"}


@pytest.mark.source
def test_a_writer_killed_at_any_line_of_a_commit_leaves_a_whole_packet_or_none(pair):
    # COMMITTED is stored after everything else, so a row is either all there or known by its state as not there.
    pair.write_side("write", "before", FIRST)
    states, line = [], 1
    while pair.write_side("cut_short", line, f"cut at {line}"):
        torn = [row for row in pair.read_side("rows") if row["sequence"] == 1 and row["state"] != FREE]
        states.append(torn[0]["state"] if torn else FREE)
        for sequence, content in committed(pair).items():
            assert content == {0: "before", 1: f"cut at {line}"}[sequence]
        line += 1
        assert line < 100, "commit() has no end"
    assert states == sorted(states), "a row went back to an earlier state"
    assert set(states) >= {FREE, WRITING}, f"no kill fell between the first store and the last: {states}"
    assert committed(pair)[1] == f"cut at {line}"  # the last one was not cut


@pytest.mark.parametrize("attempt", range(3))
def test_a_writer_killed_at_full_speed_leaves_only_whole_packets(attempt):
    pair = ProcessPair(Shape())
    try:
        pair.write_side("flood")
        pair.kill_writer()
        for row in pair.read_side("rows"):
            assert row["state"] in (FREE, WRITING, COMMITTED)
            if row["state"] == COMMITTED:
                content = pair.read_side("read", row["slot"], 0, [row["nbytes"]], [], "", row["nbytes"])
                assert content == chr(row["sequence"] % 251) * 4000
                assert row["meta"] == content[:64]
    finally:
        pair.close()


def test_a_ring_is_held_by_its_two_processes_and_by_nothing_else():
    pair = ProcessPair(Shape())
    pair.write_side("write", "x", FIRST)
    assert len(pair.holders()) == 2
    pair.kill_writer()
    assert len(pair.holders()) == 1
    pair.close()
    assert pair.holders() == set()


def test_nothing_of_a_ring_lies_in_the_file_system():
    pair = ProcessPair(Shape())
    pair.write_side("write", "x", FIRST)
    pair.read_side("rows")
    writer, reader = pair.mapped_shared()
    pair.close()
    memfd = f"/memfd:streamcore:{pair.label} (deleted)"  # the kernel's word for a file that never had a name
    assert {name for name, access in writer.items() if "w" in access} == {memfd}
    assert reader[memfd] == "r--s"
