"""streamctl account: what became of every packet, edge by edge."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import fit, plural, span, table

NAME_CHARS_MIN = 8
NARROW = (0, 2, 3, 4, 5, 6)  # the columns of EDGE_HEADS for a terminal that has no room for all; what does not balance is named below
EDGE_HEADS = ("EDGE", "POLICY", "SENT", "= COMPLETED", "+ DROPPED", "+ FAILED", "+ IN FLIGHT", "BALANCED", "REDELIVERED")
END_HEADS = ("NODE", "", "PACKETS")
LOOKS_MAX, LOOK_S = 5, 0.05  # a page is read while its node counts: what does not balance then does so a moment later


@click.command(short_help="Show what became of every packet.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@json_option('Print {"run", "state", "balanced", "edges": [{"edge", "sent", "completed", ...}], "sources": {...}, "sinks": {...}}.')
@quiet_debug_option
def account(run: str | None, as_json: bool) -> int:
    """Show the account of RUN, or of the only live run.

    Of every edge SENT = COMPLETED + DROPPED + FAILED + IN FLIGHT, since the run began, crashes and restarts included: the counters lie
    in shared memory and outlive their processes. DROPPED is what the policy of the edge let go, FAILED what its consumer could not process
    or nobody was left to process. REDELIVERED of the packets were delivered more than once, which the equation counts once. While packets
    flow, counters change as they are read; an edge that does not balance is looked at again. The report of a run (`up --report`) carries
    the final account.

    A terminal without room for that is shown SENT to IN FLIGHT, and long names shortened. What does not balance is named in the last line.

    \b
    Exit status:
      0  every edge balances
      1  an edge does not
      3  there is no such run, or it ended meanwhile
    """
    from streamcore.clock import Clock
    from streamcore.control.client import connect

    with connect(run) as client:
        found = client.request("account")
        for _ in range(LOOKS_MAX - 1):
            if found["balanced"]:
                break
            Clock().sleep(LOOK_S)
            found = client.request("account")
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(json.dumps({"version": 1, **found}) if as_json else "\n".join(page(found, columns)))
    return 0 if found["balanced"] else NODE_FAILED


def page(found: dict[str, Any], columns: int | None) -> list[str]:
    """`columns`: of the terminal; None: it goes where lines may have any length."""
    edges = found["edges"]
    lines = [f"run {found['run']}  {found['state']}  up {span(found['uptime_s'])}"]
    lines += _edges([_edge(edge) for edge in edges], columns)
    ends = [(node, "emitted", f"{count:,}") for node, count in found["sources"].items()]
    ends += [(node, "consumed", f"{count:,}") for node, count in found["sinks"].items()]
    lines += ["", *table(END_HEADS, ends, right=(2,))]
    wrong = [edge["edge"] for edge in edges if not edge["balanced"]]
    verdict = f"does not balance: {', '.join(wrong)}" if wrong else f"balances on {plural(len(edges), 'edge')}"
    return [*lines, "", f"The account {verdict}."]


def _edges(rows: list[tuple[str, ...]], columns: int | None) -> list[str]:
    lines = table(EDGE_HEADS, rows, right=(2, 3, 4, 5, 6, 8))
    if columns is None or max(map(len, lines)) <= columns:
        return lines
    heads, *cells = ([row[number] for number in NARROW] for row in (EDGE_HEADS, *rows))
    others = sum(2 + max(map(len, column)) for column in list(zip(heads, *cells, strict=True))[1:])
    most = max(NAME_CHARS_MIN, columns - others)
    return table(heads, [(fit(name, most), *counts) for name, *counts in cells], right=range(1, len(heads)))


def _edge(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{row[name]:,}" for name in ("sent", "completed", "dropped", "failed", "in_flight"))
    return (row["edge"], row["policy"], *counts, "yes" if row["balanced"] else "NO", f"{row['redelivered']:,}")
