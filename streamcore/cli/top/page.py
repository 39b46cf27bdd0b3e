"""What a frame of `top` looks like: lines of exactly the width of the terminal, as many as it has."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from streamcore.cli.colours import STYLES
from streamcore.cli.top.columns import BAR_CELLS, BAR_CELLS_WIDE, WIDE, Glyphs, Line, Table, edge_columns, node_columns
from streamcore.cli.top.facts import EdgeLine, Picture
from streamcore.cli.top.view import BOTH, EDGES, GRAPH_ORDER, LOG, NODES, STACK, View
from streamcore.cli.wording import per_second, span

_FOLDING = Console(width=80)  # rich asks for one where it breaks lines
NOTICES_MAX, SENTENCE_LINES_MAX = 3, 2
ADVICE_HEIGHT = 30  # rows of a terminal from which on what would help is shown as well
HELP_TEXT = """\
up down j k   select a node; PgUp PgDn, Home End, g G
tab           nodes and edges, nodes, edges
s   r         sort by the next column (its head is underlined); reverse
/             show names that contain what is typed; Enter keeps, Esc ends it
w             rates and quantiles of the last 1, 10, 60 seconds
p             pause the selected node, or let it go on
l   t         its log, followed while its end is shown; its threads' stacks
q   Ctrl-C    leave; the run goes on
Among edges p, l and t go to the node that the edge leads to.

