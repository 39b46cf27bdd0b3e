"""Points in time as people write them, and options that take them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from streamcore.cli.options import parse_duration
from streamcore.clock import Clock

_DAYS = {"today": 0, "yesterday": 1}
_CLOCK_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)\s*(Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE)
EXPECTED = "e.g. 2026-11-25, 2026-11-25T14:00, 2026-11-25 14:00:05Z, 14:00, today, yesterday 14:00, -10m, 1h30m ago, now"


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
        raise ValueError(f"{text!r} is not a time; expected {EXPECTED}") from None


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


def time(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Callback of an option that takes a time: wall clock in ns for the command."""
    try:
        return None if text is None else parse_time(text, Clock.wall_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def byte_size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Callback of an option that takes a size, e.g. 200MiB: bytes for the command."""
    from streamcore.spec.scalars import parse_size

    nbytes = None if text is None else parse_size(text)
    if text is not None and nbytes is None:
        raise click.BadParameter(f"{text!r} is not a size; expected e.g. 512KiB, 200MiB, 1.5GiB", ctx, param)
    return nbytes


def spans(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Callback of a repeated option that takes sequences: 17, 17-99, 17- (to the end), -99 (from the beginning). Both ends are meant."""
    found = []
    for word in words:
        match = re.fullmatch(r"(\d{1,18})?(-)?(\d{1,18})?", word.replace(",", ""))
        first, dash, last = match.groups() if match else (None, None, None)
        ends = (int(first or 1), int(last) if last else (LAST if dash else int(first or 0)))
        if (first is None and last is None) or not 0 < ends[0] <= ends[1]:
            raise click.BadParameter(f"{word!r} is no sequence; expected e.g. 17, 17-99, 17- or -99", ctx, param)
        found.append(ends)
    return tuple(found)


LAST = (1 << 63) - 1  # more than any sequence
