"""Points in time, sizes and sequences as people write them."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import click
import pytest

from streamcore.cli import times
from streamcore.clock import parse_time

NOW = datetime(2026, 11, 25, 14, 30, 5, 250000, tzinfo=timezone.utc)  # 15:30:05 in Berlin
NOW_NS = int(NOW.timestamp()) * 10**9 + 250_000_000


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-25", "2026-11-24T23:00:00"),
        ("2026-11-25T14:00", "2026-11-25T13:00:00"),
        ("2026-11-25 14:00:05", "2026-11-25T13:00:05"),
        ("2026-11-25 14:00:05.25", "2026-11-25T13:00:05.250000"),
        ("2026-11-25T14:00Z", "2026-11-25T14:00:00"),
        ("2026-11-25T14:00:05.5z", "2026-11-25T14:00:05.500000"),
        ("2026-11-25T14:00+05:30", "2026-11-25T08:30:00"),
        ("2026-11-25T14:00:00-0800", "2026-11-25T22:00:00"),
        ("2026-07-01T12:00", "2026-07-01T10:00:00"),  # in summer the box is two hours ahead
        ("14:00", "2026-11-25T13:00:00"),
        ("9:05", "2026-11-25T08:05:00"),
        ("today", "2026-11-24T23:00:00"),
        ("Today 14:00", "2026-11-25T13:00:00"),
        ("yesterday", "2026-11-23T23:00:00"),
        ("  yesterday   14:00:30 ", "2026-11-24T13:00:30"),
        ("now", "2026-11-25T14:30:05.250000"),
        ("-10m", "2026-11-25T14:20:05.250000"),
        ("1h30m ago", "2026-11-25T13:00:05.250000"),
        ("2d ago", "2026-11-23T14:30:05.250000"),
    ],
)
def test_a_time_is_what_a_person_means(text, utc):
    found = parse_time(text, NOW_NS)
    assert datetime.fromtimestamp(found // 1000 / 1e6, tz=timezone.utc).replace(tzinfo=None).isoformat() == utc


@pytest.mark.parametrize(
    "text",
    ["", "10m", "-10", "-", "ago", "2026-13-01", "2026-11-31", "25:00", "14:61", "14:00:99", "tomorrow", "2026-11-25 x", "12", "today x"],
)
def test_what_is_no_time_is_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match="is not a time; expected e.g. 2026-11-25"):
        parse_time(text, NOW_NS)


@pytest.mark.parametrize(
    ("words", "found"),
    [(("17",), ((17, 17),)), (("17-99", "3"), ((17, 99), (3, 3))), (("17-",), ((17, times.LAST),)), (("-99",), ((1, 99),)), ((), ())],
)
def test_sequences_are_spans_with_both_ends(words, found):
    assert times.spans(None, None, words) == found


@pytest.mark.parametrize("word", ["", "-", "x", "9-3", "0", "1-2-3", "1.5"])
def test_what_is_no_sequence_is_refused(word):
    with pytest.raises(click.BadParameter, match="expected e.g. 17, 17-99"):
        times.spans(None, None, (word,))


def test_sizes_have_units():
    assert [times.byte_size(None, None, text) for text in ("200MiB", "1.5 KiB", None)] == [200 << 20, 1536, None]
    with pytest.raises(click.BadParameter, match="'200' is not a size; expected e.g. 512KiB"):
        times.byte_size(None, None, "200")
