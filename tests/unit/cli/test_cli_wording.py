"""Numbers and tables as people read them."""

from __future__ import annotations

import pytest

from streamcore.cli.wording import plural, rate, size, span, table


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (33_554_432, "32.0 MiB"), (1.5 * 2**30, "1.5 GiB"), (2**41, "2.0 TiB")],
)
def test_a_size_has_a_binary_unit(nbytes, text):
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.34, "12.3 s"), (60, "1 min 00 s"), (125, "2 min 05 s"), (3720, "1 h 02 min"), (97_200, "1 d 3 h")],
)
def test_a_span_shows_the_units_that_matter(seconds, text):
    assert span(seconds) == text


def test_counts_agree_with_their_noun():
    assert [plural(1, "node"), plural(2, "node"), plural(1200, "entry", "entries")] == ["1 node", "2 nodes", "1,200 entries"]


def test_small_rates_keep_a_digit():
    assert [rate(29.97), rate(1203.7)] == ["30.0", "1,204"]


def test_a_table_is_aligned_and_has_no_trailing_spaces():
    assert table(["node", "in"], [["camera", 5], ["m", 12345]], right=[1]) == ["node       in", "camera      5", "m       12345"]


def test_a_table_without_rows_is_its_heads():
    assert table(["node", "state"], []) == ["node  state"]
