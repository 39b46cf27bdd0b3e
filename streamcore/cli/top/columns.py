"""The columns of the tables of `top`: cells of a fixed width, so that nothing jumps, and which of them fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from rich.text import Text

from streamcore.cli.colours import STYLES
from streamcore.cli.top.facts import EdgeLine, NodeLine
from streamcore.cli.wording import brief, fit, per_second, short

BAR_CELLS, BAR_CELLS_WIDE, WIDE = 5, 10, 120  # a terminal of so many columns has room for longer bars
NAME_CHARS_MIN, NAME_CHARS = 8, 18  # the least that tells names apart, and what is kept free for them before further columns get room
BUSY_SHARE, FULL_SHARE = 0.9, 0.8  # from here on bars are yellow

Line = TypeVar("Line")


class Glyphs(NamedTuple):
    """What bars are drawn with."""

    full: str
    half: str
    track: str
    gap: str  # what stands for characters left out
    rule: str

    def bar(self, share: float, cells: int, style: str) -> Text:
        """In steps of half a cell. What is more than nothing shows at least one step."""
        steps = min(max(round(share * cells * 2), share >= 0.005), cells * 2)
        filled = self.full * (steps // 2) + (self.half if steps % 2 else "")
        return Text.assemble((filled, style), (self.track * (cells - len(filled)), "dim"))


UNICODE = Glyphs("━", "╸", "─", "…", "─")
ASCII = Glyphs("#", ":", ".", "~", "-")


@dataclass(frozen=True)
class Column(Generic[Line]):
    """One column behind the name. `rank`: those of low ranks stay when the terminal is narrow."""

    head: str
    width: int
    rank: int
    cell: Callable[[Line], Text]
    left: bool = False


def brief_size(nbytes: float | None) -> str:
    """Bytes in at most five characters, with a binary unit: 980K, 9.8M, 123M, 1.2G."""
    if nbytes is None:
        return "-"
    unit = 0
    while nbytes >= 999.5 and unit < 4:
        nbytes, unit = nbytes / 1024, unit + 1
    return f"{nbytes:.1f}{'BKMGT'[unit]}" if unit and nbytes < 9.95 else f"{nbytes:.0f}{'BKMGT'[unit]}"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _plain(text: str, style: str = "") -> Text:
    return Text("-" if text == "" else text, "dim" if text in ("-", "0", "0%", "") else style)


def _state(line: NodeLine) -> Text:
    return Text(line.shown_state, STYLES.get(line.shown_state.upper(), ""))


def node_columns(glyphs: Glyphs, cells: int) -> tuple[Column[NodeLine], ...]:
    """WORK50, 95, 99: calls of node code, of which so many percent took at most so long. AGE95: of packets, when their work was done."""

    def busy(line: NodeLine) -> Text:
        bar = glyphs.bar(line.busy, cells, "yellow" if line.busy >= BUSY_SHARE else "green")
        return Text.assemble(bar, f"{_percent(line.busy):>5}")

    return (
        Column("STATE", 8, 0, _state, left=True),
        Column("IN/S", 6, 1, lambda line: _plain("-" if line.role == "source" else per_second(line.in_per_s))),
        Column("OUT/S", 6, 1, lambda line: _plain("-" if line.role == "sink" else per_second(line.out_per_s))),
        Column("BUSY", cells + 5, 2, busy),
        Column("IDLE", 5, 11, lambda line: _plain(_percent(line.idle))),
        Column("BLOCKED", 7, 3, lambda line: _plain(_percent(line.blocked), "yellow" if line.blocked >= 0.1 else "")),
        Column("WORK50", 6, 7, lambda line: _plain(brief(line.work.p50_ns))),
        Column("WORK95", 6, 4, lambda line: _plain(brief(line.work.p95_ns))),
        Column("WORK99", 6, 8, lambda line: _plain(brief(line.work.p99_ns))),
        Column("AGE95", 6, 9, lambda line: _plain(brief(line.end_to_end.p95_ns))),
        Column("CPU", 5, 5, lambda line: _plain("-" if line.cpu_percent is None else f"{line.cpu_percent:.0f}%")),
        Column("MEM", 5, 6, lambda line: _plain(brief_size(line.rss_bytes))),
        Column("FAIL/S", 6, 10, lambda line: _plain(per_second(line.failed_per_s), "red")),
        Column("RESTARTS", 8, 12, lambda line: _plain(f"{line.restarts:,}", "yellow")),
        Column("PID", 7, 13, lambda line: _plain(str(line.pid or "-"))),
    )


def edge_columns(glyphs: Glyphs, cells: int) -> tuple[Column[EdgeLine], ...]:
    """WAITING of the depth, not yet taken; FLIGHT of the window, not yet completed. WAIT50, 95, 99: from sending to taking."""

    def waiting(line: EdgeLine) -> Text:
        share = line.waiting / line.depth
        # One packet in an edge of depth 1 is its ordinary state, and no jam.
        style = "yellow" if share >= FULL_SHARE and line.depth > 1 else "green"
        return Text.assemble(glyphs.bar(share, cells, style), f" {_of(line.waiting, line.depth):>9}")

    return (
        Column("POLICY", 11, 2, lambda line: Text(line.policy), left=True),
        Column("WAITING", cells + 10, 0, waiting),
        Column("FLIGHT", 9, 3, lambda line: _plain(_of(line.in_flight, line.window))),
        Column("SENT/S", 6, 1, lambda line: _plain(per_second(line.sent_per_s))),
        Column("DROP/S", 6, 1, lambda line: _plain(per_second(line.dropped_per_s), "yellow")),
        Column("WAIT50", 6, 5, lambda line: _plain(brief(line.wait.p50_ns))),
        Column("WAIT95", 6, 4, lambda line: _plain(brief(line.wait.p95_ns))),
        Column("WAIT99", 6, 6, lambda line: _plain(brief(line.wait.p99_ns))),
        Column("CREDIT", 6, 8, lambda line: _plain(short(line.credit))),
        Column("BYTES/S", 7, 7, lambda line: _plain(brief_size(line.bytes_per_s))),
    )


def _of(part: int, whole: int) -> str:
    return f"{short(part)}/{short(whole)}"


class Table(Generic[Line]):
    """A table of a given width: the name, and the columns that fit."""

    def __init__(self, head: str, columns: Sequence[Column[Line]], names: Sequence[str], width: int, gap: str):
        self._head, self._width, self._gap = head, width, gap
        longest = max([len(head), *map(len, names)])
        # A long name gives way to a column of numbers, but not to more than it takes to tell names apart.
        free = width - min(longest, NAME_CHARS)
        kept = set()
        for column in sorted(columns, key=lambda column: column.rank):
            if column.rank and free < column.width + 1:
                break
            kept.add(column.head)
            free -= column.width + 1
        self._columns = [column for column in columns if column.head in kept]
        used = sum(column.width + 1 for column in self._columns)
        self._name_chars = max(NAME_CHARS_MIN, min(longest, width - used))

    def heads(self, sort: str, note: str) -> Text:
        """The column that rows are sorted by is underlined. `note` stands beside the head of the names, or in its place."""
        name = f"{self._head} {note}" if len(self._head) + 1 + len(note) <= self._name_chars else note or self._head
        text = Text(name[: self._name_chars].ljust(self._name_chars), "underline" if sort == self._head else "")
        for column in self._columns:
            head = Text(column.head, "underline" if sort == column.head else "")
            space = " " * (column.width - len(column.head))
            text.append(" ").append_text(Text.assemble(head, space) if column.left else Text.assemble(space, head))
        return self._whole(text, "bold")

    def row(self, name: str, line: Line, selected: bool) -> Text:
        text = Text(fit(name, self._name_chars).replace("…", self._gap).ljust(self._name_chars))
        for column in self._columns:
            cell = column.cell(line)
            cell.truncate(column.width)
            space = " " * (column.width - cell.cell_len)
            text.append(" ").append_text(Text.assemble(cell, space) if column.left else Text.assemble(space, cell))
        return self._whole(Text(text.plain, "reverse") if selected else text, "")

    def _whole(self, text: Text, style: str) -> Text:
        text.truncate(self._width, pad=True)
        text.stylize(style)
        return text
