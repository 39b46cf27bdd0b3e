"""The clocks. Everything that measures or waits takes one of these, so that tests never wait and wall-clock steps change nothing."""

from __future__ import annotations

import time
from datetime import datetime, timezone


class Clock:
    """The machine's clocks: `monotonic_ns` for every duration and deadline, `wall_ns` only for time stamps that people read."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)


class ManualClock(Clock):
    """A clock that moves only when told. Wall time starts at the epoch; `sleep` advances it."""

    def __init__(self, start_ns: int = 0):
        self.now_ns = start_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:  # type: ignore[override]
        self.advance(seconds)


def iso_utc(wall_ns: int) -> str:
    """ISO-8601 in UTC with microseconds, e.g. 2026-11-23T07:00:00.123456Z."""
    return datetime.fromtimestamp(wall_ns // 1000 / 1e6, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
