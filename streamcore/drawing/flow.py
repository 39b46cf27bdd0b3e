"""A graph that has run, as SVG: nodes with how busy they were, edges with what went over them and what they lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamcore.drawing.layers import Layout, lay_out
from streamcore.drawing.look import HUES, safe, shortened

BOX_WIDTH, BOX_HEIGHT = 164, 58
COLUMN, ROW = 286, 92  # from one to the next
MARGIN = 24
LEAST = 0.65  # of its size: what is wider than the window then is scrolled, since smaller words could not be read
BESIDE = 26  # between edges of one pair of nodes
CHARS = 18  # of an id in a box; smaller texts may have a few more

STYLE = """
.flow { font: 11px system-ui, sans-serif; } .flow text { fill: var(--text); } .flow .small { fill: var(--minor); font-size: 10.5px; }
.flow .id { font-size: 12.5px; font-weight: 600; } .flow .box { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.flow .slow .box { stroke: var(--warn); stroke-width: 2.5; } .flow .failed .box { stroke: var(--bad); stroke-width: 2.5; }
.flow .why { fill: var(--warn); font-weight: 600; } .flow .stripe, .flow .busy { fill: var(--hue); } .flow .rest { fill: var(--line); }
.flow .edge path { fill: none; stroke: var(--other); stroke-width: 1.6; } .flow .edge .head { fill: var(--other); stroke: none; }
.flow .edge.lossy path { stroke: var(--bad); } .flow .edge.lossy .head { fill: var(--bad); }
.flow .edge.back path { stroke-dasharray: 5 4; }
.flow .words { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; text-anchor: middle; }
.flow .loss { fill: var(--bad); font-weight: 600; }
@media print { .flow { min-width: 0 !important; } }
"""


@dataclass(frozen=True)
class FlowNode:
    """`busy`: from 0 to 1. `said`: everything that is known of it, for its tooltip."""

    id: str
    plugin: str
    words: str
    said: str
    busy: float = 0.0
    slow: bool = False
    failed: bool = False


@dataclass(frozen=True)
class FlowEdge:
    """`loss`: a few words in red, if anything was lost on it."""

    from_node: str
    to_node: str
    words: str
    said: str
    loss: str = ""


def draw(nodes: Sequence[FlowNode], edges: Sequence[FlowEdge], title: str) -> str:
    """The whole graph. Edges to nodes that are not there are left out."""
    ids = {node.id for node in nodes}
    edges = [edge for edge in edges if edge.from_node in ids and edge.to_node in ids]
    layout = lay_out([node.id for node in nodes], [(edge.from_node, edge.to_node) for edge in edges])
    width = max(0, layout.columns - 1) * COLUMN + BOX_WIDTH + 2 * MARGIN
    height = (layout.rows - 1) * ROW + BOX_HEIGHT + 2 * MARGIN + (BESIDE * sum(layout.back) + 10 if any(layout.back) else 0)
    parts = [
        f'<svg class="flow" style="min-width: {LEAST * width:.0f}px" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" aria-labelledby="flow-t flow-d">',
        f'<title id="flow-t">{safe(title)}</title><desc id="flow-d">{safe(_said(nodes, edges))}</desc>',
        *_edges(edges, layout),
    ]
    for number, node in enumerate(nodes):
        parts += _node(node, layout.places[node.id], number)
    return "".join([*parts, "</svg>"])


def _said(nodes: Sequence[FlowNode], edges: Sequence[FlowEdge]) -> str:
    ways = (f"{edge.from_node} to {edge.to_node}: {edge.words}{' ' if edge.loss else ''}{edge.loss}" for edge in edges[:100])
    return f"{len(nodes)} nodes, {len(edges)} edges. " + "; ".join(ways)


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    """Upper left, in pixels."""
    return MARGIN + place[0] * COLUMN, MARGIN + place[1] * ROW


def _node(node: FlowNode, place: tuple[int, float], number: int) -> Iterator[str]:
    x, y = _corner(place)
    kinds = "node" + (" slow" if node.slow else "") + (" failed" if node.failed else "")
    yield f'<g class="{kinds}" style="--hue: var(--hue{number % HUES})"><title>{safe(node.said)}</title>'
    yield f'<rect class="box" x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
    yield f'<rect class="stripe" x="{x + 6:.1f}" y="{y + 8:.1f}" width="3.5" height="{BOX_HEIGHT - 22}" rx="1.5"/>'
    yield f'<text class="id" x="{x + 16:.1f}" y="{y + 17:.1f}">{safe(shortened(node.id, CHARS))}</text>'
    yield f'<text class="small" x="{x + 16:.1f}" y="{y + 31:.1f}">{safe(shortened(node.plugin, CHARS + 6))}</text>'
    yield f'<text class="small" x="{x + 16:.1f}" y="{y + 44:.1f}">{safe(shortened(node.words, CHARS + 7))}</text>'
    full = BOX_WIDTH - 12
    yield f'<rect class="rest" x="{x + 6:.1f}" y="{y + BOX_HEIGHT - 8:.1f}" width="{full}" height="3" rx="1.5"/>'
    busy = full * min(1.0, max(0.0, node.busy))
    yield f'<rect class="busy" x="{x + 6:.1f}" y="{y + BOX_HEIGHT - 8:.1f}" width="{busy:.1f}" height="3" rx="1.5"/>'
    if node.slow:
        yield f'<text class="why" x="{x:.1f}" y="{y - 6:.1f}">holds the graph back</text>'
    yield "</g>"


def _edges(edges: Sequence[FlowEdge], layout: Layout) -> Iterator[str]:
    leaves, arrives = _slots(layout, 0), _slots(layout, -1)
    backs = 0
    for number, edge in enumerate(edges):
        kinds = "edge" + (" lossy" if edge.loss else "") + (" back" if layout.back[number] else "")
        yield f'<g class="{kinds}"><title>{safe(edge.said)}</title>'
        if layout.back[number]:
            yield from _back(edge, layout, number, MARGIN + (layout.rows - 1) * ROW + BOX_HEIGHT + 22 + BESIDE * backs)
            backs += 1
        else:
            yield from _forward(edge, layout.ways[number], leaves[number], arrives[number])
        yield "</g>"


def _slots(layout: Layout, end: int) -> dict[int, float]:
    """How far from the middle of its node each edge begins (`end` 0) or ends (-1): in the order of what is on the other side."""
    of_place: dict[tuple[int, float], list[int]] = {}
    for number, way in enumerate(layout.ways):
        if not layout.back[number]:
            of_place.setdefault(way[end], []).append(number)
    found = {}
    for numbers in of_place.values():
        numbers.sort(key=lambda number: (layout.ways[number][1 if end == 0 else -2][1], number))
        step = min(BESIDE, (BOX_HEIGHT - 14) / max(1, len(numbers) - 1))
        found.update({number: step * (index - (len(numbers) - 1) / 2) for index, number in enumerate(numbers)})
    return found


def _forward(edge: FlowEdge, way: list[tuple[int, float]], leaves: float, arrives: float) -> Iterator[str]:
    points = [(x, y + BOX_HEIGHT / 2) for x, y in map(_corner, way)]
    points[0], points[-1] = (points[0][0], points[0][1] + leaves), (points[-1][0], points[-1][1] + arrives)
    path, x, y = "", points[0][0] + BOX_WIDTH, points[0][1]
    start = (x, y)
    for at, (next_x, next_y) in enumerate(points[1:], 1):
        last = at == len(points) - 1
        end_x = next_x - (7 if last else 0)
        bend = (end_x - x) / 2
        path += f"M{x:.1f} {y:.1f}C{x + bend:.1f} {y:.1f} {end_x - bend:.1f} {next_y:.1f} {end_x:.1f} {next_y:.1f}"
        x, y = end_x, next_y
        if not last:  # straight through the column of nodes
            path += f"H{next_x + BOX_WIDTH:.1f}"
            x = next_x + BOX_WIDTH
    yield f'<path d="{path}"/>{_head(x, y)}'
    share = 0.62 if leaves else 0.5  # of the first stretch, where the words stand: edges that leave one node are apart there
    smooth = share * share * (3 - 2 * share)
    yield from _words(edge, start[0] + share * (points[1][0] - start[0]), start[1] + smooth * (points[1][1] - start[1]))


def _back(edge: FlowEdge, layout: Layout, number: int, lane: float) -> Iterator[str]:
    """Below all nodes."""
    (from_x, from_y), (to_x, to_y) = _corner(layout.ways[number][0]), _corner(layout.ways[number][-1])
    out, into, radius = from_x + BOX_WIDTH, to_x, 10
    y, end_y = from_y + BOX_HEIGHT / 2, to_y + BOX_HEIGHT / 2
    down = f"M{out:.1f} {y + 12:.1f}q{radius} 0 {radius} {radius}V{lane - radius:.1f}q0 {radius} -{radius} {radius}"
    up = f"H{into - 6:.1f}q-{radius} 0 -{radius} -{radius}V{end_y + 12 + radius:.1f}q0 -{radius} {radius} -{radius}"
    yield f'<path d="{down}{up}"/>{_head(into - 7, end_y + 12)}'
    yield from _words(edge, (out + into) / 2, lane)


def _head(x: float, y: float) -> str:
    return f'<path class="head" d="M{x + 6:.1f} {y:.1f}l-8 -4v8z"/>'


def _words(edge: FlowEdge, x: float, y: float) -> Iterator[str]:
    yield f'<text class="small words" x="{x:.1f}" y="{y - 5:.1f}">{safe(edge.words)}</text>'
    if edge.loss:
        yield f'<text class="small words loss" x="{x:.1f}" y="{y + 13:.1f}">{safe(edge.loss)}</text>'
