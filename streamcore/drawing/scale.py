"""Axes: round numbers for their ticks, and the unit in which numbers are short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

RATE, NS, BYTES, SHARE, COUNT = "rate", "ns", "bytes", "share", "count"  # what numbers are
SECONDS = "seconds"

_UNITS: dict[str, Sequence[tuple[float, str]]] = {
    RATE: ((1, "packets/s"), (1e3, "thousand/s"), (1e6, "million/s")),
    COUNT: ((1, "packets"), (1e3, "thousand packets"), (1e6, "million packets")),
    NS: ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")),
    BYTES: ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB")),
    SHARE: ((0.01, "%"),),
    SECONDS: ((1, "s"), (60, "min"), (3600, "h"), (86400, "d")),
}
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_TURNS = {SECONDS: 2.0}  # a unit is used from so many of it on


class Unit(NamedTuple):
    size: float
    name: str


def unit_of(what: str, largest: float) -> Unit:
    """The largest unit of which `largest` is at least one."""
    usable = [Unit(size, name) for size, name in _UNITS[what] if largest >= size * _TURNS.get(what, 1.0)]
    return usable[-1] if usable else Unit(*_UNITS[what][0])


def ticks(largest: float, most: int = 4) -> list[float]:
    """Round numbers from 0 at equal distances, at most `most` above 0, the last one not below `largest`."""
    if not largest > 0 or not math.isfinite(largest):
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(largest / most))
    step = next(power * factor for factor in (*_ROUND, 20.0) if power * factor * most >= largest * (1 - 1e-9))
    return [round(number * step, 12) for number in range(math.ceil(largest / step * (1 - 1e-9)) + 1)]


def short(value: float) -> str:
    """Three digits that matter: 0, 0.412, 11.6, 1,330."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "?"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def amount(what: str, value: float | None) -> str:
    """A number with its unit: 32.8 ms, 29.1 MiB, 98 %; a dash for none."""
    if value is None:
        return "\N{EN DASH}"
    unit = unit_of(what, abs(value))
    return f"{short(value / unit.size)} {unit.name}"
