"""Small plots over time as SVG: lines, bands between two of them, and marks. The page has their STYLE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from streamcore.drawing.look import safe
from streamcore.drawing.scale import SECONDS, SHARE, amount, short, ticks, unit_of

WIDTH, HEIGHT = 256, 140
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 40, 20  # around the lines
_PLAIN, _DASHED, _BAD, _WORSE = "line", "line dashed", "line bad", "line bad dashed"
MAIN, SECOND, DROPS, FAILURES = _PLAIN, _DASHED, _BAD, _WORSE  # how a series is drawn

STYLE = """
.plot { width: 100%; background: var(--card); border-radius: 6px; font: 10px system-ui, sans-serif; }
.plot text { fill: var(--minor); } .plot .name { fill: var(--text); font-size: 11px; font-weight: 600; }
.plot .grid { stroke: var(--line); stroke-width: .7; } .plot .axis { stroke: var(--other); stroke-width: 1; }
.plot .line { fill: none; stroke: var(--hue); stroke-width: 1.5; stroke-linejoin: round; } .plot .dashed { stroke-dasharray: 4 2.5; }
.plot .bad { stroke: var(--bad); } .plot .band { fill: var(--hue); opacity: .16; }
.plot .limit { stroke: var(--other); stroke-dasharray: 2 3; }
.plot .column { fill: transparent; } .plot .column:hover { fill: var(--text); opacity: .1; }
.plot .mark { stroke: var(--warn); stroke-width: 1.2; fill: var(--warn); } .plot .mark.failed { stroke: var(--bad); fill: var(--bad); }
"""


@dataclass(frozen=True)
class Series:
    """`values`: one per point, None where nothing was measured. `drawn`: one of those above."""

    name: str
    values: Sequence[float | None]
    drawn: str = MAIN


@dataclass(frozen=True)
class Event:
    """A mark at one moment. `kind` chooses its colour: failed is red."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True)
class Plot:
    """`what` of scale.py says what the numbers are. `band`: fill between the first two series. `limit`: a line of which it is the text."""

    name: str
    what: str
    series: Sequence[Series]
    band: bool = False
    limit: tuple[float, str] | None = None


@dataclass(frozen=True)
class Frame:
    """The time that all plots of a page share: where each point begins and ends. `columns_max`: of parts of it that have a tooltip."""

    begin_s: Sequence[float]
    end_s: Sequence[float]
    columns_max: int
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    @property
    def whole_s(self) -> float:
        return self.end_s[-1] if self.end_s else 0.0

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, at_s / (self.whole_s or 1.0))


def draw(plot: Plot, frame: Frame, of: str, hue: int, events: Sequence[Event] = ()) -> str:
    """One plot. `of`: the node or edge, for those who hear the page instead of seeing it."""
    known = [value for series in plot.series for value in series.values if value is not None]
    largest = max([*known, *([plot.limit[0]] if plot.limit and max(known, default=0.0) > 0.2 * plot.limit[0] else [])], default=0.0)
    largest = 1.0 if plot.what == SHARE else largest  # so that shares of nodes can be compared
    unit = unit_of(plot.what, largest)
    steps = ticks(largest / unit.size)
    top = steps[-1] * unit.size

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, value / top))

    number = next(frame.numbers)
    parts = [
        f'<svg class="plot" style="--hue: var(--hue{hue})" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-labelledby="t{number} d{number}">',
        f'<title id="t{number}">{safe(of)}: {safe(plot.name)}, {unit.name}</title>',
        f'<desc id="d{number}">{safe(_said(plot, events))}</desc>',
        f'<text class="name" x="8" y="15">{safe(plot.name)}</text><text x="8" y="27">{unit.name}</text>',
        *_legend(plot),
        *_grid(steps, unit.size, y, frame),
    ]
    if plot.limit and plot.limit[0] <= top:
        at = y(plot.limit[0])
        parts.append(f'<path class="limit" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"><title>{safe(plot.limit[1])}</title></path>')
    if plot.band:
        parts.append(_band(plot.series[0].values, plot.series[1].values, frame, y))
    parts += [f'<path class="{series.drawn}" d="{_line(series.values, frame, y)}"/>' for series in plot.series]
    parts += _columns(plot, frame)
    parts += [_mark(event, frame) for event in events]
    return "".join([*parts, "</svg>"])


