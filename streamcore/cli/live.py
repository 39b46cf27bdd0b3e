"""How `up` shows a run on a terminal: a table of its nodes that is drawn anew twice a second, with the news above it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamcore.cli.colours import STYLES
from streamcore.cli.lines import Lines
from streamcore.cli.wording import rate, span
from streamcore.clock import Clock
from streamcore.coordinator.observer import Failure

if TYPE_CHECKING:
    from streamcore.graph.model import Plan
    from streamcore.telemetry.snapshot import NodeRow, Snapshot

RATE_SAMPLES = 5  # rates are averages over so many ticks, two seconds: less jitters, more lags behind


class Row(NamedTuple):
    """One line of the table. Rates per second; `busy` is the share of the time inside node code."""

    node: str
    state: str
    pid: str
    taken: str
    given: str
    busy: str
    waiting: str
    dropped: str
    failed: str


HEADS = ("node", "state", "pid", "in/s", "out/s", "busy", "waiting", "dropped", "failed")


def rows(now: Snapshot, before: Snapshot, between_s: float) -> list[Row]:
    """The table from two snapshots. `waiting` and `dropped` are those of the edges that lead to the node."""
    earlier = {row.id: row for row in before.nodes}
    found = []
    for row in now.nodes:
        into = [edge for edge in now.edges if edge.to_node == row.id]
        has_inputs, has_outputs = row.role != "source", row.role != "sink"

        def per_second(field: str, row: NodeRow = row) -> float:
            return max(0.0, getattr(row, field) - getattr(earlier[row.id], field)) / between_s if between_s > 0 else 0.0

        found.append(
            Row(
                row.id,
                "PAUSED" if row.paused and row.state == "READY" else row.state,
                str(row.pid or "-"),
                rate(per_second("consumed")) if has_inputs else "-",
                rate(per_second("produced")) if has_outputs else "-",
                f"{min(per_second('work_ns') / 1e9, 1):.0%}",
                f"{sum(edge.waiting for edge in into):,}" if has_inputs else "-",
                f"{sum(edge.dropped for edge in into):,}" if has_inputs else "-",
                f"{row.failed:,}",
            )
        )
    return found


class Screen(Lines):
    """A Lines whose node states are a table instead of lines. It needs no thread: it is drawn when the coordinator says so."""

    wants_ticks = True

    def __init__(
        self, plan: Plan, logs: Path, *, debug: bool, clock: Clock, on_up: Callable[[], None] = lambda: None, console: Console | None = None
    ):
        super().__init__(plan, logs, debug=debug, on_up=on_up)
        self._clock = clock
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._samples: deque[tuple[int, Snapshot]] = deque(maxlen=RATE_SAMPLES)
        self._began_ns = clock.monotonic_ns()

    def say(self, text: str, *, err: bool = False) -> None:
        text = self._masker.mask(text)
        if err and not sys.stderr.isatty():
            click.echo(text, err=True)  # sent elsewhere on purpose
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True, style="red" if err else None)

    def node_changed(self, node: str, before: str, after: str, detail: str) -> None:
        self._live.start()  # the first time only
        self._draw()

    def up(self) -> None:
        self._is_up = True
        self._on_up()
        self._draw()

    def failed(self, failure: Failure) -> None:
        super().failed(failure)
        self._draw()

    def tick(self) -> None:
        self._show_logs(last=False)
        self._samples.append((self._clock.monotonic_ns(), self.snapshot()))
        self._draw()

    def close(self) -> None:
        super().close()
        self._live.stop()

    def _draw(self) -> None:
        now_ns, now = self._clock.monotonic_ns(), self.snapshot()
        then_ns, then = self._samples[0] if self._samples else (now_ns, now)
        passed_s = (now_ns - self._began_ns) / 1e9
        table = Table(title=f"run {self._plan.run}, {span(passed_s)}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for number, head in enumerate(HEADS):
            table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
        for row in rows(now, then, (now_ns - then_ns) / 1e9):
            style = STYLES.get(row.state, "")
            table.add_row(row.node, f"[{style}]{row.state.lower()}[/]" if style else row.state.lower(), *row[2:])
        self._live.update(table, refresh=True)
