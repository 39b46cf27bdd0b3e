"""Entries of logs: what belongs together, what is selected, in which order."""

from __future__ import annotations

import re

import pytest

from streamcore.cli import entries, log_files
from streamcore.cli.entries import Gatherer, Selection, history
from streamcore.cli.follow import LogLine
from streamcore.clock import parse_time

DAY = "2026-11-23T07:00:0"
TRACEBACK = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()", "ValueError: no"]


@pytest.fixture
def write(tmp_path):
    def append(node: str, *lines: str) -> None:
        with open(tmp_path / f"{node}.log", "a") as log:
            log.write("".join(line + "\n" for line in lines))

    return append


def found(folder, nodes="a", count=None, **selected):
    ends = {node: (folder / f"{node}.log").stat().st_size for node in nodes}
    return [entry.text for entry in history(folder, ends, count, Selection(**selected))]


def at(second):
    return parse_time(f"{DAY}{second}Z", 0)


def test_a_stack_and_indented_lines_belong_to_the_entry_before_them(tmp_path, write):
    write("a", f"{DAY}1.000Z ERROR failed", *("    " + line for line in TRACEBACK), "printed", *TRACEBACK, "again", "  and so on")
    assert found(tmp_path) == [
        "\n".join(["failed", *("    " + line for line in TRACEBACK)]),
        "\n".join(["printed", *TRACEBACK]),
        "again\n  and so on",
    ]


def test_a_print_has_the_level_info_and_the_time_of_what_was_logged_before(tmp_path, write):
    write("a", "early", f"{DAY}1.000Z ERROR bad", "late")
    entries_ = list(history(tmp_path, {"a": 1000}, None, Selection()))
    assert [(entry.stamp[-8:], entry.level, entry.printed) for entry in entries_] == [
        (":01.000Z"[-8:], "INFO", True),
        (":01.000Z"[-8:], "ERROR", False),
        (":01.000Z"[-8:], "INFO", True),
    ]


def test_a_level_means_itself_and_worse_and_takes_the_stack_along(tmp_path, write):
    write(
        "a", f"{DAY}1.000Z DEBUG d", f"{DAY}1.000Z INFO i", "    more", f"{DAY}1.000Z WARNING w", f"{DAY}1.000Z ERROR e", "    stack", "p"
    )
    assert found(tmp_path, level="WARNING") == ["w", "e\n    stack"]
    assert found(tmp_path, level="INFO") == ["i\n    more", "w", "e\n    stack", "p"]


def test_a_pattern_is_sought_in_all_of_an_entry(tmp_path, write):
    write("a", f"{DAY}1.000Z ERROR failed", "    ValueError: no", f"{DAY}2.000Z INFO fine")
    assert found(tmp_path, grep=re.compile("Value.*no")) == ["failed\n    ValueError: no"]


def test_both_ends_of_a_time_are_meant(tmp_path, write):
    write("a", *(f"{DAY}{second}.000Z INFO {second}" for second in range(6)), "printed at 5")
    assert found(tmp_path, since_ns=at(2), until_ns=at(4)) == ["2", "3", "4"]
    assert found(tmp_path, since_ns=at(5)) == ["5", "printed at 5"]


def test_nodes_are_merged_by_time_and_prints_stay_with_their_line(tmp_path, write):
    write("a", f"{DAY}1.000Z INFO a1", "print of a", f"{DAY}3.000Z INFO a2")
    write("b", f"{DAY}2.000Z INFO b1")
    assert found(tmp_path, "ab") == ["a1", "print of a", "b1", "a2"]
    assert found(tmp_path, "ab", count=2) == ["b1", "a2"]
    assert found(tmp_path, "ab", count=0) == []


@pytest.mark.parametrize("count", [1, 3, 400, 2000])
def test_the_last_entries_of_a_long_log_are_those_at_its_end(tmp_path, write, monkeypatch, count):
    # Read in blocks from the end, which begin in the middle of lines and of entries.
    for module in (entries, log_files):
        monkeypatch.setattr(module, "BLOCK_BYTES", 64)
    write("a", *(line for number in range(500) for line in (f"{DAY}1.000Z INFO {number}", f"    more of {number}")))
    everything = [f"{number}\n    more of {number}" for number in range(500)]
    assert found(tmp_path, count=count) == everything[-count:]
    assert found(tmp_path, count=2, grep=re.compile("^[0-9]7\n")) == ["87\n    more of 87", "97\n    more of 97"]


def test_an_end_is_not_read_over(tmp_path, write):
    write("a", "one", "two")
    assert [entry.text for entry in history(tmp_path, {"a": 4}, 10, Selection())] == ["one"]


def test_what_may_go_on_is_kept_back():
    gatherer = Gatherer({"a": ""})
    assert list(gatherer.gather([LogLine("a", "one", "t", "INFO")])) == []
    assert [entry.text for entry in gatherer.gather([LogLine("a", "  more"), LogLine("a", "two")])] == ["one\n  more"]
    assert gatherer.unfinished == {"a"}
    assert [entry.text for entry in gatherer.end(["a"])] == ["two"]
    assert gatherer.unfinished == set()


def test_a_node_that_prints_indented_lines_for_ever_fills_no_memory(tmp_path, write):
    write("a", *(["  x"] * 5000))
    assert max(text.count("\n") for text in found(tmp_path)) == entries.ENTRY_LINES_MAX


def test_what_looks_like_a_secret_is_not_shown_and_not_found(tmp_path, write):
    # ffmpeg names the address of its camera; what a child process writes is not masked in the file.
    write("a", "Error opening rtsp://admin:hunter2@10.0.0.7/live")
    assert found(tmp_path) == ["Error opening rtsp://***@10.0.0.7/live"]
    assert found(tmp_path, grep=re.compile("hunter2")) == []


def test_a_gap_is_told_whatever_is_selected():
    gap = next(iter(Gatherer({"a": "t"}).gather([LogLine("a", "... 7 bytes", is_gap=True), LogLine("a", "x")])))
    assert Selection(level="CRITICAL", grep=re.compile("nothing")).takes(gap)
