"""streamctl down: end a run from outside."""

from __future__ import annotations

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import duration, quiet_debug_option
from streamcore.cli.wording import span

MARGIN_S = 5.0  # on top of the run's drain_s: for TERM, KILL and cleaning up


@click.command(short_help="End a run.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option("--now", is_flag=True, help="Kill without draining; what is under way is lost.")
@click.option(
    "--timeout",
    "timeout_s",
    callback=duration,
    metavar="DURATION",
    help="Wait so long for the end, e.g. 30s. Default: the drain time of the run and 5 s.",
)
@quiet_debug_option
def down(run: str | None, now: bool, timeout_s: float | None) -> int:
    """End RUN, or the only run, and wait until it is gone.

    Its sources stop, what is under way is processed, and every node ends in its turn; what has not drained after the run's `drain_s` is
    killed. When this command returns with 0, no process, socket or shared memory of the run is left.

    \b
    Exit status:
      0  the run has ended
      1  it still lives after --timeout
      3  there is no such run
    """
    from streamcore.control.client import connect
    from streamcore.errors import RunError

    with connect(run) as client:
        name = client.info.run
        try:
            if timeout_s is None:
                timeout_s = float(client.request("info")["plan"]["drain_s"]) + MARGIN_S
            client.request("down", now=now)
        except RunError:
            if client.live():
                raise
            timeout_s = MARGIN_S  # it was ending already
        if not client.wait_end(timeout_s):
            click.echo(f"streamctl: run '{name}' still lives after {span(timeout_s)}; `streamctl down {name} --now` kills it", err=True)
            return NODE_FAILED
    click.echo(f"run {name} has ended")
    return 0
