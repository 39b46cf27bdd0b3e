"""The course of a run in a bounded number of points: what is joined stays exact, whatever the length of the run."""

import random

import pytest

from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.histogram import bucket_of
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot
from streamcore.telemetry.timeline import FAILED, MARKS_MAX, POINTS_MAX, RESTART, Timeline

S = 10**9
MS = 10**6
BEGAN = 5_000 * S  # monotonic time does not begin at zero


def of(durations_ns):
    counts = {}
    for ns in durations_ns:
        counts[bucket_of(ns)] = counts.get(bucket_of(ns), 0) + 1
    return Distribution(sum(durations_ns), tuple(sorted(counts.items())))


def at(consumed, *, work=NOTHING, work_ns=0, rss=None, dropped=0, waiting=0):
    node = NodeRow("b", "fake.b", "node", consumed=consumed, produced=consumed, work_ns=work_ns, work=work, end_to_end=work, rss_bytes=rss)
    edge = EdgeRow("a.out->b.in", "a", "b", "block", 2, 4, sent=consumed + dropped, dropped=dropped, waiting=waiting, wait=work)
    return Snapshot((node,), (edge,))


def noted(*snapshots, every_s=1.0):
    timeline = Timeline(BEGAN)
    for number, taken in enumerate(snapshots, 1):
        timeline.note(BEGAN + round(number * every_s * S), taken)
    return timeline


def test_a_run_of_a_minute_has_a_point_a_second():
    course = noted(*(at(30 * number) for number in range(1, 61))).as_json()
    assert course["begin_s"] == [float(second) for second in range(60)]
    assert course["end_s"] == [float(second) for second in range(1, 61)]
    assert course["nodes"]["b"]["consumed_per_s"] == [30.0] * 60


def test_each_point_says_what_came_in_its_time_alone():
    first, second = of([1 * MS] * 9), of([1 * MS] * 9 + [8 * MS] * 9)
    course = noted(at(9, work=first, work_ns=9 * MS), at(18, work=second, work_ns=81 * MS), at(18, work=second, work_ns=81 * MS)).as_json()
    node = course["nodes"]["b"]
    assert node["busy"] == [0.009, 0.072, 0.0]
    assert node["work_p50_ns"][:2] == [pytest.approx(MS, rel=0.04), pytest.approx(8 * MS, rel=0.04)]
    assert node["work_p50_ns"][2] is None  # nothing was measured, which is not 0
    assert course["edges"]["a.out->b.in"]["wait_p95_ns"][1] == pytest.approx(8 * MS, rel=0.04)


@pytest.mark.parametrize("rounds", [POINTS_MAX + 1, 2 * POINTS_MAX, 5_000])
def test_a_long_run_fits_and_loses_no_packet(rounds):
    course = noted(*(at(30 * number, dropped=number) for number in range(1, rounds + 1))).as_json()
    begin_s, end_s = course["begin_s"], course["end_s"]
    assert POINTS_MAX // 2 <= len(begin_s) <= POINTS_MAX
    assert (begin_s[0], begin_s[1:], end_s[-1]) == (0.0, end_s[:-1], pytest.approx(rounds, abs=2 * rounds / POINTS_MAX))
    spans_s = [end - begin for begin, end in zip(begin_s, end_s, strict=True)]
    assert max(spans_s) <= 4 * min(spans_s)  # no part of the run is drawn much coarser than another
    assert course["nodes"]["b"]["consumed_per_s"] == [30.0] * len(begin_s)
    assert course["edges"]["a.out->b.in"]["dropped_per_s"] == [1.0] * len(begin_s)


