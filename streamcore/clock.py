"""The clocks. Everything that measures or waits takes one of these, so that tests never wait and wall-clock steps change nothing."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


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


def parse_duration(text: str) -> float:
    """Seconds of a duration as people write it: 500ms, 10s, 1.5m, 1h30m.

    Raises:
      ValueError: says what was found and what is expected. A bare number is refused: seconds and milliseconds are too easily confused.
    """
    compact = text.replace(" ", "").lower()
    if not compact or _PART.sub("", compact):
        hint = f"; did you mean '{compact}s'?" if re.fullmatch(r"\d+(\.\d+)?", compact) else ""
        raise ValueError(f"{text!r} is not a duration; expected e.g. 500ms, 10s, 2m, 1h30m{hint}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(compact))


def parse_time(text: str, start_ns: int, end_ns: int) -> int:
    """A moment as people write it, in ns of the wall clock.

    `2026-11-25T14:00:00Z`, `2026-11-25 14:00` or `2026-11-25` (UTC unless it says otherwise), `1h30m` after `start_ns`, or `-10m` before
    `end_ns`.

    Raises:
      ValueError: says what was found and what is expected.
    """
    compact = text.strip()
    if re.match(r"\d{4}-", compact):
        try:
            moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", compact))
        except ValueError:
            raise ValueError(f"{text!r} is not a time; expected e.g. 2026-11-25T14:00:00Z or 2026-11-25 14:00") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return round(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    try:
        if compact.startswith("-"):
            return end_ns - round(parse_duration(compact[1:]) * 1e9)
        return start_ns + round(parse_duration(compact.removeprefix("+")) * 1e9)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; expected e.g. 2026-11-25T14:00:00Z, 1h30m (after the beginning) or -10m (before the end)"
        ) from None
