"""Following logs while they grow, and what of them is shown."""

from __future__ import annotations

import os

import pytest

from streamcore.cli import follow
from streamcore.cli.follow import Follower, LogLine, Sieve, log_end
from streamcore.supervisor import log_space

STAMP = "2026-11-23T07:00:00.123Z"


@pytest.fixture
def write(tmp_path):
    def append(node: str, text: str) -> None:
        with open(tmp_path / f"{node}.log", "a") as log:
            log.write(text)

    return append


def texts(lines):
    return [(line.node, line.text) for line in lines]


def test_a_follower_gives_each_complete_line_once(tmp_path, write):
    follower = Follower(tmp_path, ["a", "b"])
    write("a", "one\ntw")
    assert texts(follower.poll()) == [("a", "one")]
    assert follower.poll() == []
    write("a", "o\n")
    write("b", "x\n")
    assert texts(follower.poll()) == [("a", "two"), ("b", "x")]


def test_an_unfinished_line_comes_with_the_last_poll(tmp_path, write):
    # A process that was killed while it printed leaves one.
    follower = Follower(tmp_path, ["a", "b"])
    write("a", "half a li")
    assert follower.poll() == []
    assert texts(follower.poll(last=True)) == [("a", "half a li")]


def test_a_follower_from_the_end_leaves_out_what_was_there(tmp_path, write):
    write("a", "old\n")
    follower = Follower(tmp_path, ["a", "b"], from_end=True)
    write("a", "new\n")
    assert texts(follower.poll()) == [("a", "new")]


def test_a_skipped_node_is_silent_until_it_logs_again(tmp_path, write):
    follower = Follower(tmp_path, ["a", "b"])
    write("a", "old\n")
    follower.skip("a")
    follower.skip("b")
    write("a", "new\n")
    assert texts(follower.poll()) == [("a", "new")]


def test_a_flood_is_cut_and_says_so(tmp_path, write, monkeypatch):
    # The coordinator shows these lines: a node that prints without end must not fill its memory.
    monkeypatch.setattr(follow, "READ_BYTES_MAX", 100)
    write("a", "".join(f"line {number:03}\n" for number in range(50)))
    lines = [line.text for line in Follower(tmp_path, ["a", "b"]).poll()]
    assert "350 bytes left out" in lines[0]
    assert lines[-1] == "line 049"
    assert sum(map(len, lines[1:])) <= 100


def test_a_line_without_end_is_given_in_pieces(tmp_path, write, monkeypatch):
    monkeypatch.setattr(follow, "READ_BYTES_MAX", 10)
    follower = Follower(tmp_path, ["a", "b"])
    write("a", "x" * 10)
    assert texts(follower.poll()) == [("a", "x" * 10)]


def test_bytes_that_are_no_text_do_not_stop_the_reader(tmp_path):
    (tmp_path / "a.log").write_bytes(b"\xff\xfe\n")
    assert len(Follower(tmp_path, ["a", "b"]).poll()) == 1


def test_a_log_line_is_told_from_a_print():
    logged = LogLine.parse("a", f"{STAMP} WARNING slow camera")
    assert (logged.level, logged.text, str(logged)) == ("WARNING", "slow camera", f"{STAMP} WARNING slow camera")
    assert LogLine.parse("a", "WARNING not ours") == LogLine("a", "WARNING not ours")


def sifted(*lines: str) -> list[str]:
    return [line.text for line in Sieve().sift(LogLine.parse("a", line) for line in lines)]


def test_the_sieve_shows_warnings_and_prints_and_leaves_out_the_rest():
    assert sifted(f"{STAMP} INFO fine", f"{STAMP} WARNING slow", f"{STAMP} ERROR bad", "printed", f"{STAMP} DEBUG x") == [
        "slow",
        "bad",
        "printed",
    ]


def test_the_sieve_leaves_out_a_traceback_and_nothing_after_it():
    traceback = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()", "ValueError: no"]
    chained = ["", "During handling of the above exception, another exception occurred:", "", *traceback]
    assert sifted(f"{STAMP} ERROR packet failed", *traceback, "printed") == ["packet failed", "printed"]
    assert sifted(*traceback, *chained, f"{STAMP} ERROR next") == ["next"]


def test_the_sieve_leaves_out_a_traceback_that_is_part_of_a_log_record():
    # Nodes log them indented, so that whatever an exception says is told from what a node prints.
    record = [
        f"{STAMP} ERROR failed",
        "    Traceback (most recent call last):",
        '      File "a.py", line 1',
        "    ValueError: one",
        "    two",
    ]
    assert sifted(*record, "printed", "    printed") == ["failed", "printed", "    printed"]


def test_the_sieve_leaves_out_the_further_lines_of_a_record_that_it_does_not_show():
    assert sifted(f"{STAMP} INFO shapes:", "    1 x 3", f"{STAMP} WARNING shapes:", "    2 x 3") == ["shapes:", "    2 x 3"]
    assert sifted(f"{STAMP} INFO fine", "printed", "  indented") == ["printed", "  indented"]