def _said(plot: Plot, events: Sequence[Event]) -> str:
    parts = []
    for series in plot.series:
        known = [value for value in series.values if value is not None]
        if known:
            mean = sum(known) / len(known)
            parts.append(
                f"{series.name}: {amount(plot.what, min(known))} to {amount(plot.what, max(known))}, mean {amount(plot.what, mean)}"
            )
    parts += [f"{event.kind} at {event.at_s:.1f} s" for event in events[:10]]
    return "; ".join(parts)


def _legend(plot: Plot) -> list[str]:
    """From the right, since the name stands on the left."""
    parts, x = [], float(WIDTH - RIGHT)
    for series in reversed(plot.series):
        width = 6.2 * len(series.name) + 5  # as wide as fonts are
        parts.append(f'<text x="{x:.0f}" y="15" text-anchor="end">{safe(series.name)}</text>')
        parts.append(f'<path class="{series.drawn}" d="M{x - width - 14:.0f} 11.5h13"/>')
        x -= width + 22
    return parts


def _grid(steps: Sequence[float], size: float, y: Callable[[float], float], frame: Frame) -> list[str]:
    parts = []
    for step in steps:
        at = y(step * size)
        parts.append(f'<path class="{"grid" if step else "axis"}" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 3.3:.1f}" text-anchor="end">{short(step)}</text>')
    unit = unit_of(SECONDS, frame.whole_s)
    times = [tick for tick in ticks(frame.whole_s / unit.size, 5) if tick * unit.size <= frame.whole_s * 1.001]
    for tick in times:
        at = frame.x(tick * unit.size)
        text = f"{short(tick)} {unit.name}" if tick == times[-1] else short(tick)
        anchor = "end" if at > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<path class="axis" d="M{at:.1f} {HEIGHT - BOTTOM}v3"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{text}</text>')
    return parts


def _stretches(values: Sequence[float | None]) -> list[tuple[int, int]]:
    """(first, behind the last) of the parts without a None."""
    found, first = [], None
    for index, value in enumerate([*values, None]):
        if value is not None and first is None:
            first = index
        elif value is None and first is not None:
            found.append((first, index))
            first = None
    return found


def _corners(values: Sequence[float | None], first: int, end: int, frame: Frame, y: Callable[[float], float]) -> list[str]:
    """From where the first point begins over the middle of each to where the last one ends."""
    places = [frame.begin_s[first], *((frame.begin_s[i] + frame.end_s[i]) / 2 for i in range(first, end)), frame.end_s[end - 1]]
    heights = [values[first], *values[first:end], values[end - 1]]
    return [f"{frame.x(at_s):.1f} {y(height or 0.0):.1f}" for at_s, height in zip(places, heights, strict=True)]


def _line(values: Sequence[float | None], frame: Frame, y: Callable[[float], float]) -> str:
    return "".join("M" + "L".join(_corners(values, first, end, frame, y)) for first, end in _stretches(values))


def _band(low: Sequence[float | None], high: Sequence[float | None], frame: Frame, y: Callable[[float], float]) -> str:
    shapes = []
    for first, end in _stretches([None if a is None else b for a, b in zip(low, high, strict=True)]):
        way = [*_corners(low, first, end, frame, y), *reversed(_corners(high, first, end, frame, y))]
        shapes.append("M" + "L".join(way) + "Z")
    return f'<path class="band" d="{"".join(shapes)}"/>'


def _columns(plot: Plot, frame: Frame) -> Iterator[str]:
    """What the pointer finds: the numbers of a point, or the largest of several where there are too many to hit."""
    points = len(frame.begin_s)
    each = max(1, -(-points // frame.columns_max))
    for first in range(0, points, each):
        last = min(first + each, points) - 1
        begin_s, end_s = frame.begin_s[first], frame.end_s[last]
        lines = [f"{begin_s:,.1f} to {end_s:,.1f} s"]
        for series in plot.series:
            known = [value for value in series.values[first : last + 1] if value is not None]
            if known:
                lines.append(f"{series.name} {'up to ' if len(known) > 1 else ''}{amount(plot.what, max(known))}")
        x, width = frame.x(begin_s), frame.x(end_s) - frame.x(begin_s)
        text = "&#10;".join(map(safe, lines))
        size = f'x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
        yield f'<rect class="column" {size}><title>{text}</title></rect>'


def _mark(event: Event, frame: Frame) -> str:
    x = frame.x(event.at_s)
    kind = " failed" if event.kind == "failed" else ""
    shape = f"M{x:.1f} {HEIGHT - BOTTOM}V{TOP}M{x - 4:.1f} {TOP - 5}h8l-4 6z"
    return f'<path class="mark{kind}" d="{shape}"><title>{event.at_s:.1f} s, {safe(event.kind)}: {safe(event.text)}</title></path>'
