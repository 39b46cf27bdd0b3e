"""Verdicts, sizes, ages: the arithmetic of the benchmarks."""

from __future__ import annotations

import json
from array import array

import pytest

from streamcore_bench import flows
from streamcore_bench.lives import ages
from streamcore_bench.sizes import parse_counts, parse_rates, parse_size, parse_sizes
from streamcore_bench.verdict import judge, judge_rounds, spread


def test_four_values_are_judged_by_quartiles_and_fewer_by_their_ends():
    # One outlier of a busy box must not widen a spread of five values; of three values nobody knows which is the outlier.
    assert spread([10, 11, 12, 13, 100]) == 2
    assert spread([10, 11, 100]) == 90
    assert spread([10]) == 0


@pytest.mark.parametrize(
    ("ours", "other", "better", "text"),
    [
        ([131, 131], [100, 100], "higher", "1.31x faster"),
        ([100, 100], [131, 131], "higher", "1.31x slower"),
        ([100, 100], [131, 131], "lower", "1.31x faster"),
        ([131, 131], [100, 100], "lower", "1.31x slower"),
        ([7, 7], [7, 7], "lower", "the same"),
        ([60.1, 60.1], [60, 60], "higher", "the same"),
        ([0, 0], [12, 12], "lower", "faster"),
    ],
)
def test_a_verdict_says_how_much_and_in_which_direction(ours, other, better, text):
    verdict = judge(ours, other, better)
    assert verdict.decided
    assert verdict.text == text


def test_a_difference_smaller_than_the_larger_spread_gets_no_verdict():
    verdict = judge([100, 100, 100], [80, 110, 135], "higher")
    assert (verdict.decided, verdict.text) == (False, "no verdict: spread wider than difference")
    assert verdict.ratio == pytest.approx(100 / 110)
    # A difference as large as the spread is one.
    assert judge([100, 100, 100], [140, 120, 120], "higher").decided


def test_one_value_has_no_spread_and_so_no_verdict():
    assert judge([100], [200], "higher").text == "no verdict: measured once"


def test_a_ratio_by_zero_is_none():
    assert judge([5, 5], [0, 0], "lower").ratio is None


@pytest.mark.parametrize(
    ("ours", "other", "text", "ratio"),
    [
        # The box becomes twice as fast meanwhile: the medians say nothing, the rounds all say the same.
        ([110, 165, 220, 222, 230], [100, 150, 200, 202, 209], "1.10x faster", 1.1),
        ([100, 150, 200, 202, 209], [110, 165, 220, 222, 230], "1.10x slower", 1 / 1.1),
        ([110, 150, 220, 190, 230], [100, 165, 200, 202, 209], "no verdict: spread wider than difference", 1.1),
        ([100, 200, 50], [100, 200, 50], "the same", 1.0),
        ([7], [9], "no verdict: measured once", 7 / 9),
    ],
)
def test_programs_that_took_turns_are_held_against_each_other_round_by_round(ours, other, text, ratio):
    verdict = judge_rounds(ours, other, "higher")
    assert verdict.text == text
    assert verdict.ratio == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(("ours", "other"), [([131, 130], [100, 100, 100]), ([0, 5], [9, 9]), ([5, 5], [0, 0])])
def test_where_a_round_is_missing_or_a_value_is_zero_the_medians_count(ours, other):
    assert judge_rounds(ours, other, "lower") == judge(ours, other, "lower")


@pytest.mark.parametrize(
    ("text", "name", "nbytes"),
    [
        ("64B", "64B", 64),
        ("4KiB", "4KiB", 4096),
        ("vga", "VGA", 640 * 480 * 3),
        ("1080p", "1080p", 6_220_800),
        ("4K", "4K", 3840 * 2160 * 3),
        ("100KiB", "100KiB", 102_400),
        ("2.5MiB", "2.5MiB", 2_621_440),
        ("1280x720", "1280x720", 2_764_800),
    ],
)
def test_sizes_are_read_as_people_write_them(text, name, nbytes):
    size = parse_size(text)
    assert (size.name, size.nbytes) == (name, nbytes)


@pytest.mark.parametrize("text", ["", "64", "8B", "0x0", "4 parsecs", "9999999MiB", "-1KiB"])
def test_a_wrong_size_is_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match="expected"):
        parse_sizes(text)


def test_lists_of_sizes_rates_and_counts():
    assert [size.name for size in parse_sizes("64B, 1080p")] == ["64B", "1080p"]
    assert parse_rates("flat,500") == (0.0, 500.0)
    assert parse_counts("1,3", 1, 32) == (1, 3)
    for wrong in ("fast", "-1", "inf"):
        with pytest.raises(ValueError, match="expected flat, or packets per second"):
            parse_rates(wrong)
    with pytest.raises(ValueError, match="expected whole numbers from 1 to 32"):
        parse_counts("0", 1, 32)


def test_the_age_of_frames_is_held_against_the_newest_frame_due_at_that_moment():
    period_ns = 1e9 / 60
    # Work takes 40 ms, and each frame waits for two periods beyond the moment at which it was due.
    seen = [(frame, round(frame * period_ns), round((frame + 2) * period_ns + 5e6)) for frame in range(0, 300, 3)]
    found = ages(seen)
    assert found["streamcore"]["age_p50_ms"] == pytest.approx(2 * period_ns / 1e6 + 5, abs=0.1)
    assert found["ideal"]["age_p50_ms"] == pytest.approx(5, abs=0.1)


def test_a_sinks_cpu_is_that_of_its_own_report_and_of_the_others_the_most_that_was_seen(tmp_path):
    # What a sink does after its last packet is not the transport's, and another sink would see it.
    (tmp_path / "source.begin").write_text(json.dumps({"cpu_s": {"1": 1.0, "2": 1.0, "3": 1.0}}))
    report = {"first_ns": 0, "last_ns": 10**9, "wrong": 0, "measured": 2, "lost": 0}
    for name, pid, cpu_s in (("a", 2, {"1": 1.5, "2": 1.2, "3": 1.1}), ("b", 3, {"1": 1.6, "2": 1.9, "3": 1.3})):
        end = {"pid": pid, "cpu_s": cpu_s, "uss_mib": 5.0, "threads": 2, "report": report}
        (tmp_path / f"{name}.end").write_text(json.dumps(end))
        (tmp_path / f"{name}.latencies").write_bytes(array("q", [1000, 2000]).tobytes())
    found = flows.result(tmp_path, flows.Flow(64, receivers=2))
    assert found["cpu_s"] == pytest.approx(0.6 + 0.2 + 0.3)
