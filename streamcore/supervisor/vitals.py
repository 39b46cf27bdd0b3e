"""What a process uses, as the kernel counts it anyway: cheap enough for every scrape, and never held up by the process itself.

Memory of its own (USS) and the like are not here: the kernel walks through the whole address space for them, and the reader waits with a
process that is stuck in the kernel.
"""

from __future__ import annotations

import os
from functools import lru_cache

from streamcore.telemetry.metrics import Vitals

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def vitals(pid: int) -> Vitals | None:
    """None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()  # the first is number 3 of proc_pid_stat(5)
        user, kernel, threads, started, pages = (int(fields[number - 3]) for number in (14, 15, 20, 22, 24))
    except (OSError, ValueError, IndexError):
        return None
    started_s = _booted_s() + started / _TICKS_PER_S
    return Vitals((user + kernel) / _TICKS_PER_S, started_s, pages * _PAGE_BYTES, _descriptors(pid), threads, _switches(pid))


@lru_cache(maxsize=1)
def _booted_s() -> float:
    """When the box was booted. It is read once: a clock that is set meanwhile must not make processes younger."""
    with open("/proc/stat", "rb") as file:
        return next((float(line.split()[1]) for line in file if line.startswith(b"btime ")), 0.0)


def _descriptors(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def _switches(pid: int) -> int | None:
    """Of the threads that live. /proc/PID/status has those of the first thread alone."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                total += sum(int(line.split()[1]) for line in file.read().splitlines()[-2:])
    except (OSError, ValueError, IndexError):
        return None
    return total