BUSY      share of the time inside node code
BLOCKED   waiting for a credit or a slot; IDLE: without input
WORK50    half of the calls of node code took at most so long; 95, 99 %
AGE95     95 % of the packets were at most so old when it was done with them
WAITING   packets of the depth, not yet taken; FLIGHT: of the window
WAIT50    half of the packets waited at most so long before they were taken
stuck     under one packet, or taking none that waits, for 5 s or more
A wider terminal shows more columns."""


class Sheet(NamedTuple):
    """What lies over the tables."""

    title: str
    lines: Sequence[Text]


class Page:
    """Draws for a terminal of `width` columns and `height` lines, and fills them; without a height, all there is, and no keys."""

    def __init__(self, glyphs: Glyphs, width: int, height: int | None = None):
        self._glyphs, self._width, self._height = glyphs, width, height
        self._cells = BAR_CELLS_WIDE if width >= WIDE else BAR_CELLS

    def draw(self, shown: Picture, view: View, trouble: str = "", sheet: Sheet | None = None) -> list[Text]:
        """`trouble`: why the picture is not of this moment."""
        top = self._header(shown, trouble)
        bottom = self._bottom(shown, view)
        room = None if self._height is None else max(0, self._height - len(top) - len(bottom))
        middle = self._sheet(sheet, view, room) if sheet and room is not None else self._tables(shown, view, room)
        if room is not None:
            view.page_rows = max(1, room - 2)
            middle = middle[:room] + [Text()] * (room - len(middle))
        lines = [*top, *middle, *bottom]
        return [self._cut(line) for line in (lines if self._height is None else lines[: self._height])]

    def _cut(self, line: Text) -> Text:
        line.truncate(self._width, pad=self._height is not None)
        return line

    def _header(self, shown: Picture, trouble: str) -> list[Text]:
        style = STYLES.get(shown.state, "")
        parts: list[Any] = [("run ", "dim"), (shown.run, "bold"), "  ", (shown.state.lower(), style), f"  up {span(shown.uptime_s)}"]
        if shown.graph != shown.run:
            parts += [("  graph ", "dim"), shown.graph]
        totals = shown.totals
        counts: list[Any] = [("in ", "dim"), f"{per_second(totals.in_per_s)}/s"]
        for name, value, bad in (("dropped", totals.dropped_per_s, "yellow"), ("failed", totals.failed_per_s, "red")):
            counts += [(f"  {name} ", "dim"), (f"{per_second(value)}/s", bad if value else "")]
        counts.append((f"  over the last {span(shown.seconds)}", "dim"))
        first = Text.assemble(*parts)
        if trouble:
            first = Text.assemble(first, "  ", (trouble, "bold red"))
        return [first, Text.assemble(*counts), Text()]

    def _tables(self, shown: Picture, view: View, room: int | None) -> list[Text]:
        nodes, edges, names = view.nodes(shown), view.edges(shown), _short_names(shown.edges)
        node_room, edge_room = _shares(len(nodes), len(edges), room, view.panes)
        alone = view.panes == EDGES
        lines: list[Text] = []
        if not alone:
            columns = node_columns(self._glyphs, self._cells)
            table = Table("NODE", columns, [line.id for line in shown.nodes], self._width, self._glyphs.gap)
            rows = [(line.id, line, line.id == view.node and room is not None) for line in nodes]
            at = next((number for number, line in enumerate(nodes) if line.id == view.node), 0)
            lines += _scrolled(table, view.node_sort, rows, at, node_room)
        if view.panes != NODES and edges:
            lines += [Text()] if lines else []
            edge_table = Table("EDGE", edge_columns(self._glyphs, self._cells), list(names.values()), self._width, self._glyphs.gap)
            edge_rows = [(names[line.name], line, alone and line.name == view.edge) for line in edges]
            # Beside the nodes, the edges of the selected one are kept in sight.
            wanted = [view.edge] if alone else [line.name for line in edges if view.node in (line.to_node, line.from_node)]
            at = next((number for number, line in enumerate(edges) if line.name in wanted), 0)
            lines += _scrolled(edge_table, view.edge_sort if alone else GRAPH_ORDER, edge_rows, at, edge_room)
        return lines

    def _sheet(self, sheet: Sheet, view: View, room: int) -> list[Text]:
        rows, lines = max(0, room - 1), [piece for line in sheet.lines for piece in self._folded(line)]
        furthest = max(0, len(lines) - rows)
        view.scroll = min(view.scroll, furthest)
        first = furthest - view.scroll if view.sheet == LOG else view.scroll
        title = f"{self._glyphs.rule * 2} {sheet.title} "
        if furthest:
            title += f"{self._glyphs.rule * 2} {first + 1}-{min(first + rows, len(lines))} of {len(lines)} "
        return [Text(title + self._glyphs.rule * max(0, self._width - len(title)), "bold"), *lines[first : first + rows]]

    def _folded(self, line: Text) -> Iterable[Text]:
        """Text of others is all there, on as many lines as it takes."""
        return [line] if line.cell_len <= self._width else line.wrap(_FOLDING, self._width, overflow="fold")

    def _bottom(self, shown: Picture, view: View) -> list[Text]:
        lines: list[Text] = []
        if not view.sheet:
            found = shown.notices
            most = len(found) if self._height is None else NOTICES_MAX if self._height >= 20 else 1
            kept = found[: most - 1] if len(found) > most else found
            lines = [Text.assemble((f"{notice.about} ", "bold red" if notice.bad else "bold yellow"), notice.text) for notice in kept]
            if len(kept) < len(found):
                lines.append(Text(f"and {len(found) - len(kept)} more such notices", "dim"))
            lines += [Text(line, "bold") for line in self._wrapped(shown.bottleneck)]
            if shown.advice and (self._height is None or self._height >= ADVICE_HEIGHT):
                lines += [Text(line) for line in self._wrapped(shown.advice)]
        lines = [Text(), *lines] if lines else lines
        return lines if self._height is None else [*lines, self._footer(shown, view)]

    def _wrapped(self, text: str) -> list[str]:
        gap, width = f" {self._glyphs.gap}", max(20, self._width)
        return textwrap.wrap(text, width, break_on_hyphens=False, max_lines=SENTENCE_LINES_MAX, placeholder=gap)

    def _footer(self, picture: Picture, view: View) -> Text:
        if view.said:
            return Text(view.said, "bold")
        if view.typing:
            return Text.assemble("show names that contain: ", (view.filter, "bold"), "_", ("  Enter keeps it, Esc ends it", "dim"))
        keys = [("q", "quit"), ("?", "help")]
        if view.sheet:
            keys += [("Esc", "back"), ("up down", "scroll")] + ([("t", "again")] if view.sheet == STACK else [])
        else:
            node = picture.node(view.node)
            keys += [("s", f"sort {view.sort}"), ("w", f"{view.window_s}s"), ("tab", view.panes if view.panes != BOTH else "both")]
            keys += [("/", view.filter or "filter"), ("p", "resume" if node and node.paused and view.panes != EDGES else "pause")]
            keys += [("l", "log"), ("t", "stack")]
        shown = Text()
        for key, word in keys:
            if shown.cell_len + len(key) + len(word) + 3 <= self._width:
                shown.append("  " if shown else "").append(key, "bold").append(f" {word}", "dim")
        return shown


def _scrolled(table: Table[Line], sort: str, rows: Sequence[tuple[str, Line, bool]], at: int, room: int | None) -> list[Text]:
    """The head and as many rows as there is room for, the one at `at` among them. Only those are drawn."""
    if room is None or room >= len(rows):
        return [table.heads(sort, ""), *(table.row(*row) for row in rows)]
    first = min(max(0, at - room // 2), len(rows) - room)
    return [table.heads(sort, f"{first + 1}-{first + room} of {len(rows)}"), *(table.row(*row) for row in rows[first : first + room])]


def _short_names(edges: Sequence[EdgeLine]) -> dict[str, str]:
    """By full names: ports are left out where the nodes say which edge it is."""
    pairs = Counter((line.from_node, line.to_node) for line in edges)
    return {line.name: f"{line.from_node}->{line.to_node}" if pairs[line.from_node, line.to_node] == 1 else line.name for line in edges}


def _shares(nodes: int, edges: int, room: int | None, panes: str) -> tuple[int | None, int | None]:
    """Rows for nodes and for edges, besides a head for each and a line between. Each may have what the other does not need."""
    if room is None:
        return None, None
    if panes != BOTH or not edges:
        return max(0, room - 1), max(0, room - 1)
    free = max(0, room - 3)
    for_nodes = min(nodes, max(free - edges, (free + 1) // 2))
    return for_nodes, free - for_nodes
