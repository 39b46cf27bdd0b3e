"""Axes: few round numbers that reach above what is drawn, in the unit in which they are short."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.drawing.scale import BYTES, NS, RATE, SECONDS, SHARE, amount, short, ticks, unit_of


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 0.25, 0.5, 0.75, 1]),
        (60, [0, 20, 40, 60]),
        (61, [0, 20, 40, 60, 80]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (9.2, [0, 2.5, 5, 7.5, 10]),
    ],
)
def test_ticks_are_round(largest, expected):
    assert ticks(largest) == expected


@given(st.floats(1e-9, 1e15), st.integers(2, 6))
def test_ticks_are_few_and_reach_above_the_largest(largest, most):
    found = ticks(largest, most)
    assert 2 <= len(found) <= most + 1
    assert found[0] == 0
    assert found[-1] >= largest * (1 - 1e-6)
    assert found[-2] < largest


@pytest.mark.parametrize("largest", [math.nan, math.inf, -1.0])
def test_what_is_no_size_has_an_axis_all_the_same(largest):
    assert ticks(largest) == [0, 1]


@pytest.mark.parametrize(
    ("what", "value", "expected"),
    [
        (NS, 32_800_000, "32.8 ms"),
        (NS, 999, "999 ns"),
        (NS, 0, "0 ns"),
        (BYTES, 30 * 2**20, "30 MiB"),
        (SHARE, 0.978, "97.8 %"),
        (RATE, 1_204, "1.2 thousand/s"),
        (NS, None, "\N{EN DASH}"),
    ],
)
def test_an_amount_has_the_unit_in_which_it_is_short(what, value, expected):
    assert amount(what, value) == expected


def test_a_run_of_90_seconds_is_drawn_in_seconds():
    assert [unit_of(SECONDS, seconds).name for seconds in (0.3, 90, 120, 7199, 7200, 200_000)] == ["s", "s", "min", "min", "h", "d"]


def test_short_numbers_have_three_digits():
    assert [short(value) for value in (0, 0.4123, 11.64, 99.96, 1330.4)] == ["0", "0.412", "11.6", "100", "1,330"]
