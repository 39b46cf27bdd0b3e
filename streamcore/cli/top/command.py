"""streamctl top: a live run at a glance, and what holds it back."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.options import duration, json_option, quiet_debug_option

if TYPE_CHECKING:
    from streamcore.cli.top.columns import Glyphs
    from streamcore.control.client import Client

WINDOWS = ("1", "10", "60")  # SYNC: telemetry.history.WINDOWS_S; the room would take 150 ms to import
INTERVAL_MIN_S = 0.1
PIPE_COLUMNS = 120  # where no terminal says how wide it is
WITHOUT_CURSOR = ("", "dumb", "unknown")


@click.command(short_help="Watch a run: nodes, edges, what holds it back.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option("--once", is_flag=True, help="Print how it looks now, without waiting, and end. Needs no terminal.")
@json_option("With --once: print one JSON object.")
@click.option("--window", type=click.Choice(WINDOWS), default="10", show_default=True, help="Rates and quantiles of so many last seconds.")
@click.option(
    "--interval", "interval_s", metavar="TIME", default="1s", show_default=True, callback=duration, help="Time between two looks, e.g. 5s."
)
@quiet_debug_option
def top(run: str | None, once: bool, as_json: bool, window: str, interval_s: float) -> int:
    """Watch RUN, or the only live run, on a terminal until you leave with q or the run ends: its nodes, its edges, what drops or hangs, and
    at the bottom a sentence that names what holds it back.

    The run is not slowed down: counters are read from shared memory by its coordinator, once per --interval, and no node is asked. A node
    that hangs is shown, and so is a coordinator that does not answer: it is asked again.

    \b
      BUSY        share of the time inside node code; BLOCKED: waiting for a credit or a slot; IDLE: without input
      WORK50 ..   half of the calls of node code took at most so long; WORK95, WORK99: 95 and 99 %
      AGE95       95 % of the packets were at most so old, from their capture, when the node was done with them
      CPU, MEM    of the node's process: share of one core, resident memory
      WAITING     packets that wait at the consumer, of the edge's depth; FLIGHT: not yet completed, of its window
      WAIT50 ..   half of the packets waited at most so long before they were taken; WAIT95, WAIT99: 95 and 99 %

    A narrow terminal shows fewer columns: 80 show what matters most, 170 all. NO_COLOR takes the colours away; where the locale is not
    UTF-8 bars are drawn in ASCII.

    \b
    Keys:
      up, down, j, k  select a node            s, r   sort by the next column; reverse
      tab             nodes, edges or both     /      show names that contain what is typed
      w               1, 10 or 60 seconds      p      pause the selected node, or let it go on
      l               its log                  t      the Python stacks of its threads
      ?               help                     q      leave; the run goes on

    --once --json prints {"version", "run", "graph", "state", "uptime_s", "window": {"asked_s", "seconds"}, "totals": {"in_per_s",
    "dropped_per_s", "failed_per_s"}, "nodes": [{"id", "state", "pid", "in_per_s", "out_per_s", "busy", "blocked", "work": {"p50_ns", ...},
    ...}], "edges": [{"name", "waiting", "depth", "sent_per_s", "wait": {...}, ...}], "notices": [{"about", "text", "bad"}],
    "bottleneck": "a sentence", "advice": "what would help"}. Of a run younger than the window, "seconds" says over how many its rates are.

    \b
    Exit status:
      0  you left, or the run has ended
      2  the command line is wrong, or this is no terminal and --once was not given
      3  there is no such run; with --once also: it ended meanwhile, or did not answer
      143, 129  SIGTERM; SIGHUP, or the terminal was closed

    \b
    Examples:
      streamctl top
      streamctl top front-door --window 60 --interval 5s
      streamctl top --once --json | jq -r .bottleneck
    """
    if as_json and not once:
        raise click.UsageError("--json goes with --once: a live view is for people")
    if interval_s < INTERVAL_MIN_S:
        raise click.BadParameter(f"found {interval_s:g} s, expected at least {INTERVAL_MIN_S:g} s", param_hint="--interval")
    if not once and not _on_terminal():
        raise click.UsageError(
            "top needs a terminal that can place the cursor (stdin and stdout, and TERM is not dumb); "
            "`streamctl top --once` prints how the run looks now, `streamctl top --once --json` is for programs"
        )
    from streamcore.control.client import connect

    client = connect(run)
    if once:
        with client:
            return _once(client, int(window), as_json)
    return _live(client, int(window), interval_s)


def _once(client: Client, window_s: int, as_json: bool) -> int:
    from rich.console import Console

    from streamcore.cli.top.facts import picture
    from streamcore.cli.top.live import usages
    from streamcore.cli.top.page import Page
    from streamcore.cli.top.view import View
    from streamcore.clock import Clock
    from streamcore.supervisor.usage import Usage

    clock = Clock()
    reply = client.request("stats")
    shown = picture(reply, client.info.graph, window_s, clock.monotonic_ns(), usages(reply, Usage(clock)))
    if as_json:
        click.echo(json.dumps(shown.as_json()))
        return 0
    width = shutil.get_terminal_size((PIPE_COLUMNS, 0)).columns
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for line in Page(_glyphs(), width).draw(shown, View(window_s=window_s)):
        line.rstrip()
        console.print(line)
    return 0


def _live(client: Client, window_s: int, interval_s: float) -> int:
    from streamcore.cli.terminal import Terminal
    from streamcore.cli.top.live import Live
    from streamcore.cli.top.view import View
    from streamcore.clock import Clock

    with Terminal(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
        live = Live(client, terminal, _glyphs(), View(window_s=window_s), interval_s, Clock())
        try:
            status = live.run()
        finally:
            if live.close():
                client.close()  # else who still waits for an answer ends with the process
    if live.over:
        name = client.info.run
        click.echo(f"run {name} has ended; `streamctl logs --run {name}` shows what its nodes said")
    return status


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in WITHOUT_CURSOR


def _glyphs() -> Glyphs:
    """Python makes a C locale to one of UTF-8 for itself, and says so in LC_CTYPE: that is not what the terminal shows."""
    from streamcore.cli.top.columns import ASCII, UNICODE

    named = [os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if not named[0] and named[1] == "C.UTF-8" and named[2] in ("", "C", "POSIX"):
        named = []
    locale = next((name for name in named if name), "").lower().replace("-", "")
    console_font = os.environ.get("TERM") == "linux"  # few glyphs
    unicode = locale.endswith("utf8") and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" and not console_font
    return UNICODE if unicode else ASCII
