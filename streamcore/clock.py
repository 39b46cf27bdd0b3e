"""The clocks. Everything that measures or waits takes one of these, so that tests never wait and wall-clock steps change nothing."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

_SECONDS = {"milli": 0.001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}  # by how a unit begins
_UNIT = r"milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w"
_PART = re.compile(rf"(\d+(?:\.\d+)?)({_UNIT})")
_DAYS = {"today": 0, "yesterday": 1}
_CLOCK_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)\s*(Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE)
_TIMES = "e.g. 2026-11-25, 2026-11-25T14:00, 2026-11-25 14:00:05Z, 14:00, today, yesterday 14:00, -10m, 1h30m ago, now"


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


def log_stamp(wall_ns: int) -> str:
    """The same with milliseconds, as it stands in logs. These texts sort as their times do."""
    return iso_utc(wall_ns)[:-4] + "Z"


def parse_duration(text: str) -> float:
    """Seconds of a duration as people write it: 500ms, 10s, 1.5m, 5 min, 1h30m, 2 days.

    Raises:
      ValueError: says what was found and what is expected. A bare number is refused: seconds and milliseconds are too easily confused.
    """
    compact = text.replace(" ", "").lower()
    if not compact or _PART.sub("", compact):
        hint = f"; did you mean '{compact}s'?" if re.fullmatch(r"\d+(\.\d+)?", compact) else ""
        raise ValueError(f"{text!r} is not a duration; expected e.g. 500ms, 10s, 2m, 1h30m{hint}")
    parts = _PART.findall(compact)
    return sum(float(number) * next(seconds for begin, seconds in _SECONDS.items() if unit.startswith(begin)) for number, unit in parts)


def parse_time(text: str, now_ns: int) -> int:
    """Wall clock, in ns, of a time: a date, with or without a time, `today` or `yesterday` likewise, a time of today, or a duration back
    from now. Without a zone the time is that of this box; a date alone is its first moment.

    Raises:
      ValueError: says what was found and what is expected.
    """
    words = " ".join(text.split())
    if words.lower() == "now":
        return now_ns
    back = words[1:] if words.startswith("-") else words[:-4] if words.lower().endswith(" ago") else None
    try:
        if back is not None:
            return now_ns - round(parse_duration(back) * 1e9)
        return _point(words, datetime.fromtimestamp(now_ns // 1_000_000_000))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; expected {_TIMES}") from None


def _point(words: str, now: datetime) -> int:
    """`now` is local, without a zone. Raises ValueError."""
    day, _, time = words.partition(" ")
    zone = ""
    if day.lower() in _DAYS:
        date = (now - timedelta(days=_DAYS[day.lower()])).date().isoformat()
    elif _CLOCK_TIME.fullmatch(words):
        date, time = now.date().isoformat(), words
    else:
        match = _DATE.fullmatch(words)
        if match is None:
            raise ValueError(words)
        date, time, zone = match[1], match[2] or "", (match[3] or "").upper()
    if time and not _CLOCK_TIME.fullmatch(time):
        raise ValueError(words)
    clock, _, fraction = (time or "00:00").partition(".")
    hours, *rest = clock.split(":")
    digits = "+0000" if zone == "Z" else zone.replace(":", "")
    offset = f"{digits[:3]}:{digits[3:]}" if zone else ""
    iso = f"{date}T{hours.zfill(2)}:{':'.join(rest)}{':00' if len(rest) == 1 else ''}.{fraction.ljust(6, '0')}{offset}"
    moment = datetime.fromisoformat(iso).astimezone()  # of a time without a zone: that of this box
    return round(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def parse_moment(text: str, start_ns: int, end_ns: int, now_ns: int) -> int:
    """A time in a recording: as parse_time takes it, or a distance: 1h30m after `start_ns`, -10m before `end_ns`.

    Raises:
      ValueError: says what was found and what is expected.
    """
    words = text.strip()
    try:
        if words.startswith("-"):
            return end_ns - round(parse_duration(words[1:]) * 1e9)
        return start_ns + round(parse_duration(words.removeprefix("+")) * 1e9)
    except ValueError:
        pass
    try:
        return parse_time(text, now_ns)
    except ValueError as error:
        raise ValueError(f"{error}, or 1h30m after the beginning, -10m before the end") from None
