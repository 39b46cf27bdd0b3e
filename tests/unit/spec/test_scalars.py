"""What plain scalars and sizes mean."""

from __future__ import annotations

import pytest

from streamcore.spec.scalars import core_scalar, numbers_text, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("18446744073709551615", 2**64 - 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
    ],
)
def test_numbers_booleans_and_null_follow_yaml_1_2(text, value):
    found = core_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["yes", "NO", "on", "Off", "y", "12:30", "2026-11-23", "1_000", "0b11", "nUll", "tRUE", "=", "<<", "1.2.3", "- 1", "e3", "."]
)
def test_what_yaml_1_1_would_change_stays_text(text):
    # A camera in Norway, a time of day and a version number are text.
    assert core_scalar(text) == text


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "18446744073709551616", "-9223372036854775809", "9" * 100_000])
def test_numbers_that_json_cannot_carry_are_refused(text):
    with pytest.raises(ValueError, match="in quotes"):
        core_scalar(text)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("2GiB", 2**31), ("512MiB", 2**29), ("1.5GiB", 3 * 2**29), ("64 KiB", 65536), ("100B", 100), ("0.1KiB", 102), ("1TiB", 2**40)],
)
def test_a_size_is_a_number_with_a_binary_unit(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["2GB", "5", "MiB", "-1MiB", "1e3MiB", "1 MiB ", "1,5GiB", "1mib", "1.MiB", "9" * 19 + "B", "\u0661MiB"])
def test_anything_else_is_no_size(text):
    assert parse_size(text) is None


@pytest.mark.parametrize(("nbytes", "text"), [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (3 * 2**29, "1.5GiB"), (2**40, "1TiB")])
def test_a_size_is_written_in_its_largest_unit(nbytes, text):
    assert size_text(nbytes) == text


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([3], "3"), ({0, 1}, "0-1"), ([6, 0, 2, 1, 3, 8, 9], "0-3,6,8-9")])
def test_cpu_numbers_are_shown_as_a_spec_lists_them(numbers, text):
    assert numbers_text(numbers) == text
