"""CPU and memory of node processes, read when somebody asks and not before."""

from __future__ import annotations

import os

from streamcore.clock import Clock
from streamcore.supervisor.proc import families, has_children, read, stat


class Usage:
    """Remembers the last reading per process, so that two askers in a row see the CPU share of the time between."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._last: dict[int, tuple[int, int, float]] = {}  # pid to (started, when, cpu seconds until then)

    def read(self, pid: int) -> tuple[float | None, int | None]:
        """(CPU share in percent of one core, resident bytes); (None, None) if the process is gone.

        The first reading of a process is the share since it was started. Resident bytes include the rings it has touched.
        """
        now_ns = self._clock.monotonic_ns()
        found = stat(pid)
        if found is None:
            self._last.pop(pid, None)
            return None, None
        started, since_ns, before_s = self._last.get(pid, (0, 0, 0.0))
        if started != found.started:  # never read, or the number was another process's
            since_ns, before_s = now_ns - round(found.age_s * 1e9), 0.0
        self._last[pid] = (found.started, now_ns, found.cpu_s)
        elapsed_s = (now_ns - since_ns) / 1e9
        return (round(100 * (found.cpu_s - before_s) / elapsed_s, 1) if elapsed_s > 0 else 0.0), found.rss_bytes

    def rss_with_children(self, pid: int) -> int | None:
        """Resident bytes of a process and of all that it has started; None if it is gone.

        Where there are no children all of /proc is not looked at: 20 us instead of milliseconds, which an idle run of 20 nodes notices.
        """
        family = families([pid]).get(pid, []) if has_children(pid) else [pid]
        found = [one.rss_bytes for one in map(stat, family) if one]
        return sum(found) if found else None

    def forget(self, pid: int) -> None:
        self._last.pop(pid, None)


def cpu_s(pid: int) -> float | None:
    """CPU seconds of a process, and of the children that it has reaped; None if it is gone. One read of /proc, 20 us."""
    found = stat(pid)
    return found.cpu_s + found.reaped_cpu_s if found is not None else None


def core_wait_s(pid: int) -> float | None:
    """How long the main thread of a process, ended or not, was ready to run and had no core; None if the kernel does not say.

    Node code runs there: with its CPU time this tells a node that computes on a full box from one that waits for something else.
    """
    try:
        return int(read(f"/proc/{pid}/schedstat").split()[1]) / 1e9
    except (OSError, IndexError):
        return None


def cores() -> int:
    """On how many cores this process and those that it starts may run."""
    return len(os.sched_getaffinity(0))


def is_stopped(pid: int) -> bool:
    """Does the kernel keep it from running: SIGSTOP, or a debugger."""
    found = stat(pid)
    return found is not None and found.state in "Tt"
