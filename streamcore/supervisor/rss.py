"""The memory of one node over time: its growth, and whether it has crossed its limit. Pure; readings are handed in."""

from __future__ import annotations

from collections import deque

from streamcore.supervisor.budget import human

SPAN_NS = 60_000_000_000  # growth is what was added in the last minute
SAMPLES_MAX = 64
WARM_NS = 10_000_000_000  # what a process takes while it starts is no growth


class RssWatch:
    """`note` each reading in bytes. `limit_bytes` 0: none."""

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self.rss_bytes = 0  # as last measured, of which incarnation
        self.incarnation = 0
        self._began_ns = 0
        self._met = False  # this incarnation was below the limit once
        self._freed_ns: int | None = None  # the last restart that the limit brought about
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)

    def note(self, incarnation: int, now_ns: int, rss_bytes: int) -> bool:
        """True if it has just crossed the limit: once, and again only after it was met meanwhile."""
        before = self.above
        if incarnation != self.incarnation:
            self.incarnation, self._began_ns, self._met, before = incarnation, now_ns, False, False
            self._samples.clear()
        self.rss_bytes = rss_bytes
        self._met = self._met or not self.above
        if now_ns - self._began_ns >= WARM_NS:
            self._samples.append((now_ns, rss_bytes))
            while self._samples[0][0] < now_ns - SPAN_NS:
                self._samples.popleft()
        return self.above and not before

    @property
    def above(self) -> bool:
        return 0 < self.limit_bytes < self.rss_bytes

    def restart_helps(self, now_ns: int) -> bool:
        """Not if it takes that much from its start: then a new process a minute is enough to find out whether that has changed."""
        return self.above and (self._met or self._freed_ns is None or now_ns - self._freed_ns >= SPAN_NS)

    def note_restart(self, now_ns: int) -> None:
        self._freed_ns = now_ns

    def __str__(self) -> str:
        return f"memory: found {human(self.rss_bytes)}, its children included; limits.rss is {human(self.limit_bytes)}"

    @property
    def growth_bytes_per_s(self) -> float | None:
        """None until there are two readings far enough from the start."""
        if len(self._samples) < 2:
            return None
        (first_ns, first), (last_ns, last) = self._samples[0], self._samples[-1]
        return round((last - first) / ((last_ns - first_ns) / 1e9), 1) if last_ns > first_ns else None
