"""Results as text: one block per case, one line per program and measure, ours first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from streamcore_bench.results import APPEND, MEASURES, MEMCPY, OURS, Results, Row
from streamcore_bench.verdict import Verdict, judge, judge_rounds, spread

LIMITS = (MEMCPY, APPEND, "ideal")  # not programs to be faster than
HEADS = ("POINT", "MEASURE", "WHO", "MEDIAN", "MIN .. MAX", "OURS / IT", "OURS IS")


def number(value: float) -> str:
    """Three or four digits that matter: 0.412, 11.6, 1,330."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.4g}"


def against(ours: Row | None, other: Row) -> Verdict | None:
    """Ours against a peer or a limit; None for our own row and where we have none."""
    if ours is None or other.who == OURS:
        return None
    return judge_rounds(ours.values, other.values, other.better, MEASURES[other.measure].words)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    cells = [list(heads), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    to_right = set(right)
    return [
        "  ".join(cell.rjust(w) if n in to_right else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]


def sections(results: Results) -> dict[str, list[Row]]:
    """Rows by case, sorted by point and measure in the order in which they came, ours first within these."""
    points: dict[tuple[str, str], int] = {}
    for row in results.rows:
        points.setdefault((row.case, row.point), len(points))
    measures = list(MEASURES)
    found: dict[str, list[Row]] = {}
    for row in sorted(results.rows, key=lambda row: (points[row.case, row.point], measures.index(row.measure), row.who != OURS)):
        found.setdefault(row.case, []).append(row)
    return found


def report(results: Results, peers: Sequence[str] = ()) -> str:
    """All that was measured. A peer that was asked for and gave nothing at a point stands there with a dash."""
    blocks = []
    for case, rows in sections(results).items():
        cells: list[tuple[str, ...]] = []
        for point in dict.fromkeys(row.point for row in rows):
            of_point = [row for row in rows if row.point == point]
            there = {row.who for row in of_point}
            lines = [_cells(results, row) for row in of_point]
            lines += [("", name, "-", "", "", "") for name in peers if name not in there]
            shown = [lines[0], *(("" if line[0] == before[0] else line[0], *line[1:]) for before, line in itertools.pairwise(lines))]
            cells += [(point if not number else "", *line) for number, line in enumerate(shown)]
        blocks.append("\n".join([case, *table(HEADS, cells, right=(3, 5))]))
    return "\n\n".join(blocks)


def _cells(results: Results, row: Row) -> tuple[str, ...]:
    """From MEASURE to the end of the line."""
    verdict = against(results.row(row.case, row.point, OURS, row.measure), row)
    ratio = "" if verdict is None else "-" if verdict.ratio is None else f"{verdict.ratio:.2f}"
    text = "" if verdict is None or row.who in LIMITS else verdict.text
    return _heading(row), row.who, number(row.median), _span(row), ratio, text


def _heading(row: Row) -> str:
    name = row.measure.replace("_", " ")
    return name if row.measure in ("lost", "threads", "seconds") else f"{name.rpartition(' ')[0] or name}, {row.unit}"


def _span(row: Row) -> str:
    return f"{number(min(row.values))} .. {number(max(row.values))}"


def comparison(before: Results, after: Results) -> str:
    """Each row that both have: both medians, their ratio, and what the second is against the first."""
    cells, missing = [], 0
    for row in after.rows:
        old = before.row(*row.key)
        if old is None:
            missing += 1
            continue
        verdict = judge(row.values, old.values, row.better, MEASURES[row.measure].words)
        ratio = "-" if verdict.ratio is None else f"{verdict.ratio:.2f}"
        what = f"{row.case} {row.point}"
        cells.append((what, row.measure, row.who, number(old.median), number(row.median), ratio, _widest(old, row), verdict.text))
    heads = ("POINT", "MEASURE", "WHO", "A", "B", "B / A", "SPREAD", "B IS")
    lines = table(heads, cells, right=(3, 4, 5, 6)) if cells else ["no row is in both files"]
    only = missing + sum(after.row(*row.key) is None for row in before.rows)
    return "\n".join(lines + ([f"{only} rows are in one of the files only"] if only else []))


def _widest(one: Row, other: Row) -> str:
    return number(max(spread(one.values), spread(other.values)))