def test_points_that_were_joined_say_what_one_point_would_have_said():
    draw = random.Random(1)
    durations = [[round(MS * 10 ** draw.uniform(-1, 2)) for _ in range(8)] for _ in range(POINTS_MAX + 60)]
    timeline, seen = Timeline(BEGAN), []
    for number, new in enumerate(durations, 1):
        seen += new
        timeline.note(BEGAN + number * S, at(len(seen), work=of(seen), work_ns=0))
    course = timeline.as_json()
    for begin_s, end_s, p50, p95 in zip(
        course["begin_s"], course["end_s"], course["nodes"]["b"]["work_p50_ns"], course["nodes"]["b"]["work_p95_ns"], strict=True
    ):
        whole = of([ns for new in durations[round(begin_s) : round(end_s)] for ns in new])
        assert (p50, p95) == (int(whole.quantile_ns(0.5)), int(whole.quantile_ns(0.95)))


def test_the_largest_of_what_was_seen_is_kept_when_points_are_joined():
    # A short rise of memory or of a queue is what somebody looks for.
    many = [at(number, rss=900 if number == 7 else 100, waiting=2 if number == 9 else 0) for number in range(1, 4 * POINTS_MAX)]
    course = noted(*many).as_json()
    assert max(course["nodes"]["b"]["rss_bytes"]) == 900
    assert max(course["edges"]["a.out->b.in"]["waiting_max"]) == 2


def test_memory_that_nobody_measured_is_null():
    assert noted(at(1), at(2, rss=5)).as_json()["nodes"]["b"]["rss_bytes"] == [None, 5]


def test_an_idle_run_with_seldom_rounds_fits_too():
    course = noted(*(at(0) for _ in range(2_000)), every_s=5.0).as_json()
    assert POINTS_MAX // 2 <= len(course["begin_s"]) <= POINTS_MAX


def test_a_run_shorter_than_a_round_has_one_point():
    timeline = Timeline(BEGAN)
    timeline.note(BEGAN + 3 * S // 10, at(9), last=True)
    course = timeline.as_json()
    assert (course["begin_s"], course["end_s"], course["nodes"]["b"]["consumed_per_s"]) == ([0.0], [0.3], [30.0])


def test_the_last_moment_is_no_point_of_its_own():
    # Ten packets in a hundredth of a second are no rate of 1,000.
    timeline = noted(at(30), at(60))
    timeline.note(BEGAN + 201 * S // 100, at(70), last=True)
    course = timeline.as_json()
    assert course["end_s"] == [1.0, 2.01]
    assert course["nodes"]["b"]["consumed_per_s"] == [30.0, pytest.approx(40 / 1.01, abs=0.001)]


def test_a_run_that_nobody_looked_at_is_empty():
    assert Timeline(BEGAN).as_json() == {"begin_s": [], "end_s": [], "nodes": {}, "edges": {}, "marks": [], "marks_left_out": 0}


def test_counters_of_a_page_that_was_damaged_give_no_negative_rate():
    course = noted(at(50, work=of([MS] * 50)), at(10, work=of([MS] * 10 + [2 * MS]))).as_json()
    assert course["nodes"]["b"]["consumed_per_s"] == [50.0, 0.0]
    assert course["nodes"]["b"]["work_p50_ns"][1] == pytest.approx(2 * MS, rel=0.04)


def test_marks_stand_at_their_time():
    timeline = noted(at(1))
    timeline.mark(BEGAN + 1_250 * MS, "b", RESTART, "killed by SIGKILL")
    assert timeline.as_json()["marks"] == [{"at_s": 1.25, "node": "b", "what": "restart", "text": "killed by SIGKILL"}]


def test_of_many_marks_the_first_and_the_latest_are_kept():
    timeline = noted(at(1))
    for number in range(MARKS_MAX + 100):
        timeline.mark(BEGAN + number * S, "b", FAILED, str(number))
    course = timeline.as_json()
    texts = [int(mark["text"]) for mark in course["marks"]]
    assert (len(texts), texts[0], texts[-1], course["marks_left_out"]) == (MARKS_MAX, 0, MARKS_MAX + 99, 100)
    assert texts == sorted(texts)
