"""streamctl logs: what the nodes of a run have logged and printed, live or after its end."""

from __future__ import annotations

import json
import re
import select
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import click

from streamcore.cli.completing import complete_node
from streamcore.cli.entries import LEVELS, Entry, Gatherer, Selection, history, last_stamp
from streamcore.cli.entry import ctrl_c_raises
from streamcore.cli.follow import Follower
from streamcore.cli.options import any_run_option, json_option, quiet_debug_option
from streamcore.cli.times import time_or_span
from streamcore.clock import Clock

LOOK_S = 0.25  # between two looks of --follow; an entry is shown when nothing more of it has come by the next one
LAST = 50  # of --lines, if nothing is selected
LINES_MAX = 10**9


def _pattern(ctx: click.Context, param: click.Parameter, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}; expected e.g. 'refused|timed out'", ctx, param) from None


@click.command(short_help="Show what nodes have logged and printed.")
@click.argument("nodes", metavar="[NODE]...", nargs=-1, shell_complete=complete_node)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run ends or Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, LINES_MAX),
    help=f"Show so many of the last entries, of all nodes together. Default: {LAST}; all, with --since, --until, --level or --grep.",
)
@click.option(
    "--since", "since_ns", metavar="TIME", callback=time_or_span, help="From this time on: 14:00, yesterday 9:30; 10m: so long ago."
)
@click.option("--until", "until_ns", metavar="TIME", callback=time_or_span, help="Up to this time. Not with --follow.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), default="DEBUG", help="This level and worse. Default: all.")
@click.option("--grep", metavar="REGEX", callback=_pattern, help="With a match of this in their text; (?i) in front: in either case.")
@json_option('Print one object per line: {"node", "ts", "level", "text", "printed"}.')
@any_run_option
@quiet_debug_option
def logs(
    nodes: tuple[str, ...],
    follow: bool,
    count: int | None,
    since_ns: int | None,
    until_ns: int | None,
    level: str,
    grep: re.Pattern[str] | None,
    as_json: bool,
    run: str | None,
) -> int:
    """Show the logs of these NODEs, or of all nodes, in the order of time.

    An entry that the node logged begins with time and level; any other is a line that its code, or a child process, printed. That counts as
    INFO, and its time is that of what was logged before. Stacks and indented lines belong to the entry before them: they are selected with
    it, and --grep searches all of it.

    A log keeps the last 8 MiB at least, 16 MiB at most; what is older is dropped. Logs stay in the run directory when a run has ended,
    until a run of the same name is started. The secrets of the spec are masked where a node logs or prints them. What looks like one is
    masked here too: credentials in URLs, values of keys such as `password`, bearer tokens.

    \b
    Exit status:
      0  fine, also if nothing is selected, and if Ctrl-C ended --follow
      2  the run has no such node, or an option has a wrong value
      3  there is no such run

    \b
    Examples:
      streamctl logs camera -f
      streamctl logs --level warning --since 1h
      streamctl logs --grep 'refused|timed out' --json | jq -r .node | sort | uniq -c
    """
    from streamcore.control.client import directory

    if until_ns is not None and (follow or until_ns < (since_ns or 0)):
        problem = "--follow goes on without end; leave one of them out" if follow else "it is before --since"
        raise click.BadParameter(problem, param_hint="--until")
    path = directory(run)
    wanted, selection = _wanted(path, nodes), Selection(since_ns, until_ns, level.upper(), grep)
    show = partial(_show, selection, as_json=as_json, prefixed=not nodes or len(wanted) > 1)
    follower = Follower(path / "logs", wanted, from_end=True, whole=True)
    # A line that was never finished is shown here; with --follow, there, when it is.
    ends = {node: follower.offset(node) if follow else (path / "logs" / f"{node}.log").stat().st_size for node in wanted}
    last = history(path / "logs", ends, LAST if count is None and not selection else count, selection)
    if not follow:
        show(last)
        return 0
    try:
        with ctrl_c_raises():
            show(last)
            _follow(path, follower, Gatherer({node: last_stamp(path / "logs" / f"{node}.log", ends[node]) for node in wanted}), show)
    except KeyboardInterrupt:
        pass  # the way to end --follow
    return 0


def _wanted(path: Path, nodes: Iterable[str]) -> list[str]:
    from streamcore.control.rundir import COORDINATOR_LOG

    names = sorted(log.stem for log in (path / "logs").glob("*.log"))
    for node in nodes:
        if node not in names:
            raise click.BadParameter(f"run '{path.name}' has no log of '{node}'; there is {', '.join(names) or 'none'}", param_hint="NODE")
    # That of a detached coordinator repeats what nodes say; it is shown when it is asked for.
    return list(dict.fromkeys(nodes)) or [name for name in names if f"{name}.log" != COORDINATOR_LOG]


def _follow(path: Path, follower: Follower, gatherer: Gatherer, show: Callable[[Iterable[Entry]], None]) -> None:
    """Until the run ends, or nobody reads what is shown."""
    from streamcore.control.rundir import live_info

    clock, begun, live = Clock(), live_info(path), True
    reader = select.poll()
    reader.register(1, 0)  # for POLLERR alone: a pipe that nobody reads
    while live and not reader.poll(0):
        now = live_info(path)
        live = now is not None and begun is not None and now.run_id == begun.run_id  # not one of the same name that was started since
        nodes = gatherer.unfinished
        while news := follower.poll(last=not live):
            show(sorted(gatherer.gather(news), key=lambda entry: entry.stamp))
            nodes -= {line.node for line in news}
        show(gatherer.end(nodes if live else gatherer.unfinished))
        if live:
            clock.sleep(LOOK_S)


def _show(selection: Selection, entries: Iterable[Entry], *, as_json: bool, prefixed: bool) -> None:
    for entry in filter(selection.takes, entries):
        head = f"{entry.node} | " if prefixed else ""
        text = json.dumps(entry.as_json(), ensure_ascii=False) if as_json else head + str(entry).replace("\n", f"\n{head}")
        click.echo(text)
