"""What the user of `top` has chosen: window, order, filter, selection, sheet. Keys change it; it says which rows are shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from streamcore.cli.top.facts import EdgeLine, NodeLine, Picture
from streamcore.telemetry.history import WINDOWS_S

BOTH, NODES, EDGES = PANES = ("nodes and edges", "nodes", "edges")
LOG, STACK, HELP, QUIT = "log", "stack", "help", "quit"
GRAPH_ORDER = "graph"
FILTER_CHARS_MAX = 40

Line = TypeVar("Line", NodeLine, EdgeLine)
Choice = TypeVar("Choice")

# By the heads of their columns. Numbers go from large to small, names from small to large.
BY_NAME = ("NODE", "EDGE")
NODE_SORTS: dict[str, Callable[[NodeLine], Any]] = {
    "NODE": lambda line: line.id,
    "BUSY": lambda line: line.busy,
    "BLOCKED": lambda line: line.blocked,
    "IN/S": lambda line: line.in_per_s,
    "WORK95": lambda line: line.work.p95_ns or 0.0,
    "CPU": lambda line: line.cpu_percent or 0.0,
    "MEM": lambda line: line.rss_bytes or 0,
    "RESTARTS": lambda line: line.restarts,
}
EDGE_SORTS: dict[str, Callable[[EdgeLine], Any]] = {
    "EDGE": lambda line: line.name,
    "WAITING": lambda line: (line.waiting / line.depth, line.waiting),
    "SENT/S": lambda line: line.sent_per_s,
    "DROP/S": lambda line: line.dropped_per_s,
    "WAIT95": lambda line: line.wait.p95_ns or 0.0,
}


class Order(NamedTuple):
    """What a key asks for beyond the view: QUIT, or something about a node: `pause`, `resume`, LOG, STACK."""

    verb: str
    node: str = ""


@dataclass
class View:
    """`sheet`: LOG, STACK or HELP, over the tables, of `sheet_node`. `scroll`: lines from the end of a log, from the beginning of others.

    `node`, `edge`: the selected ones. `on_top`: that is the first of each table, whichever it becomes, until it is moved or acted on.
    `said`: an answer to the last key, until the next one. `page_rows`: how far PgUp and PgDn go.
    """

    window_s: int = 10
    panes: str = BOTH
    node_sort: str = GRAPH_ORDER
    edge_sort: str = GRAPH_ORDER
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    node: str = ""
    edge: str = ""
    on_top: bool = True
    sheet: str = ""
    sheet_node: str = ""
    scroll: int = 0
    page_rows: int = 10
    said: str = ""

    @property
    def sort(self) -> str:
        return self.edge_sort if self.panes == EDGES else self.node_sort

    def nodes(self, shown: Picture) -> list[NodeLine]:
        wanted = [line for line in shown.nodes if self.filter in line.id]
        return _sorted(wanted, NODE_SORTS.get(self.node_sort), self.node_sort, self.reverse and self.panes != EDGES)

    def edges(self, shown: Picture) -> list[EdgeLine]:
        wanted = [line for line in shown.edges if self.filter in line.name]
        order = self.edge_sort if self.panes == EDGES else GRAPH_ORDER
        return _sorted(wanted, EDGE_SORTS.get(order), order, self.reverse and self.panes == EDGES)

    def settle(self, shown: Picture) -> None:
        """Let the selection be among what is shown: of what has gone the first one takes the place."""
        nodes, edges = [line.id for line in self.nodes(shown)], [line.name for line in self.edges(shown)]
        if self.on_top or self.node not in nodes:
            self.node = nodes[0] if nodes else ""
        if self.on_top or self.edge not in edges:
            self.edge = edges[0] if edges else ""

    def press(self, key: str, shown: Picture) -> Order | None:
        """Change the view as the key says; what has to be done beyond that is returned."""
        self.said = ""
        if self.typing:
            self._type(key)
        elif key == "q":
            return Order(QUIT)
        elif self.sheet:
            return self._turn_sheet(key)
        elif key in _STEPS:
            self._move(self._step(key), shown)
        elif key in _ORDERS:
            return self._order(_ORDERS[key], shown)
        elif key == "?":
            self.open(HELP)
        else:
            self._change(key)
        self.settle(shown)
        return None

    def open(self, sheet: str, node: str = "") -> None:
        self.sheet, self.sheet_node, self.scroll = sheet, node, 0

    def _change(self, key: str) -> None:
        if key == "w":
            self.window_s = _next(WINDOWS_S, self.window_s)
        elif key == "tab":
            self.panes = _next(PANES, self.panes)
        elif key == "s" and self.panes == EDGES:
            self.edge_sort = _next((GRAPH_ORDER, *EDGE_SORTS), self.edge_sort)
        elif key == "s":
            self.node_sort = _next((GRAPH_ORDER, *NODE_SORTS), self.node_sort)
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.typing = True
        elif key == "esc":
            self.filter = ""
        if key in ("s", "r"):  # who sorts wants to see what comes first then
            self.on_top = True

    def _type(self, key: str) -> None:
        """Rows follow while the name is typed; Enter keeps it, Esc takes it back."""
        if key == "enter":
            self.typing = False
        elif key == "esc":
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.filter) < FILTER_CHARS_MAX:
            self.filter += key

    def _step(self, key: str) -> int:
        step = _STEPS[key]
        return step * self.page_rows if key in ("pgup", "pgdn") else step

    def _move(self, step: int, shown: Picture) -> None:
        self.settle(shown)
        self.on_top = False
        names = [line.name for line in self.edges(shown)] if self.panes == EDGES else [line.id for line in self.nodes(shown)]
        if not names:
            return
        at = names.index(self.edge if self.panes == EDGES else self.node)
        name = names[min(max(at + step, 0), len(names) - 1)]
        if self.panes == EDGES:
            self.edge = name
        else:
            self.node = name

    def _turn_sheet(self, key: str) -> Order | None:
        if key in ("esc", "enter") or (key == "?" and self.sheet == HELP):
            self.sheet = ""
        elif key in _STEPS:
            step = self._step(key)
            self.scroll = max(0, self.scroll + (-step if self.sheet == LOG else step))
        elif _ORDERS.get(key) in (LOG, STACK) and self.sheet_node:
            return Order(_ORDERS[key], self.sheet_node)
        return None

    def _order(self, verb: str, shown: Picture) -> Order | None:
        """Of the selected node; of an edge, its consumer is meant."""
        self.settle(shown)
        self.on_top = False  # the one that was acted on stays the selected one
        edge = next((line for line in shown.edges if line.name == self.edge), None)
        node = shown.node((edge.to_node if edge else "") if self.panes == EDGES else self.node)
        if node is None:
            self.said = "nothing is selected"
            return None
        return Order(("resume" if node.paused else "pause") if verb == "pause" else verb, node.id)


_FAR = 1_000_000
_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -1, "pgdn": 1, "home": -_FAR, "g": -_FAR, "end": _FAR, "G": _FAR}
_ORDERS = {"p": "pause", "l": LOG, "enter": LOG, "t": STACK}


def _next(choices: Sequence[Choice], now: Choice) -> Choice:
    return choices[(choices.index(now) + 1) % len(choices)]


def _sorted(lines: list[Line], key: Callable[[Line], Any] | None, order: str, reverse: bool) -> list[Line]:
    """What is equal keeps the order of the graph, so that rows without a difference do not change places."""
    if key is not None:
        lines = sorted(lines, key=key, reverse=order not in BY_NAME)
    return lines[::-1] if reverse else lines
