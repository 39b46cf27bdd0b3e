"""CPU and memory of a process."""

import os
import subprocess
import sys

import pytest

from streamcore.clock import Clock, ManualClock
from streamcore.supervisor.group import Group
from streamcore.supervisor.usage import Usage, core_wait_s, cpu_s


class LaterClock(Clock):
    """The real clocks, moved on by hand."""

    def __init__(self):
        self.later_ns = 0

    def monotonic_ns(self):
        return Clock.monotonic_ns() + self.later_ns


def burn():
    return sum(i * i for i in range(300_000))


def test_a_working_process_uses_cpu_and_memory():
    burn()
    cpu_percent, rss_bytes = Usage(Clock()).read(os.getpid())
    assert cpu_percent > 0
    assert rss_bytes > 1 << 20


def test_a_second_look_shows_the_share_since_the_first():
    clock = LaterClock()
    usage = Usage(clock)
    burn()
    usage.read(os.getpid())
    clock.later_ns = 1_000_000 * 10**9  # a million seconds in which next to nothing was used
    assert usage.read(os.getpid())[0] == 0.0


def test_a_process_that_is_gone_has_neither():
    process = subprocess.Popen(["true"])
    process.wait()
    assert Usage(ManualClock()).read(process.pid) == (None, None)


def spin_for(seconds):
    """A process that computes for so long, and is not reaped yet when this returns."""
    script = f"import time\nwhile time.process_time() < {seconds}: pass"
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", script], start_new_session=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def test_a_process_that_has_ended_still_says_what_it_took_until_it_is_reaped():
    process = spin_for(0.2)
    assert cpu_s(process.pid) > 0.15  # in ticks of 10 ms
    waited_s = core_wait_s(process.pid)
    group = Group(process.pid)
    assert group.reap()
    assert group.status == 0
    assert group.cpu_s > 0.15
    assert group.core_wait_s == waited_s
    assert (cpu_s(process.pid), core_wait_s(process.pid)) == (None, None)
    process.wait()


def test_who_sleeps_neither_computes_nor_waits_for_a_core():
    process = subprocess.Popen(["sleep", "1000"])
    try:
        assert cpu_s(process.pid) < 0.5
    finally:
        process.kill()
        process.wait()


def test_two_that_want_one_core_wait_for_it():
    # What tells a node that computes on a full box from one that sleeps.
    core = min(os.sched_getaffinity(0))
    script = f"import os, time\nos.sched_setaffinity(0, [{core}])\nwhile time.process_time() < 0.3: pass"
    both = [subprocess.Popen([sys.executable, "-I", "-S", "-c", script]) for _ in range(2)]
    waits = []
    for process in both:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        waits.append(core_wait_s(process.pid))
        process.wait()
    if None in waits:
        pytest.skip("this kernel does not count it")
    assert max(waits) > 0.1
