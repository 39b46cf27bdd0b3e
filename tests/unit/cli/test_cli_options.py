"""Durations and KEY=VALUE as people type them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from streamcore.cli.options import duration, key_values, parse_duration, wants_debug


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h30m", 5400),
        ("1.5m", 90),
        ("1 h 30 m", 5400),
        ("1D", 86400),
        ("0s", 0),
        ("1m500ms", 60.5),
        ("5min", 300),
        ("20 minutes", 1200),
        ("90 sec", 90),
        ("1 second", 1),
        ("250 milliseconds", 0.25),
        ("3msec", 0.003),
        ("2 hours 5 mins", 7500),
        ("1hr", 3600),
        ("1 day", 86400),
        ("2 weeks", 1209600),
    ],
)
def test_a_duration_reads_as_people_write_it(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10x", "-5s", "1h30", "ten seconds", "1..5s", "10s!", "1e3s", "5 months", "1y", "3mi"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"expected e\.g\. 500ms, 10s"):
        parse_duration(text)


def test_a_bare_number_is_refused_and_the_likely_meaning_offered():
    # Taking it for seconds, or for milliseconds, would silently be wrong for half of the people.
    with pytest.raises(ValueError, match="did you mean '10s'"):
        parse_duration("10")


@click.command()
@click.option("--set", "sets", multiple=True, callback=key_values)
@click.option("--for", "for_s", callback=duration)
def probe(sets: dict[str, str], for_s: float | None) -> None:
    click.echo(repr(sets) if for_s is None else repr(for_s))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("video=a.mp4", {"video": "a.mp4"}),
        ("url=http://h/?a=b", {"url": "http://h/?a=b"}),
        ("empty=", {"empty": ""}),
        (" k = v ", {"k": " v "}),
    ],
)
def test_a_value_may_hold_anything(given, expected):
    assert CliRunner().invoke(probe, ["--set", given]).output.strip() == repr(expected)


@pytest.mark.parametrize("given", ["video", "=a.mp4", " =x"])
def test_a_set_without_a_key_is_a_usage_error(given):
    result = CliRunner().invoke(probe, ["--set", given])
    assert (result.exit_code, "is not KEY=VALUE" in result.output) == (2, True)


def test_a_key_given_twice_is_refused_because_one_value_would_be_lost():
    result = CliRunner().invoke(probe, ["--set", "a=1", "--set", "a=2"])
    assert result.exit_code == 2
    assert "'a' is given twice" in result.output


def test_debug_is_found_wherever_it_stands_but_not_behind_a_double_dash():
    assert wants_debug(["up", "x.yaml", "--debug"])
    assert not wants_debug(["up", "--", "--debug"])


def test_a_duration_option_gives_seconds_and_names_itself_when_it_is_wrong():
    assert CliRunner().invoke(probe, ["--for", "1m30s"]).output.strip() == "90.0"
    wrong = CliRunner().invoke(probe, ["--for", "90"])
    assert (wrong.exit_code, "--for" in wrong.output, "did you mean '90s'" in wrong.output) == (2, True, True)