def test_the_sieve_leaves_out_the_stacks_of_a_crash_and_keeps_its_name():
    crash = ["Fatal Python error: Segmentation fault", "", "Current thread 0x00007f6fd0470b80 (most recent call first):"]
    crash += ['  File "a.py", line 28 in process', '  File "<frozen runpy>", line 88 in _run_code', "", "Extension modules: zmq (total: 1)"]
    assert sifted("last words", *crash) == ["last words", "Fatal Python error: Segmentation fault"]


def test_a_traceback_of_one_node_hides_nothing_of_another():
    lines = [LogLine("a", "Traceback (most recent call last):"), LogLine("b", "printed"), LogLine("a", "  File x")]
    assert texts(Sieve().sift(lines)) == [("b", "printed")]


def test_the_end_of_a_log_reaches_behind_a_long_stack(tmp_path, write):
    # Twenty lines of frames say less than the two lines before them.
    stack = "".join(f'  File "a.py", line {number} in f\n' for number in range(30))
    write("a", f"{STAMP} INFO began\nlast words\nThread 0x00007f6fd0470b80 (most recent call first):\n{stack}")
    assert [line.text for line in log_end(tmp_path / "a.log", "a", 20, stacks=False)] == ["began", "last words"]
    assert len(log_end(tmp_path / "a.log", "a", 20, stacks=True)) == 20
    assert log_end(tmp_path / "none.log", "none", 20, stacks=True) == []


def drop_front(path, end):
    fd = os.open(path, os.O_RDWR)
    try:
        if not log_space.drop_front(fd, 0, end):
            pytest.skip("needs a file system with holes")
    finally:
        os.close(fd)


def begin_anew(path, kept_bytes):
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    log_space.begin_anew(fd, kept_bytes)
    os.close(fd)


def numbered(first, end):
    return "".join(f"line {number:05}\n" for number in range(first, end))  # of 11 bytes


def test_a_log_that_loses_its_front_is_followed_as_if_nothing_had_happened(tmp_path, write):
    follower = Follower(tmp_path, ["a"], whole=True)
    write("a", numbered(0, 1000))
    follower.poll()
    drop_front(tmp_path / "a.log", 8192)
    write("a", numbered(1000, 1003))
    assert [line.text for line in follower.poll()] == ["line 01000", "line 01001", "line 01002"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_follower_that_comes_too_late_says_what_it_has_missed(tmp_path, write, whole):
    follower = Follower(tmp_path, ["a"], whole=whole)
    write("a", numbered(0, 30_000))
    drop_front(tmp_path / "a.log", 319_488)
    lines = follower.poll()
    assert lines[0].is_gap
    assert "319488" in lines[0].text
    assert [line.text for line in lines[1:]] == numbered(30_000 - len(lines) + 1, 30_000).splitlines()
    assert follower.poll() == []


def test_a_follower_of_the_whole_log_leaves_out_nothing(tmp_path, write, monkeypatch):
    monkeypatch.setattr(follow, "READ_BYTES_MAX", 100)
    follower = Follower(tmp_path, ["a"], whole=True)
    write("a", numbered(0, 50) + "end")
    found = []
    while news := follower.poll(last=True):
        found += [line.text for line in news]
    assert found == [*numbered(0, 50).splitlines(), "end"]


@pytest.mark.parametrize("kept_bytes", [220, 2200, 11_000])
def test_a_log_that_is_begun_anew_is_followed_without_losing_or_repeating_a_line(tmp_path, write, kept_bytes):
    # What happens where the file system knows no holes.
    follower = Follower(tmp_path, ["a"], whole=True)
    write("a", numbered(0, 990))
    follower.poll()
    write("a", numbered(990, 1000))
    begin_anew(tmp_path / "a.log", kept_bytes)
    write("a", numbered(1000, 1005))
    assert [line.text for line in follower.poll()] == numbered(990, 1005).splitlines()


def test_a_log_that_has_grown_again_since_it_was_begun_anew_is_not_taken_for_the_old_one(tmp_path, write):
    follower = Follower(tmp_path, ["a"], whole=True)
    write("a", numbered(0, 100))
    follower.poll()
    begin_anew(tmp_path / "a.log", 220)
    write("a", numbered(100, 300))
    assert [line.text for line in follower.poll()] == numbered(100, 300).splitlines()


def test_a_log_that_somebody_has_emptied_is_followed_from_its_beginning(tmp_path, write):
    follower = Follower(tmp_path, ["a"], from_end=True)
    write("a", numbered(0, 100))
    follower.poll()
    os.truncate(tmp_path / "a.log", 0)
    write("a", "new\n")
    assert [line.text for line in follower.poll()] == ["new"]


def test_the_end_of_a_log_does_not_reach_into_its_hole(tmp_path, write):
    write("a", numbered(0, 1000))
    drop_front(tmp_path / "a.log", 8192)
    found = log_end(tmp_path / "a.log", "a", 500, stacks=True)
    assert [line.text for line in found] == numbered(745, 1000).splitlines()
