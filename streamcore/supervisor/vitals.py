"""What a process uses, as the kernel counts it anyway: cheap enough for every scrape, and never held up by the process itself.

Memory of its own (USS) and the like are not here: the kernel walks through the whole address space for them, and the reader waits with a
process that is stuck in the kernel.
"""

from __future__ import annotations

import os
from functools import lru_cache

from streamcore.supervisor import proc
from streamcore.telemetry.metrics import Vitals

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def vitals(pid: int) -> Vitals | None:
    """None if it is gone."""
    seen = proc.stat(pid)
    if seen is None:
        return None
    started_s = _booted_s() + seen.started / _TICKS_PER_S
    return Vitals(seen.cpu_s, started_s, seen.rss_bytes, _descriptors(pid), seen.threads, _switches(pid))


@lru_cache(maxsize=1)
def _booted_s() -> float:
    """When the box was booted. It is read once: a clock that is set meanwhile must not make processes younger."""
    with open("/proc/stat", "rb") as file:
        return next((float(line.split()[1]) for line in file if line.startswith(b"btime ")), 0.0)


def _descriptors(pid: int) -> int | None:
    """Linux tells their number since 6.2; before, they are counted."""
    try:
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def _switches(pid: int) -> int | None:
    """How often the threads that live were given a CPU. What /proc/PID/status calls context switches is that of the first thread alone, and
    it takes four times as long to read of each.
    """
    try:
        return sum(int(proc.read(f"/proc/{pid}/task/{thread}/schedstat").split()[2]) for thread in os.listdir(f"/proc/{pid}/task"))
    except (OSError, ValueError, IndexError):  # a thread has just ended, or a kernel without CONFIG_SCHED_INFO
        return None
