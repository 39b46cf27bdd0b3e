"""When two sets of measurements differ, and when nobody can tell. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

QUARTILES_FROM = 4  # values; below that a quartile is nothing but an end


@dataclass(frozen=True)
class Verdict:
    """`ratio`: the first by the second, None where that is zero. `decided`: they differ by at least what their values spread."""

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
    factor = 1.0 if mine == its else larger / smaller if smaller else None
    return Verdict(ratio, True, _said(factor, (mine > its) == (better == "higher"), words))


def _said(factor: float | None, good: bool, words: tuple[str, str]) -> str:
    """A difference that is decided; None: of a number to zero, which is no factor."""
    times = "" if factor is None else f"{factor:.2f}x "
    return "the same" if times == "1.00x " else times + words[0 if good else 1]


def judge_rounds(ours: Sequence[float], other: Sequence[float], better: str, words: tuple[str, str] = ("faster", "slower")) -> Verdict:
    """The same of two programs that took turns, value by value of one round: `ratio` is the median of the ratios of the rounds.

    What the machine does to both for longer than a round is not in it: the rates of a busy box double within minutes, their ratio does not.
    Where a round is missing, or a value is not positive, as `judge` has it.
    """
    if len(ours) != len(other) or len(ours) < 2 or min(*ours, *other) <= 0:
        return judge(ours, other, better, words)
    logs = [math.log(mine / its) for mine, its in zip(ours, other, strict=True)]
    middle = statistics.median(logs)
    ratio = math.exp(middle)
    if abs(middle) < spread(logs):
        return Verdict(ratio, False, "no verdict: spread wider than difference")
    return Verdict(ratio, True, _said(math.exp(abs(middle)), (middle > 0) == (better == "higher"), words))
