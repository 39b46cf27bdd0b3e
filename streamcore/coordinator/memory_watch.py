"""Holds what the rings really occupy against the limit: a warning at 80 %, an error at 100 %. Pure; the caller reads the segments."""

from __future__ import annotations

from collections.abc import Mapping

from streamcore.supervisor.budget import human

WARN_SHARE = 0.8
NAMED_MAX = 3  # ports named in a message: the largest


class MemoryWatch:
    """`look` once a second with bytes per port."""

    def __init__(self, limit_bytes: int):
        self._limit = limit_bytes
        self._warned = False

    def look(self, allocated: Mapping[str, int]) -> tuple[str, str]:
        """(warning, error); both empty as long as there is room. The warning comes once, the error every time."""
        used = sum(allocated.values())
        if used >= self._limit:
            return "", f"shared memory: found {self._describe(used, allocated)}; raise limits.shm, or lower depths"
        if used >= WARN_SHARE * self._limit and not self._warned:
            self._warned = True
            return f"shared memory: {self._describe(used, allocated)}; the run ends at the limit", ""
        return "", ""

    def _describe(self, used: int, allocated: Mapping[str, int]) -> str:
        largest = ", ".join(f"{port} {human(allocated[port])}" for port in self._largest(allocated))
        return f"{human(used)} in use, limit {human(self._limit)} ({largest})"

    def _largest(self, allocated: Mapping[str, int]) -> list[str]:
        return sorted(allocated, key=lambda port: -allocated[port])[:NAMED_MAX]

    def culprit(self, allocated: Mapping[str, int]) -> str:
        """The node whose ring is largest."""
        return self._largest(allocated)[0].rpartition(".")[0]
