"""streamctl restart: give a node a new process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.asking import node_row, order
from streamcore.cli.completing import complete_live_node
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import duration, quiet_debug_option, run_option
from streamcore.cli.wording import span

if TYPE_CHECKING:
    from streamcore.control.client import Client

LOOK_S = 0.1


@click.command(short_help="Give a node a new process, between two packets.")
@click.argument("node", shell_complete=complete_live_node)
@click.option(
    "--timeout",
    "timeout_s",
    callback=duration,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Wait so long until it is ready again.",
)
@run_option
@quiet_debug_option
def restart(node: str, timeout_s: float, run: str | None) -> int:
    """End the process of NODE between two packets, start a new one, and wait until it is ready.

    Nothing is lost on edges with the policy `block`: what the process had not completed is delivered again to its successor, flagged as
    redelivered. It does not count as a failure: no incident is written, and the limit of restarts is not touched. New code of the plugin is
    loaded; the spec, its config included, stays that of the run.

    \b
    Exit status:
      0  the new process is ready
      1  it was not ready within --timeout, the node failed, or the run refuses; why is said
      2  the run has no such node
      3  there is no such run
    """
    from streamcore.control.client import connect

    with connect(run) as client:
        before = node_row(client.request("stats"), node)
        order(client, "restart", node=node)
        after = _await_next(client, before, timeout_s)
    if after["incarnation"] > before["incarnation"] and after["state"] in ("READY", "DRAINING"):
        click.echo(f"{node}: restarted, incarnation {after['incarnation']}, pid {after['pid']}")
        return 0
    cause = f": {after['cause']}" if after.get("cause") else ""
    why = (
        f"it is {after['state']}{cause}"
        if after["state"] in ("FAILED", "DONE")
        else f"not ready after {span(timeout_s)}, {after['state']}{cause}"
    )
    click.echo(f"streamctl: node '{node}' was told to restart; {why}", err=True)
    return NODE_FAILED


def _await_next(client: Client, before: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """The row of the node when its next incarnation is ready, when it has ended for good, or when the time is up."""
    from streamcore.clock import Clock

    clock = Clock()
    deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    while True:
        row = node_row(client.request("stats"), before["id"])
        ready = row["incarnation"] > before["incarnation"] and row["state"] in ("READY", "DRAINING")
        if ready or row["state"] in ("FAILED", "DONE") or clock.monotonic_ns() > deadline_ns:
            return row
        clock.sleep(LOOK_S)
