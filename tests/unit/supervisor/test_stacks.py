"""What a hung process is doing, asked from outside: real processes that hang in every way there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from streamcore.supervisor import stacks

PROGRAM = """
import ctypes, sys, threading, time
from streamcore.node import stacks
stacks.register()

def stuck_here():
    {hang}

inside = threading.Event()

def beside():
    inside.set()
    time.sleep(1000)

threading.Thread(target=beside, daemon=True).start()
inside.wait()
print("up", flush=True)
stuck_here()
"""
HANGS = {
    "a busy loop": "while True: pass",
    "a native call that keeps the GIL": "ctypes.PyDLL(None).sleep(1000)",
    "arithmetic that keeps the GIL": "pow(3, 7 ** 9)",
    "a native call without the GIL": "ctypes.CDLL(None).sleep(1000)",
    "a lock": "threading.Lock().acquire() and threading.Event().wait()",
}


@pytest.fixture
def started():
    """Start a program in a process of its own and wait for its first line."""
    processes = []

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def until(what: str, true, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"waited {deadline_s} s for: {what}"
        time.sleep(0.01)


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS.keys())
def test_a_hang_of_every_kind_shows_the_line_it_hangs_in(hang, started):
    process = started(PROGRAM.format(hang=hang))
    seen = []
    # The line "up" comes an instant before the hang: until then the stack is that of the module.
    until("stuck_here in the stack", lambda: seen.append(stacks.look(process.pid)) or "in stuck_here" in seen[-1].python)
    last = seen[-1]
    assert "in beside" in last.python, "the stacks are those of all threads"
    assert last.note == ""
    assert len(last.threads) == 2
    assert all(thread.tid and thread.state in "RSD" for thread in last.threads)


def test_a_second_look_shows_what_is_now_and_not_what_was(started):
    process = started(PROGRAM.format(hang=HANGS["a busy loop"]))
    until("stuck_here in the stack", lambda: "in stuck_here" in stacks.look(process.pid).python)
    again = stacks.look(process.pid).python
    assert again.count("Current thread") == 1, "the answer before was emptied"
    assert not again.startswith("\0")
    assert process.poll() is None, "being looked at does not end a process"


def test_a_stopped_process_gives_the_kernels_view_and_says_why(started):
    process = started(PROGRAM.format(hang=HANGS["a busy loop"]))
    process.send_signal(signal.SIGSTOP)
    until("all threads to stop", lambda: {thread.state for thread in stacks.kernel_threads(process.pid)} == {"T"})
    found = stacks.look(process.pid)
    assert found.python == ""
    assert "stopped" in found.note
    assert found.state.startswith("T")
    assert len(found.threads) == 2
    process.send_signal(signal.SIGCONT)
    until("the busy loop to go on", lambda: "in stuck_here" in stacks.look(process.pid).python)


def test_a_stopped_process_that_is_killed_next_may_be_woken_for_its_stack(started):
    process = started(PROGRAM.format(hang=HANGS["a busy loop"]))
    until("stuck_here in the stack", lambda: "in stuck_here" in stacks.look(process.pid).python)
    process.send_signal(signal.SIGSTOP)
    until("all threads to stop", lambda: {thread.state for thread in stacks.kernel_threads(process.pid)} == {"T"})
    found = stacks.look(process.pid, wake=True)
    assert "in stuck_here" in found.python
    assert found.state.startswith("T"), "as it was found"


def test_a_process_that_does_not_listen_is_not_killed_by_the_question(started):
    # Before it has registered, SIGUSR1 would end it: a node that is slow to start must survive being looked at.
    process = started("import time; print('up', flush=True); time.sleep(1000)")
    found = stacks.look(process.pid)
    assert (found.python, process.poll()) == ("", None)
    assert "does not catch" in found.note


def test_a_process_that_is_gone_is_an_answer_too():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert stacks.look(process.pid) == stacks.Stacks("", "the process is gone", "", ())


def test_a_zombie_has_no_stack():
    process = subprocess.Popen([sys.executable, "-c", ""])
    until("a zombie", lambda: state_of(process.pid) == "Z")
    try:
        assert stacks.look(process.pid).note == "the process is gone"
    finally:
        process.wait()


def test_a_thread_in_the_kernel_names_where_it_waits(started):
    process = started(PROGRAM.format(hang=HANGS["a native call without the GIL"]))
    threads = stacks.kernel_threads(process.pid)
    assert threads[0].tid == process.pid
    if os.access(f"/proc/{process.pid}/wchan", os.R_OK) and os.geteuid() == 0:
        until("a wait in the kernel", lambda: stacks.kernel_threads(process.pid)[0].wchan or stacks.kernel_threads(process.pid)[0].stack)
