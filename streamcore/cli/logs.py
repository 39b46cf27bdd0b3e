"""streamctl logs: what the nodes of a run have logged and printed, live or after its end."""

from __future__ import annotations

from collections.abc import Callable

import click

from streamcore.cli.completing import complete_node
from streamcore.cli.entry import ctrl_c_raises
from streamcore.cli.follow import Follower, LogLine, last_lines
from streamcore.cli.options import any_run_option, quiet_debug_option
from streamcore.clock import Clock

LOOK_S = 0.5  # between two looks of --follow


@click.command(short_help="Show what nodes have logged and printed.")
@click.argument("node", required=False, shell_complete=complete_node)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run ends or Ctrl-C.")
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), default=50, show_default=True, help="Show so many of the last lines.")
@any_run_option
@quiet_debug_option
def logs(node: str | None, follow: bool, count: int, run: str | None) -> int:
    """Show the log of NODE, or of all nodes in the order of time.

    A line that the node logged begins with time and level; other lines are what its code printed. Logs stay in the run directory when a
    run has ended, until a run of the same name is started.

    \b
    Exit status:
      0  fine
      2  the run has no such node
      3  there is no such run
    """
    from streamcore.control.client import directory
    from streamcore.control.rundir import COORDINATOR_LOG, live_info

    path = directory(run)
    names = sorted(log.stem for log in (path / "logs").glob("*.log"))
    if node is not None and node not in names:
        raise click.BadParameter(f"run '{path.name}' has no log of '{node}'; there is {', '.join(names) or 'none'}", param_hint="NODE")
    # That of a detached coordinator repeats what nodes say; it is shown when it is asked for.
    wanted = [name for name in names if f"{name}.log" != COORDINATOR_LOG] if node is None else [node]
    # Made before the last lines are read: a line written between the two is shown twice rather than not at all.
    follower = Follower(path / "logs", wanted, from_end=True)
    _print(last_lines(path / "logs", wanted, count), alone=node is not None)
    if not follow:
        return 0
    try:
        with ctrl_c_raises():
            _follow(follower, lambda: live_info(path) is not None, alone=node is not None)
    except KeyboardInterrupt:
        pass  # the way to end --follow
    return 0


def _follow(follower: Follower, live: Callable[[], bool], *, alone: bool) -> None:
    clock = Clock()
    going_on = True
    while going_on:
        going_on = live()
        _print(follower.poll(last=not going_on), alone=alone)
        if going_on:
            clock.sleep(LOOK_S)


def _print(lines: list[LogLine], *, alone: bool) -> None:
    for line in lines:
        click.echo(str(line) if alone else f"{line.node} | {line}")
