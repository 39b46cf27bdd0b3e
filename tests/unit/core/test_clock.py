"""Clocks: the machine's, one that moves only when told, and how a time stamp reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.clock import Clock, ManualClock, iso_utc, parse_moment, parse_time


def test_the_manual_clock_moves_only_when_told():
    clock = ManualClock(5)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (5, 5)
    clock.advance(1.5)
    clock.sleep(0.25)
    assert clock.monotonic_ns() == 5 + 1_750_000_000


def test_the_machines_clock_never_runs_backwards():
    clock = Clock()
    readings = [clock.monotonic_ns() for _ in range(1000)]
    assert readings == sorted(readings)


def test_a_time_stamp_is_iso_8601_in_utc_with_microseconds():
    assert iso_utc(1_795_417_200_123_456_789) == "2026-11-23T07:00:00.123456Z"
    assert iso_utc(0) == "1970-01-01T00:00:00.000000Z"


@given(st.integers(0, 4_000_000_000 * 10**6))
def test_a_time_stamp_loses_no_microsecond(micros):
    # A float of seconds has just enough digits for this until the year 2100; a coarser path would show here.
    stamp = iso_utc(micros * 1000)
    assert int(stamp[-7:-1]) == micros % 10**6


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2026-11-25T14:00:00.123456Z", "2026-11-25T14:00:00.123456Z"),
        ("2026-11-25 14:00Z", "2026-11-25T14:00:00.000000Z"),
        ("2026-11-25T14:00:00+01:00", "2026-11-25T13:00:00.000000Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000Z"),
        ("0s", "1970-01-01T00:00:00.000000Z"),
        ("1h30m", "1970-01-01T01:30:00.000000Z"),
        ("+1.5m", "1970-01-01T00:01:30.000000Z"),
        ("-10m", "1970-01-01T23:50:00.000000Z"),
    ],
)
def test_a_moment_is_a_time_or_a_distance_from_the_beginning_or_the_end(text, stamp):
    assert iso_utc(parse_moment(text, 0, 86400 * 10**9, 0)) == stamp


@given(st.integers(0, 4_000_000_000 * 10**6))
def test_a_time_stamp_is_read_back_to_the_microsecond(micros):
    assert parse_time(iso_utc(micros * 1000), 0) == micros * 1000


@pytest.mark.parametrize("text", ["", "10", "-", "noon", "2026-13-01", "2026-11-25T25:00", "--10m"])
def test_what_is_no_moment_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="expected e.g. 2026-11-25"):
        parse_moment(text, 0, 0, 0)
