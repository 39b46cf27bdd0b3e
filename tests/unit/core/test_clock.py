"""Clocks: the machine's, one that moves only when told, and how a time stamp reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamcore.clock import Clock, ManualClock, iso_utc


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
