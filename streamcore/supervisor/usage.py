"""CPU and memory of node processes, read when somebody asks and not before."""

from __future__ import annotations

from streamcore.clock import Clock


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

    def forget(self, pid: int) -> None:
        self._last.pop(pid, None)
