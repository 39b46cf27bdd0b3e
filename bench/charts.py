"""Bar charts as SVG text, in light and dark, without anything from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from streamcore.drawing.look import COLOURS
from streamcore_bench.results import MEASURES, OURS, Results, Row
from streamcore_bench.tables import LIMITS, number, sections

WIDTH, LEFT, RIGHT = 720, 118, 190  # pixels: the whole, the names, and what stands behind the longest bar
BAR, GAP, HEAD, TITLE = 16, 5, 26, 30
STYLE = """
.chart { font: 13px system-ui, sans-serif; margin: .8em 0; }
.chart text { fill: var(--text); } .chart .minor { fill: var(--minor); font-size: 12px; }
.chart .title { font-size: 15px; font-weight: 600; }
.chart .ours { fill: var(--ours); } .chart .other { fill: var(--other); }
.chart .limit { fill: none; stroke: var(--minor); stroke-dasharray: 4 3; } .chart .range { stroke: var(--text); stroke-width: 1.5; }
"""


def charts(results: Results) -> dict[tuple[str, str], list[Row]]:
    """(case, measure) to its rows, points in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for case, rows in sections(results).items():
        for row in rows:
            found.setdefault((case, row.measure), []).append(row)
    return found


def chart(case: str, measure: str, rows: Sequence[Row], *, alone: bool = False) -> str:
    """One chart. Where several programs were measured, bars of one point share a scale; else those of all points do.

    Args:
      alone: as a file of its own, with its style; else the page has the style.
    """
    what = MEASURES[measure]
    points = list(dict.fromkeys(row.point for row in rows))
    programs = {row.who for row in rows if row.who not in LIMITS}
    shared = max(max(row.values) for row in rows) if len(programs) < 2 else None
    title = f"{case}: {what.title}, {what.unit} ({what.better} is better)"
    parts = [f'<text class="title" x="0" y="18">{escape(title)}</text>']
    y = TITLE
    for point in points:
        of_point = [row for row in rows if row.point == point]
        parts.append(f'<text x="0" y="{y + 17}">{escape(point)}</text>')
        y += HEAD
        largest = shared or max(max(row.values) for row in of_point)
        for row in of_point:
            parts += _bar(row, y, largest)
            y += BAR + GAP
    style = f"<style>{COLOURS}{STYLE}</style>" if alone else ""
    name = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    label = escape(title, quote=True)
    head = f'<svg{name} class="chart" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img" aria-label="{label}">'
    return "\n".join([head + style, *parts, "</svg>"]) + "\n"


def _bar(row: Row, y: int, largest: float) -> list[str]:
    scale = (WIDTH - LEFT - RIGHT) / largest if largest else 0.0
    low, high = LEFT + min(row.values) * scale, LEFT + max(row.values) * scale
    kind = "ours" if row.who == OURS else "limit" if row.who in LIMITS else "other"
    middle, width = y + BAR / 2, max(row.median * scale, 1.0)
    spread = f"{number(row.median)} ({number(min(row.values))} to {number(max(row.values))})"
    return [
        f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" class="minor">{escape(row.who)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
        f'<path class="range" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {y + 4}v{BAR - 8}M{high:.1f} {y + 4}v{BAR - 8}"/>',
        f'<text x="{max(high, LEFT + width) + 8:.1f}" y="{y + 13}" class="minor">{escape(spread)}</text>',
    ]


def write_all(results: Results, folder: str) -> list[str]:
    """One file per case and measure, named after both. Returns the paths."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for (case, measure), rows in charts(results).items():
        path = place / (re.sub(r"[^a-z0-9]+", "-", f"{case}-{measure}".lower()) + ".svg")
        path.write_text(chart(case, measure, rows, alone=True), "utf-8")
        paths.append(str(path))
    return paths
