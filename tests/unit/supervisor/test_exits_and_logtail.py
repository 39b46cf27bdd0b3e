"""How an end is told: the exit in words, and the last lines of the log."""

from pathlib import Path

import pytest

from streamcore.supervisor import exits
from streamcore.supervisor.exits import describe_exit, kind_of
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


@pytest.mark.parametrize(
    ("oom_kills", "text"),
    [
        (None, "killed by SIGKILL, perhaps by the kernel for lack of memory (see dmesg)"),
        (1, "killed by SIGKILL, by the kernel for lack of memory (its count of out-of-memory kills rose)"),
        (0, "killed by SIGKILL (not sent by streamcore; the kernel counted no out-of-memory kill)"),
    ],
)
def test_a_kill_that_was_not_ours_points_to_the_kernel_as_far_as_it_is_known(oom_kills, text):
    assert describe_exit(-9, False, oom_kills) == text


def test_a_node_that_somebody_else_told_to_end_says_so():
    assert describe_exit(143, told_to_go=False) == "ended by SIGTERM between packets"
    assert describe_exit(143, told_to_go=True) == "exited with 143"


@pytest.mark.parametrize(
    ("where", "cause", "status", "kind"),
    [
        ("import", "no module named x", 1, exits.IMPORT),
        ("config", "no such file: a.mp4", 1, exits.CONFIG),
        ("setup", "KeyError: 'x'", 1, exits.RAISED),
        ("setup", "MemoryError: ", 1, exits.MEMORY),
        ("run", "RuntimeError: lost the camera", 1, exits.RAISED),
        ("flush", "ValueError: x", 1, exits.RAISED),
        ("host", "LayoutError: x", 1, exits.RAISED),
        ("exit", "killed by SIGSEGV", -11, exits.SIGNAL),
        ("exit", "killed by SIGKILL", -9, exits.SIGNAL),
        ("exit", "ended by SIGTERM", 143, exits.SIGNAL),
        ("exit", "exited with 0", 0, exits.EXIT),
        ("exit", "exited with 3", 3, exits.EXIT),
        ("hang", "process() has not returned", -9, exits.HUNG),
        ("start", "not ready after 60 s", -9, exits.NOT_READY),
        ("control", "nonsense", -9, exits.NONSENSE),
    ],
)
def test_every_end_has_its_class(where, cause, status, kind):
    assert kind_of(where, cause, status, stops_on_error=False) == kind


def test_a_kill_while_the_kernel_ran_out_of_memory_is_of_that_class():
    assert kind_of("exit", "", -9, stops_on_error=False, oom_kills=1) == exits.MEMORY
    assert kind_of("exit", "", -9, stops_on_error=False, oom_kills=0) == exits.SIGNAL
    assert kind_of("exit", "", -11, stops_on_error=False, oom_kills=1) == exits.SIGNAL  # it crashed by itself


@pytest.mark.parametrize(
    ("kind", "status", "blamed"),
    [
        (exits.SIGNAL, -11, True),
        (exits.SIGNAL, -6, True),
        (exits.SIGNAL, -9, False),
        (exits.SIGNAL, -15, False),
        (exits.SIGNAL, 143, False),
        (exits.MEMORY, -9, True),
        (exits.EXIT, 0, True),
        (exits.HUNG, -9, True),
        (exits.HALTED, -9, False),
    ],
)
def test_only_what_a_packet_can_have_brought_about_is_held_against_it(kind, status, blamed):
    assert exits.blames_packet(kind, status) == blamed


def test_an_exception_is_final_only_where_the_spec_says_stop():
    assert kind_of("run", "RuntimeError: x", 1, stops_on_error=True) == exits.STOPPED
    assert kind_of("setup", "RuntimeError: x", 1, stops_on_error=True) == exits.RAISED


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
