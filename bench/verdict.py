"""When two sets of measurements differ, and when nobody can tell. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

QUARTILES_FROM = 4  # values; below that a quartile is nothing but an end


@dataclass(frozen=True)
class Verdict:
    """`ratio`: median of the first by median of the second, None where that is zero. `decided`: the medians differ by more than spreads."""

    ratio: float | None
    decided: bool
    text: str


def spread(values: Sequence[float]) -> float:
    """The interquartile range of four or more values, else largest minus smallest."""
    if len(values) >= QUARTILES_FROM:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return high - low
    return max(values) - min(values)


def judge(ours: Sequence[float], other: Sequence[float], better: str, words: tuple[str, str] = ("faster", "slower")) -> Verdict:
    """How `ours` does against `other`.

    Args:
      better: "higher" or "lower".
      words: what a better and a worse value is called, e.g. ("less", "more") for CPU time.
    """
    mine, its = statistics.median(ours), statistics.median(other)
    ratio = mine / its if its else None
    if min(len(ours), len(other)) < 2:
        return Verdict(ratio, False, "no verdict: measured once")
    if abs(mine - its) < max(spread(ours), spread(other)):
        return Verdict(ratio, False, "no verdict: spread wider than difference")
    smaller, larger = sorted((abs(mine), abs(its)))
    factor = f"{larger / smaller:.2f}x " if smaller else ""
    if mine == its or factor == "1.00x ":
        return Verdict(ratio, True, "the same")
    good = (mine > its) == (better == "higher")
    return Verdict(ratio, True, factor + words[0 if good else 1])
