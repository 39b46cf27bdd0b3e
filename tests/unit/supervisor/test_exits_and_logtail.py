"""How an end is told: the exit in words, and the last lines of the log."""

from pathlib import Path

import pytest

from streamcore.supervisor.exits import describe_exit
from streamcore.supervisor.logtail import TAIL_BYTES_MAX, last_lines


@pytest.mark.parametrize(
    ("status", "told_to_go", "text"),
    [
        (0, False, "exited with 0"),
        (3, False, "exited with 3"),
        (-11, False, "killed by SIGSEGV"),
        (-9, True, "killed by SIGKILL"),
        (-40, False, "killed by signal 40"),
    ],
)
def test_an_exit_reads_as_a_sentence(status, told_to_go, text):
    assert describe_exit(status, told_to_go) == text


def test_a_kill_that_was_not_ours_points_to_the_kernel():
    assert "memory ran out" in describe_exit(-9, told_to_go=False)


def test_the_last_lines_of_a_log_are_read_without_the_rest(tmp_path: Path):
    log = tmp_path / "node.log"
    log.write_text("".join(f"line {i}\n" for i in range(100_000)))
    assert last_lines(str(log), 3) == ("line 99997", "line 99998", "line 99999")


def test_an_endless_line_costs_a_bounded_read(tmp_path: Path):
    log = tmp_path / "node.log"
    log.write_bytes(b"x" * (3 * TAIL_BYTES_MAX) + b"\xff")
    (line,) = last_lines(str(log), 5)
    assert len(line) == TAIL_BYTES_MAX
    assert line.endswith("�")


def test_no_log_is_no_lines_and_a_link_is_not_followed(tmp_path: Path):
    secret, link = tmp_path / "secret", tmp_path / "node.log"
    secret.write_text("token\n")
    link.symlink_to(secret)
    assert last_lines(str(tmp_path / "none.log"), 5) == ()
    assert last_lines(str(link), 5) == ()
