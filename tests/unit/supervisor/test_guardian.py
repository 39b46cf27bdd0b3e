"""The guardian: what it removes when its coordinator is gone without a word, and what it leaves alone."""

import fcntl
import os
import socket
import subprocess

import psutil
import pytest

from streamcore.supervisor import guardian
from streamcore.supervisor.guard import Guard

RUN_ID = "0123456789abcdef"
GONE_S = 60.0  # far more than it takes, also on a busy box; a test that fails waits so long


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("kept")
    (tmp_path / guardian.PID_FILE).write_text("{}")
    for name in ("control", "a.1"):
        socket.socket(socket.AF_UNIX).bind(str(tmp_path / name))
    return tmp_path


@pytest.fixture
def sleeper():
    """Start a process of its own group that sleeps; it is killed at the end in any case."""
    started = []

    def start(mark=""):
        environ = {**os.environ, guardian.MARK[:-1].decode(): mark}
        started.append(subprocess.Popen(["sleep", "1000"], env=environ, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def die(guard):
    """What it looks like from the guardian when the coordinator is killed. Returns once the guardian is through."""
    os.close(guard._writer)
    guard._process.wait(GONE_S)


def files(run_dir):
    return sorted(os.listdir(run_dir))


def test_without_a_goodbye_it_kills_every_group_that_is_left(run_dir, sleeper):
    left, reaped = sleeper(), sleeper()
    guard = Guard(str(run_dir), RUN_ID)
    guard.add(left.pid)
    guard.add(reaped.pid)
    guard.remove(reaped.pid)
    die(guard)
    assert left.wait(GONE_S) == -9
    assert reaped.poll() is None  # a number that was given back may be somebody else's by now


def test_without_a_goodbye_it_finds_processes_of_the_run_that_left_their_group(run_dir, sleeper):
    ours, others, unmarked = sleeper(f"{RUN_ID}/a/1/"), sleeper("fedcba9876543210/a/1/"), sleeper()
    die(Guard(str(run_dir), RUN_ID))
    assert ours.wait(GONE_S) == -9
    assert others.poll() is None
    assert unmarked.poll() is None


def test_without_a_goodbye_it_removes_sockets_and_pid_file_and_keeps_the_logs(run_dir):
    die(Guard(str(run_dir), RUN_ID))
    assert files(run_dir) == ["logs"]
    assert (run_dir / "logs" / "a.log").read_text() == "kept"


def test_files_of_a_new_run_of_the_same_name_are_left_alone(run_dir, sleeper):
    fd = os.open(run_dir / guardian.PID_FILE, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    coordinator = sleeper()
    guard = Guard(str(run_dir), RUN_ID, coordinator.pid)
    coordinator.kill()
    die(guard)
    assert files(run_dir) == ["a.1", "control", guardian.PID_FILE, "logs"]
    os.close(fd)


def test_a_lock_that_the_kernel_gives_up_some_time_after_the_pipe_is_waited_for(run_dir, sleeper):
    # A dying process' descriptors are not all closed at the same instant: between two of them it may give back gigabytes.
    fd = os.open(run_dir / guardian.PID_FILE, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    coordinator = sleeper()
    guard = Guard(str(run_dir), RUN_ID, coordinator.pid)
    os.close(guard._writer)
    pid_file = str(run_dir / guardian.PID_FILE)
    while pid_file not in {os.path.realpath(file.path) for file in psutil.Process(guard.pid).open_files()}:
        assert guard.alive()
    with pytest.raises(subprocess.TimeoutExpired):
        guard._process.wait(2 * guardian.LOCK_TRIES * guardian.LOCK_PAUSE_S)  # it has not given up
    os.close(fd)
    coordinator.kill()
    guard._process.wait(GONE_S)
    assert files(run_dir) == ["logs"]


def test_a_run_directory_that_is_gone_does_not_keep_it_from_killing(tmp_path, sleeper):
    left = sleeper()
    guard = Guard(str(tmp_path / "gone"), RUN_ID)
    guard.add(left.pid)
    die(guard)
    assert left.wait(GONE_S) == -9


def test_after_a_goodbye_it_ends_and_touches_nothing(run_dir, sleeper):
    left = sleeper(f"{RUN_ID}/a/1/")
    guard = Guard(str(run_dir), RUN_ID)
    guard.add(left.pid)
    guard.close()
    assert left.poll() is None
    assert guardian.PID_FILE in files(run_dir)
    assert not psutil.pid_exists(guard.pid)


def names_of_open_files(pid):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue  # an interpreter that starts opens and closes its modules' files


def test_it_holds_no_descriptor_of_the_coordinator_and_lives_in_a_session_of_its_own(run_dir):
    # A ring that it held would outlive the run; a Ctrl-C that reached it would end it first.
    ring = os.memfd_create("ring")
    os.set_inheritable(ring, True)
    guard = Guard(str(run_dir), RUN_ID)
    try:
        assert os.getsid(guard.pid) == guard.pid
        process = psutil.Process(guard.pid)
        while "guardian.py" not in " ".join(process.cmdline()):
            assert guard.alive()  # between fork and exec
        assert not any("memfd" in name for name in names_of_open_files(guard.pid))
    finally:
        guard.close()
        os.close(ring)


def test_a_dead_guardian_does_not_disturb_the_coordinator(run_dir):
    guard = Guard(str(run_dir), RUN_ID)
    guard._process.kill()
    guard._process.wait(GONE_S)
    assert not guard.alive()
    guard.add(1234)
    guard.close()
