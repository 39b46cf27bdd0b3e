"""Points in time as people write them, and options that take them."""

from __future__ import annotations

import re

import click

from streamcore.clock import Clock, parse_duration, parse_time


def time(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Callback of an option that takes a time: wall clock in ns for the command."""
    try:
        return None if text is None else parse_time(text, Clock.wall_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def time_or_span(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """The same; a duration means so long ago."""
    try:
        return None if text is None else Clock.wall_ns() - round(parse_duration(text) * 1e9)
    except ValueError:
        pass
    try:
        return parse_time(text or "", Clock.wall_ns())
    except ValueError as error:
        raise click.BadParameter(f"{error}, or 10m: so long ago", ctx, param) from None


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
