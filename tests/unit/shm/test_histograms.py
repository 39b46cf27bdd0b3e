"""Durations as counts: how far a quantile may be off, what a successor and a reader find, what nonsense does."""

from __future__ import annotations

import random

import pytest

from streamcore.shm import distribution
from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.histogram import BLOCK_WORDS, BUCKETS, COUNTS, HIGH, LOW, SUM, bucket_of, lower_ns, note
from streamcore.shm.status import END_TO_END, WORK, StatusReader, StatusWriter

ERROR = 0.033  # half of the widest bucket, which is a sixteenth of its lower end


@pytest.fixture
def words():
    return memoryview(bytearray(8 * (BLOCK_WORDS + 4))).cast("Q")


def noted(words: memoryview, durations: list[int]) -> Distribution:
    for ns in durations:
        note(words, 2, ns)
    return distribution.read(words, 2)


def test_buckets_lie_side_by_side_and_each_holds_its_own():
    for bucket in range(BUCKETS):
        assert bucket_of(lower_ns(bucket)) == bucket
        assert bucket_of(lower_ns(bucket + 1) - 1) == bucket
    assert bucket_of(1 << 62) == BUCKETS - 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_off_by_three_percent_at_most(words, seed, share):
    rng = random.Random(seed)
    durations = sorted(round(rng.lognormvariate(14, 2.5)) + 1100 for _ in range(2000))
    found = noted(words, durations)
    right = durations[max(0, -(-len(durations) * share // 1).__int__() - 1)]
    assert found.count == 2000 and found.sum_ns == sum(durations)
    assert found.quantile_ns(share) == pytest.approx(right, rel=ERROR)


def test_nothing_noted_is_nothing_read(words):
    assert noted(words, []) == NOTHING and NOTHING.quantile_ns(0.5) is None and NOTHING.mean_ns == 0


def test_a_duration_of_another_boot_is_left_out(words):
    assert noted(words, [-5]) == NOTHING


def test_a_successor_counts_on_and_a_difference_tells_what_is_new(words):
    first = noted(words, [2_000, 3_000_000])
    both = noted(words, [2_000, 50])
    assert both.count == 4 and both.since(first) == Distribution(2_050, ((0, 1), (bucket_of(2_000), 1)))
    assert first + both.since(first) == both


def test_a_duration_is_read_at_once(words):
    note(words, 2, 5_000)
    assert distribution.read(words, 2) == Distribution(5_000, ((bucket_of(5_000), 1),))


@pytest.mark.parametrize(
    ("durations", "used"), [([5_000], (37, 37)), ([5_000, 0], (1, 37)), ([0, 5_000, 70], (1, 37)), ([1 << 62, 5_000], (37, BUCKETS))]
)
def test_the_buckets_in_use_are_known(words, durations, used):
    noted(words, durations)
    assert bucket_of(5_000) == 36 and (words[2 + LOW], words[2 + HIGH]) == used


def test_counts_and_sums_that_are_full_begin_again(words):
    words[2 + COUNTS] = words[2 + SUM] = 2**64 - 1
    noted(words, [7, 7])
    assert (words[2 + COUNTS], words[2 + SUM]) == (1, 13)


def test_its_neighbours_are_left_alone(words):
    words[1] = words[2 + BLOCK_WORDS] = 77
    noted(words, [0, 1 << 62])
    assert words[1] == words[2 + BLOCK_WORDS] == 77


@pytest.mark.parametrize(("low", "high"), [(0, 5), (5, 2), (1, BUCKETS + 1), (2**64 - 1, 2**64 - 1)])
def test_a_torn_block_gives_no_error(words, low, high):
    words[LOW], words[HIGH], words[SUM], words[COUNTS] = low, high, 5, 1
    assert distribution.read(words, 0) == NOTHING


def test_each_histogram_of_a_page_has_its_own_place(make_segment):
    from streamcore.shm.status import format_status, status_bytes

    rows = [(7, 4), (9, 0), (3, 2)]
    fd = make_segment(status_bytes(rows))
    format_status(fd, rows)
    writer, reader = StatusWriter(fd), StatusReader(fd)
    for number, at in enumerate([writer.histogram(WORK), writer.histogram(END_TO_END), writer.waits(7), writer.waits(3)], 1):
        for _ in range(number):
            note(writer.words, at, number * 1_000_000)
    writer.marks(7)[0] = 11
    page = reader.read(distributions=True)
    found = [page.work, page.end_to_end, page.waits[7], page.waits[3]]
    assert [(each.count, each.sum_ns) for each in found] == [(n, n * n * 1_000_000) for n in (1, 2, 3, 4)]
    assert page.waits[9] == NOTHING and reader.read().work == NOTHING
    assert reader.marks(7) == [11, 0, 0, 0] and reader.marks(3) == [0, 0]
    with pytest.raises(KeyError):
        writer.waits(8)
