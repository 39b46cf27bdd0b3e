"""What the kernel counts of a process, beside what psutil says of the same."""

import subprocess
import sys
import time

import psutil
import pytest

from streamcore.supervisor.vitals import vitals

PROGRAM = """
import os, sys, threading
held = bytearray(64 << 20)
files = [open("/dev/null") for _ in range(20)]
threading.Thread(target=threading.Event().wait, daemon=True).start()
while sum(os.times()[:2]) < 0.3:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout.readline() == b"ready\n"
        yield started
        started.stdin.close()


def test_they_are_those_that_psutil_finds(process):
    seen, other = vitals(process.pid), psutil.Process(process.pid)
    assert seen.cpu_s == pytest.approx(sum(other.cpu_times()[:2]), abs=0.05)
    assert seen.cpu_s >= 0.25
    assert seen.started_s == pytest.approx(other.create_time(), abs=1.5)
    assert seen.started_s == pytest.approx(time.time(), abs=600)
    assert seen.rss_bytes == pytest.approx(other.memory_info().rss, rel=0.1)
    assert seen.rss_bytes > 64 << 20
    assert (seen.fds, seen.threads) == (other.num_fds(), 2)
    assert seen.context_switches >= 2  # both threads ran


def test_of_a_process_that_is_gone_there_are_none(process):
    process.stdin.close()
    process.wait(30)
    assert vitals(process.pid) is None
