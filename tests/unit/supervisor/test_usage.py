"""CPU and memory of a process."""

import os
import subprocess

from streamcore.clock import Clock, ManualClock
from streamcore.supervisor.usage import Usage


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
