"""streamctl events: what has happened in a live run, and what happens from now on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.entry import ctrl_c_raises
from streamcore.cli.options import quiet_debug_option
from streamcore.clock import Clock, iso_utc, parse_time
from streamcore.errors import RunError

if TYPE_CHECKING:
    from streamcore.control.client import Client

LEVELS = ("info", "warning", "error")  # SYNC: telemetry.journal.SEVERITIES
WAIT_S = 60.0  # of one request; then it is asked again, so that a run whose asker is gone forgets it
PATIENCE_S = 5.0


def _since(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, str]:
    """The number of the last event that is not wanted, and the stamp of the first moment that is."""
    if text.isdecimal():
        return int(text), ""
    try:
        return 0, iso_utc(parse_time(text, Clock.wall_ns()))
    except ValueError as error:
        raise click.BadParameter(f"{error}, or the number of an event", ctx, param) from None


@click.command(short_help="Show what has happened in a run: starts, crashes, stalls, drops, full disks.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until the run ends or Ctrl-C.")
@click.option(
    "--since", default="0", callback=_since, metavar="WHEN", help="A time (-10m, 14:00) or the number of an event: only what came after it."
)
@click.option("--level", type=click.Choice(LEVELS), default="info", show_default=True, help="Only events at least so severe.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a JSON object on a line of its own.")
@quiet_debug_option
def events(run: str | None, follow: bool, since: tuple[int, str], level: str, as_json: bool) -> int:
    """Show the events of RUN, or of the only live run, the oldest first, one per line: time, severity, event, what it is about, why.

    A run keeps the newest 2,000; after its end 200 are in its report (`up --report`). A graph gets them as packets from the source
    core.health. docs/operations.md explains each event.

    \b
    Exit status:
      0  fine; with --follow, also when the run has ended
      2  the command line is wrong
      3  there is no such run

    \b
    Examples:
      streamctl events -f --level warning
      streamctl events front-door --since -10m
      streamctl events --json --since 120 | jq .event
    """
    from streamcore.control.client import connect

    levels = LEVELS[LEVELS.index(level) :]
    number, stamp = since
    with connect(run) as client:
        try:
            with ctrl_c_raises():
                for event in _events(client, number, follow=follow):
                    if event["severity"] in levels and event["ts"] >= stamp:
                        click.echo(json.dumps(event) if as_json else _line(event))
        except KeyboardInterrupt:
            pass  # the way to end --follow
    return 0


def _events(client: Client, after: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Until there are no more, or the run has ended. The first look that fails says that there is no such run."""
    wait_s, is_first = WAIT_S if follow else 0.0, True
    while True:
        try:
            reply = client.request("events", PATIENCE_S + wait_s, since=after, wait_s=wait_s)
        except RunError:
            if is_first or client.live():
                raise
            return
        is_first, after = False, reply["next"]
        if reply["lost"]:
            click.echo(f"{reply['lost']} earlier events are forgotten", err=True)
        yield from reply["events"]
        if not reply["events"] and not follow:
            return


def _line(event: dict[str, Any]) -> str:
    about = event["node"] or event["edge"] or event["path"]
    return " ".join(filter(None, (event["ts"][:-4] + "Z", f"{event['severity'].upper():7}", event["event"], about))) + _why(event)


def _why(event: dict[str, Any]) -> str:
    from streamcore.telemetry.journal import EVENTS

    if event["detail"]:
        return f": {event['detail']}"
    kind = EVENTS.get(event["event"])  # of a run of another version: perhaps none
    return f": {event['value']:g} {kind.value}" if kind and event["value"] is not None else ""
