"""What the kernel says of any process without being asked twice: its line in /proc/PID/stat, and who has started whom.

That line can be read whoever owns the process and whatever holds it: stopped, hung in a device, dead and not yet collected.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk-sleep",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
    "P": "parked",
}


class Stat(NamedTuple):
    """`state` is a letter, a key of STATES. `reaped_cpu_s`: of children that it has collected. `started`: in ticks since the box was
    booted, which with the pid names one process for ever.
    """

    pid: int
    name: str
    state: str
    parent: int
    session: int
    faults_minor: int
    faults_major: int
    cpu_s: float
    reaped_cpu_s: float
    nice: int
    threads: int
    started: int
    rss_bytes: int

    @property
    def age_s(self) -> float:
        """By the clock that the kernel stamps processes with; it goes on while the box sleeps, as the monotonic one does not."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / _TICKS_PER_S)


def read(path: str) -> bytes:
    """A small file of /proc: three system calls, where open() makes eight. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def stat(pid: int) -> Stat | None:
    """None if there is no such process, or not for us to see."""
    try:
        head, _, tail = read(f"/proc/{pid}/stat").rpartition(b") ")
    except OSError:
        return None
    fields = tail.split()  # the first is number 3 of proc_pid_stat(5)
    name = head.partition(b" (")[2].decode("utf-8", "replace")
    parent, session, minor, major, user, kernel, reaped_user, reaped_kernel, nice, threads, started, pages = (
        int(fields[n - 3]) for n in (4, 6, 10, 12, 14, 15, 16, 17, 19, 20, 22, 24)
    )
    state = fields[0].decode()
    cpu_s, reaped_cpu_s = (user + kernel) / _TICKS_PER_S, (reaped_user + reaped_kernel) / _TICKS_PER_S
    return Stat(pid, name, state, parent, session, minor, major, cpu_s, reaped_cpu_s, nice, threads, started, pages * _PAGE_BYTES)


def families(roots: Iterable[int]) -> dict[int, list[int]]:
    """Each of these processes that lives, to itself and all that it has started, also through others: parents before their children.

    A process whose parent has ended belongs to the leader of its session too. Every node leads one, so what a program of a node has put
    into the background is counted as well.
    """
    below: dict[int, list[int]] = defaultdict(list)
    session: dict[int, list[int]] = defaultdict(list)
    living = [found for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))) if (found := stat(pid))]
    for one in living:
        below[one.parent].append(one.pid)
        session[one.session].append(one.pid)
    pids = {one.pid for one in living}
    return {root: _walk(root, below, session[root]) for root in roots if root in pids}


def _walk(root: int, below: dict[int, list[int]], session: list[int]) -> list[int]:
    found: dict[int, None] = {}  # a set that keeps its order
    for first in (root, *session):
        left = [first]
        while left:
            pid = left.pop()
            if pid not in found:
                found[pid] = None
                left += reversed(below.get(pid, ()))
    return list(found)


def has_children(pid: int) -> bool:
    """Without a look at all of /proc: the kernel knows of most processes that they have none."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                if file.read(1):
                    return True
    except OSError:
        return True  # a kernel without that file, or the process is going
    return False
