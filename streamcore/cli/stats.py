"""streamctl stats: the counters of a run's nodes and edges."""

from __future__ import annotations

import json
from typing import Any

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import size, span, table

NODE_HEADS = ("NODE", "STATE", "IN", "OUT", "FAILED", "WORKED", "BLOCKED", "HELD")
EDGE_HEADS = ("EDGE", "POLICY", "SENT", "TAKEN", "COMPLETED", "DROPPED", "FAILED", "IN FLIGHT", "WAITING", "BYTES")


@click.command(short_help="Show the counters of a run's nodes and edges.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@json_option('Print {"run", "state", "uptime_s", "nodes": [...], "edges": [...], "windows": {...}, "bottleneck": {...}}.')
@quiet_debug_option
def stats(run: str | None, as_json: bool) -> int:
    """Show the counters of RUN, or of the only live run, since it began.

    WORKED is the time inside node code, BLOCKED the time that a node waited for a credit or a slot, HELD the packets that its code keeps.
    Of every edge, SENT = COMPLETED + DROPPED + FAILED + IN FLIGHT; WAITING of those in flight have not been taken yet.

    The sentence below says which node held the graph back in the last ten seconds, and what would help.

    \b
    Exit status:
      0  fine
      3  there is no such run
    """
    from streamcore.control.client import connect

    with connect(run) as client:
        reply = client.request("stats")
    if as_json:
        click.echo(json.dumps({"version": 1, **reply}))
        return 0
    click.echo(f"run {reply['run']}  {reply['state']}  up {span(reply['uptime_s'])}")
    click.echo("\n".join(table(NODE_HEADS, map(_node, reply["nodes"]), right=range(2, len(NODE_HEADS)))))
    if reply["edges"]:
        click.echo("")
        click.echo("\n".join(table(EDGE_HEADS, map(_edge, reply["edges"]), right=range(2, len(EDGE_HEADS)))))
        found = reply["bottleneck"]
        click.echo("\n".join(["", found["sentence"], *filter(None, [found["advice"]])]))
    return 0


def _node(row: dict[str, Any]) -> tuple[str, ...]:
    times = (span(row[name] / 1e9) for name in ("work_ns", "credit_wait_ns"))
    return (row["id"], row["state"], *(f"{row[name]:,}" for name in ("consumed", "produced", "failed")), *times, str(row["leases"]))


def _edge(row: dict[str, Any]) -> tuple[str, ...]:
    counts = ("sent", "taken", "completed", "dropped", "failed", "in_flight", "waiting")
    return (row["name"], row["policy"], *(f"{row[name]:,}" for name in counts), size(row["bytes"]))
