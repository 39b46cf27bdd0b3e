"""Reading bytes that nobody vouches for."""

from __future__ import annotations

import pytest
import yaml

from streamcore import limits
from streamcore.spec import reader
from streamcore.spec.problems import PROBLEMS_MAX, Problems
from streamcore.spec.reader import Unreadable, decode, read_file, read_tree


@pytest.fixture(params=["C", "Python"], autouse=True)
def loader(request, monkeypatch):
    """Every rule holds for both parsers: which one is there depends on how PyYAML was built."""
    monkeypatch.setattr(reader, "LOADER", yaml.CSafeLoader if request.param == "C" else yaml.SafeLoader)
    return request.param


def read(text: str):
    problems = Problems("a.yaml")
    value, place = read_tree(text, problems)
    return value, place, problems.listed()


def refused(text: str):
    problems = Problems("a.yaml")
    with pytest.raises(Unreadable):
        read_tree(text, problems)
    return problems.listed()


def test_values_come_plain_and_each_has_its_place():
    value, place, problems = read("a: 1\nb:\n  - x\n  - {c: yes, d: '5'}\n")
    assert value == {"a": 1, "b": ["x", {"c": "yes", "d": "5"}]}
    assert problems == []
    assert place.find(("a",)) == (1, 4)
    assert place.find(("b", 1, "d")) == (4, 17)
    assert place.find(("b", 1, "d"), at_key=True) == (4, 14)
    assert place.find(()) == (1, 1)


def test_the_place_of_what_is_not_written_is_that_of_what_encloses_it():
    _, place, _ = read("a: 1\nb: {c: 2}\n")
    assert place.find(("b", "missing")) == (2, 4)
    assert place.find(("b", "c", "deeper", 3), at_key=True) == (2, 8)


def test_columns_count_characters_not_bytes():
    _, place, _ = read("{ä: ö, b: 1}")
    assert place.find(("b",)) == (1, 11)


def test_keys_are_text_as_written():
    value, _, _ = read("1: a\ntrue: b\nno: c\n~: d\n'': e\n? x\n: f\n")
    assert value == {"1": "a", "true": "b", "no": "c", "~": "d", "": "e", "x": "f"}


def test_quoted_and_block_scalars_are_text():
    value, _, _ = read("a: \"1\"\nb: 'true'\nc: |\n  5\nd: >-\n  null\n")
    assert value == {"a": "1", "b": "true", "c": "5\n", "d": "null"}


def test_of_a_duplicate_key_the_first_stays_and_the_second_is_reported():
    value, _, problems = read("a: 1\nb: {c: 1}\na: {c: 2}\n")
    assert value == {"a": 1, "b": {"c": 1}}
    assert [(p.line, p.column, p.path, p.found, p.hint) for p in problems] == [(3, 1, "a", "the key 'a' again", "first on line 1")]


def test_keys_that_differ_only_as_yaml_values_are_duplicates_only_as_text():
    value, _, problems = read("1: a\n'1': b\n01: c\n")
    assert value == {"1": "a", "01": "c"}
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: !!int '5'", "the tag !!int"),
        ("a: !secret [env:X]", "the tag !secret"),
        ("a: ! x", "the tag !"),
        ("a: !<tag:example.com,2026:x> {}", "the tag tag:example.com,2026:x"),
        ("a: &x 5", "the anchor &x"),
        ("- &x [1]", "the anchor &x"),
    ],
)
def test_tags_and_anchors_are_problems_and_reading_goes_on(text, found):
    _, _, problems = read(text)
    assert [p.found for p in problems] == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: &x 5\nb: *x\n", "the alias *x"),
        ("a: &x 5\n*x : 6\n", "the alias *x"),
        ("<<: {a: 1}\n", "the merge key <<"),
        ("--- 1\n--- 2\n", "a second document"),
        ("[a]: 1\n", "a mapping or list as a key"),
        ("{{a}: 1}\n", "a mapping or list as a key"),
        ("", "an empty file"),
        ("---\n", None),
        ("a: [", None),
        ("a: 'x", None),
        ("a: b: c", None),
        ("\t- a", None),
        ("@x", None),
        ("%YAML 9.9\n--- 1", None),
        ('a: "\\UFFFFFFFF"', None),
        ('a: "\\uD800"', None),
        ("&x *x", None),
        ("*x", None),
    ],
)
def test_what_hides_the_rest_ends_the_reading(text, found):
    if text == "---\n":
        assert read(text)[0] is None
        return
    problems = refused(text)
    assert problems
    if found:
        assert found in [p.found for p in problems]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? - ", "{[", "- - [{a: "])
def test_nesting_is_stopped_before_anything_is_built_from_it(opening):
    # libyaml's composer overflows the C stack here and takes the process with it.
    problems = refused((opening * 100_000)[: limits.SPEC_BYTES_MAX])
    assert problems


def test_nesting_up_to_the_limit_is_fine():
    depth = limits.SPEC_NESTING_MAX
    value, _, problems = read("[" * depth + "]" * depth)
    assert problems == []
    for _ in range(depth - 1):
        (value,) = value
    assert value == []
    assert "deeper than" in refused("[" * (depth + 1) + "]" * (depth + 1))[0].found


def test_the_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "SPEC_EVENTS_MAX", 100)
    read("[" + "0," * 90 + "]")
    assert refused("[" + "0," * 100 + "]")[0].found == "more than 100 values"


def test_alias_bombs_end_at_once():
    bomb = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20))
    merge = "a: &a {x: 1}\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [*{chr(97 + i)}, *{chr(97 + i)}]}}\n" for i in range(20))
    refused(bomb)  # expanded, each takes hours
    refused(merge)


@pytest.mark.parametrize(
    ("raw", "line", "column", "found"),
    [
        (b"a: 1\nb: caf\xe9\n", 2, 7, "byte 0xe9"),
        (b"\xff\xfea\0:\0", 1, 1, "byte 0xff"),
        (b"a: \x00", 1, 4, "U+0000"),
        ("ä: \x1b[31m".encode(), 1, 4, "U+001B"),
        (b"a: 1\n\xed\xa0\x80", 2, 1, "byte 0xed"),
        ("a: \ufffe".encode(), 1, 4, "U+FFFE"),
    ],
)
def test_bytes_that_are_no_text_are_located(raw, line, column, found):
    problems = Problems("a.yaml")
    with pytest.raises(Unreadable):
        decode(raw, problems)
    (problem,) = problems.listed()
    assert (problem.line, problem.column) == (line, column)
    assert found in problem.found


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert decode("\ufeffa: 1".encode(), Problems("a.yaml")) == "a: 1"


def test_a_file_that_cannot_be_read_is_a_problem_not_a_traceback(tmp_path):
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (limits.SPEC_BYTES_MAX + 1))
    for path in (tmp_path / "missing.yaml", tmp_path, large, "/dev/zero", "a\0b", tmp_path / ("x" * 300)):
        problems = Problems(str(path))
        with pytest.raises(Unreadable):
            read_file(path, problems)
        (problem,) = problems.listed()
        assert (problem.line, problem.column) == (0, 0)
    exact = tmp_path / "exact.yaml"
    exact.write_bytes(b"#" * limits.SPEC_BYTES_MAX)
    assert len(read_file(exact, Problems("exact.yaml"))) == limits.SPEC_BYTES_MAX


def test_a_hostile_file_does_not_fill_the_screen():
    _, _, problems = read("x: [" + "&a b," * 500 + "]")
    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1].found == f"{500 - PROBLEMS_MAX} more problems"
