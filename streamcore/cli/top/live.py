"""The live view: asks the run once per interval, shows the answer, does what keys say."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from streamcore.cli.entry import BY_SIGNAL
from streamcore.cli.failures import FINE
from streamcore.cli.follow import log_end
from streamcore.cli.stack import stack_lines
from streamcore.cli.terminal import Terminal
from streamcore.cli.top.asking import Asker
from streamcore.cli.top.columns import Glyphs
from streamcore.cli.top.facts import Picture, Usage, picture
from streamcore.cli.top.page import HELP_TEXT, Page, Sheet
from streamcore.cli.top.view import HELP, LOG, QUIT, STACK, Order, View
from streamcore.clock import Clock
from streamcore.errors import StreamcoreError
from streamcore.supervisor import stacks, usage

if TYPE_CHECKING:
    from streamcore.control.client import Client

ANSWER_S = 2.0  # then the run is asked again; until then keys are answered
LATE_S, LATE_LOOK_S = 1.5, 0.5  # an answer that takes longer is said to be missing; how often what is said is renewed
SAID_S = 4.0  # so long an answer to a key stands in the place of the keys, unless the next key comes before
LOG_LINES = 500  # of the end of a log, to scroll in
LEVEL_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def usages(reply: dict[str, Any], reader: usage.Usage) -> dict[int, Usage]:
    """What the processes of a reply use since the last look. Read here: it costs the run nothing."""
    return {row["pid"]: Usage(*reader.read(row["pid"])) for row in reply["nodes"] if row["pid"]}


class Live:
    """One call of `top` on a terminal. `over`: the run has ended."""

    def __init__(self, client: Client, terminal: Terminal, glyphs: Glyphs, view: View, interval_s: float, clock: Clock):
        self.over = False
        self._client, self._terminal, self._glyphs, self._view = client, terminal, glyphs, view
        self._interval_ns, self._clock = round(interval_s * 1e9), clock
        self._asker = Asker(terminal.wake)
        self._usage = usage.Usage(clock)
        self._console = Console(force_terminal=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._reply: dict[str, Any] = {}  # the last one
        self._picture: Picture | None = None  # of it
        self._used: dict[int, Usage] = {}
        self._heard_ns = self._due_ns = self._said_ns = clock.monotonic_ns()
        self._asked, self._changed = False, True
        self._sheet_lines: list[Text] = []

    def run(self) -> int:
        """Until the user leaves or the run ends. Returns the exit status."""
        leaving = False
        while not leaving and not self.over and self._terminal.ended_by is None:
            now_ns = self._clock.monotonic_ns()
            if now_ns >= self._due_ns and not self._asked:
                self._asked, self._due_ns = True, now_ns + self._interval_ns
                self._asker.ask(lambda: self._client.request("stats", timeout_s=ANSWER_S), self._hear)
            silent_s = (now_ns - self._heard_ns) / 1e9
            late = silent_s > self._interval_ns / 1e9 + LATE_S
            if self._changed or self._terminal.is_blank or late:
                self._draw(f"no answer for {silent_s:.0f} s, asked again" if late else "")
                self._changed = late  # and once more when there is an answer
            wait_s = LATE_LOOK_S if self._asked else (self._due_ns - now_ns) / 1e9
            for key in self._terminal.wait(wait_s):
                self._changed = True
                leaving = leaving or self._press(key)
            self._asker.deliver()
        by = self._terminal.ended_by
        return FINE if by in (None, signal.SIGINT) else BY_SIGNAL + by

    def close(self) -> bool:
        """False if a question is still open, which needs the client."""
        return self._asker.close()

    def _hear(self, reply: Any) -> None:
        self._asked, self._changed = False, True
        if isinstance(reply, StreamcoreError):
            self.over = not self._client.live()
            return
        self._reply, self._heard_ns = reply, self._clock.monotonic_ns()
        self._used = usages(reply, self._usage)
        if self._heard_ns - self._said_ns > SAID_S * 1e9:
            self._view.said = ""
        self._look()
        if self._view.sheet == LOG and not self._view.scroll:
            self._read_log()

    def _look(self) -> None:
        if self._reply:
            self._picture = picture(self._reply, self._client.info.graph, self._view.window_s, self._heard_ns, self._used)
            self._view.settle(self._picture)

    def _press(self, key: str) -> bool:
        """True if it asks us to leave."""
        if self._picture is None:
            return key == "q"
        window_s = self._view.window_s
        order = self._view.press(key, self._picture)
        if self._view.window_s != window_s:
            self._look()
        if order is not None and order.verb != QUIT:
            self._carry_out(order)
        return order is not None and order.verb == QUIT

    def _carry_out(self, order: Order) -> None:
        if order.verb == LOG:
            self._view.open(LOG, order.node)
            self._read_log()
        elif order.verb == STACK:
            self._ask_for_stack(order.node)
        else:
            self._say(f"asking to {order.verb} {order.node}")
            self._asker.ask(lambda: self._client.request(order.verb, node=order.node), lambda reply: self._hear_order(order, reply))

    def _hear_order(self, order: Order, reply: Any) -> None:
        self._say(str(reply) if isinstance(reply, StreamcoreError) else f"{order.node} is {order.verb}d")
        self._due_ns = self._clock.monotonic_ns()  # to be seen at once

    def _say(self, text: str) -> None:
        self._view.said, self._said_ns, self._changed = text, self._clock.monotonic_ns(), True

    def _read_log(self) -> None:
        node = self._view.sheet_node
        try:
            found = log_end(Path(self._client.info.path, "logs", f"{node}.log"), node, LOG_LINES, stacks=True)
        except OSError as error:
            self._sheet_lines = [Text(f"its log cannot be read: {error.strerror}")]
            return
        lines = [Text(printable(f"{line.stamp[11:23]} {line.level} {line.text}" if line.stamp else line.text)) for line in found]
        for line, text in zip(found, lines, strict=True):
            text.stylize(LEVEL_STYLES.get(line.level, ""))
        self._sheet_lines = lines or [Text("nothing so far", "dim")]

    def _ask_for_stack(self, node: str) -> None:
        self._view.open(STACK, node)
        row = next(row for row in self._reply["nodes"] if row["id"] == node)
        if row["pid"] is None:
            self._sheet_lines = [Text(f"it has no process at this moment; it is {row['state'].lower()}")]
            return

        def hear(found: Any) -> None:
            if (self._view.sheet, self._view.sheet_node) == (STACK, node):
                self._sheet_lines, self._changed = [Text(printable(line)) for line in stack_lines(row, found)], True

        self._sheet_lines = [Text("asking its process", "dim")]
        self._asker.ask(lambda: stacks.look(row["pid"]), hear)

    def _draw(self, trouble: str) -> None:
        width, height = self._terminal.size()
        if self._picture is None:
            lines = [Text(f"run {self._client.info.run}: {trouble or 'asking'}".ljust(width)[:width])]
        else:
            lines = Page(self._glyphs, width, height).draw(self._picture, self._view, trouble, self._sheet())
        with self._console.capture() as captured:
            self._console.print(Text("\n").join(lines), end="")
        self._terminal.show(captured.get().split("\n"))

    def _sheet(self) -> Sheet | None:
        sheet, node = self._view.sheet, self._view.sheet_node
        if sheet == HELP:
            return Sheet("help", [Text(line) for line in HELP_TEXT.splitlines()])
        title = f"log of {node}" if sheet == LOG else f"threads of {node}"
        return Sheet(title, self._sheet_lines) if sheet else None


def printable(line: str) -> str:
    """What a node has printed may hold anything, also what would move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in line.expandtabs(4))
