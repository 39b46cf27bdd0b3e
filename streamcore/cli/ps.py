"""streamctl ps: live runs and the processes of their nodes."""

from __future__ import annotations

import json
from typing import Any

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, size, span, table

HEADS = ("NODE", "PLUGIN", "STATE", "PID", "RESTARTS", "INCIDENTS", "CPU", "MEMORY", "GROWTH", "IN", "OUT", "FAILED")
MINUTE_S = 60


@click.command(short_help="Show live runs and the processes of their nodes.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@json_option('Print {"run", "state", "nodes": [{"id", "pid", "state", "incarnation", "restarts", ...}], "edges": [...]}, one run per line.')
@quiet_debug_option
def ps(run: str | None, as_json: bool) -> int:
    """Show RUN, or every live run of this user: one line per node with its process.

    CPU is the share of one core since the last look; memory counts the shared frames that a process has touched, in every process that
    has. GROWTH is what its memory gained per minute, of late, once it has run for a while. INCIDENTS counts crashes and kills: `streamctl
    incidents` shows them. Nothing is asked of the nodes themselves, so a node that hangs is shown as well.

    \b
    Exit status:
      0  fine
      3  there is no such run, or none at all
    """
    from streamcore.control.client import connect, runs

    # With none at all, connect(None) says where it has looked.
    names: list[str | None] = [run] if run is not None else [info.run for info in runs()] or [None]
    replies = []
    for name in names:
        with connect(name) as client:
            replies.append((client.info, client.request("ps")))
    for number, (info, reply) in enumerate(replies):
        if as_json:
            click.echo(json.dumps({"version": 1, "pid": info.pid, **reply}))
        else:
            click.echo("\n".join(([""] if number else []) + _page(info.pid, reply)))
    return 0


def _page(pid: int, reply: dict[str, Any]) -> list[str]:
    nodes = reply["nodes"]
    head = f"run {reply['run']}  {reply['state']}  up {span(reply['uptime_s'])}, {plural(len(nodes), 'node')}, coordinator pid {pid}"
    return [head, *table(HEADS, [_row(row) for row in nodes], right=range(3, len(HEADS)))]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    cpu, memory, growth = row.get("cpu_percent"), row.get("rss_bytes"), row.get("rss_growth_bytes_per_s")
    return (
        row["id"],
        row["plugin"],
        row["state"] + (", paused" if row.get("paused") else ""),
        str(row["pid"] or "-"),
        str(row["restarts"]),
        str(row.get("incidents", 0)),
        "-" if cpu is None else f"{cpu:.0f}%",
        "-" if memory is None else size(memory),
        "-" if growth is None else f"{size(growth * MINUTE_S)}/min",
        f"{row['consumed']:,}",
        f"{row['produced']:,}",
        f"{row['failed']:,}",
    )
