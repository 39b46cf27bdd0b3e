"""CPU and memory of node processes, read when somebody asks and not before."""

from __future__ import annotations

import os

from streamcore.clock import Clock

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """Remembers the last reading per process, so that two askers in a row see the CPU share of the time between."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._last: dict[int, tuple[int, float]] = {}  # pid to (when, cpu seconds until then)

    def read(self, pid: int) -> tuple[float | None, int | None]:
        """(CPU share in percent of one core, resident bytes); (None, None) if the process is gone.

        The first reading of a process is the share since it was started. Resident bytes include the rings it has touched.
        """
        import psutil  # 20 ms that `up` need not pay

        now_ns = self._clock.monotonic_ns()
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, rss, created = process.cpu_times(), process.memory_info().rss, process.create_time()
        except psutil.Error:
            self._last.pop(pid, None)
            return None, None
        used_s = times.user + times.system
        since_ns, before_s = self._last.get(pid, (now_ns - max(0, self._clock.wall_ns() - round(created * 1e9)), 0.0))
        self._last[pid] = (now_ns, used_s)
        elapsed_s = (now_ns - since_ns) / 1e9
        return (round(100 * (used_s - before_s) / elapsed_s, 1) if elapsed_s > 0 else 0.0), rss

    def rss_with_children(self, pid: int) -> int | None:
        """Resident bytes of a process and of all that it has started; None if it is gone.

        Read from /proc without psutil where there are no children: 20 us instead of a millisecond, which an idle run of 20 nodes notices.
        """
        total = _rss(pid)
        if total is None or not has_children(pid):
            return total
        import psutil

        try:
            for child in psutil.Process(pid).children(recursive=True):
                total += _rss(child.pid) or 0
        except psutil.Error:
            return None
        return total

    def forget(self, pid: int) -> None:
        self._last.pop(pid, None)


def cpu_s(pid: int) -> float | None:
    """CPU seconds of a process, and of the children that it has reaped; None if it is gone. One read of /proc, 20 us."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def core_wait_s(pid: int) -> float | None:
    """How long the main thread of a process, ended or not, was ready to run and had no core; None if the kernel does not say.

    Node code runs there: with its CPU time this tells a node that computes on a full box from one that waits for something else.
    """
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return None


def cores() -> int:
    """On how many cores this process and those that it starts may run."""
    return len(os.sched_getaffinity(0))


def is_stopped(pid: int) -> bool:
    """Does the kernel keep it from running: SIGSTOP, or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def _rss(pid: int) -> int | None:
    """Resident bytes of one process; None if it is gone. A zombie has none."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def has_children(pid: int) -> bool:
    """To find whose child is whose, psutil reads all of /proc; the kernel knows of most processes that they have none."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                if file.read(1):
                    return True
    except OSError:
        return True  # a kernel without that file, or the process is going
    return False
