"""Rates and quantiles of the last seconds, from snapshots that thin out with age."""

from __future__ import annotations

import pytest

from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.histogram import bucket_of
from streamcore.telemetry.history import COARSE_S, FINE_S, KEPT_S, History, Quantiles, between, quantiles
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

S = 1_000_000_000
MS = 1_000_000


def durations(*ns: int) -> Distribution:
    counts: dict[int, int] = {}
    for each in ns:
        counts[bucket_of(each)] = counts.get(bucket_of(each), 0) + 1
    return Distribution(sum(ns), tuple(sorted(counts.items())))


def at(seconds: float, per_s: float = 100, work: Distribution = NOTHING) -> Snapshot:
    """A run that has done so much every second of its life."""
    count = round(seconds * per_s)
    times = {"work_ns": round(seconds * S / 4), "wait_ns": round(seconds * S / 2)}
    counts = {"sent": count, "dropped": count // 2, "bytes": 10 * count}
    node = NodeRow("a", "x", "node", consumed=count, produced=2 * count, work=work, **times)
    return Snapshot((node,), (EdgeRow("a.out->b.in", "a", "b", "latest", 1, 2, wait=work, **counts),))


def test_a_window_tells_rates_shares_and_durations_of_its_time_alone():
    window = between(at(10, work=durations(5 * MS, 5 * MS)), at(14, work=durations(5 * MS, 5 * MS, 80 * MS)), 4.0)
    node, edge = window.nodes["a"], window.edges["a.out->b.in"]
    assert (node.consumed, node.produced, node.failed) == (100, 200, 0)
    assert (node.busy, node.idle, node.blocked) == (0.25, 0.5, 0)
    assert (edge.sent, edge.dropped, edge.bytes) == (100, 50, 1000)
    assert node.work.count == edge.wait.count == 1 and node.work.p50_ns == pytest.approx(80 * MS, rel=0.033)
    assert node.end_to_end == Quantiles()


def test_quantiles_of_nothing_are_null():
    assert quantiles(Distribution()) == Quantiles(0, None, None, None, None)


def test_a_count_that_fell_is_no_negative_rate():
    assert between(at(10), at(9), 1.0).nodes["a"].consumed == 0


def test_a_node_that_is_new_began_at_nothing():
    assert between(Snapshot((), ()), at(2), 2.0).nodes["a"].consumed == 100


@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_a_window_is_that_of_the_snapshot_nearest_in_age(seconds):
    history = History()
    for second in range(200):
        history.note(second * S, at(second, per_s=10 if second < 150 else 1000))
    window = history.window(seconds, 200 * S, at(200, per_s=1000))
    assert window is not None and window.seconds == pytest.approx(seconds, abs=COARSE_S / 2)


def test_a_young_run_says_over_how_long_its_rates_are():
    history = History()
    history.note(0, at(0))
    assert history.window(60, S // 10, at(0.1)) is None
    window = history.window(60, 3 * S, at(3))
    assert window is not None and (window.seconds, window.nodes["a"].consumed) == (3.0, 100)


def test_a_week_of_snapshots_is_some_twenty():
    history = History()
    for second in range(7 * 86400 // 60):
        history.note(second * S, at(second))
    assert len(history._samples) <= FINE_S + 1 + (KEPT_S - FINE_S) / COARSE_S + 1


def test_after_a_pause_of_the_box_there_is_nothing_to_compare_with_until_the_next_one():
    history = History()
    history.note(0, at(0))
    history.note(1000 * S, at(5))
    assert history.window(10, 1000 * S, at(5)) is None
    assert history.window(10, 1001 * S, at(6)) is not None
