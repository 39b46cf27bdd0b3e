"""streamctl stats: the counters of a run's nodes and edges, and what happened in the last seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import click

from streamcore.cli.completing import complete_live_run
from streamcore.cli.failures import FINE, NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import brief, fit, per_second, size, span, table

NODE_HEADS = ("NODE", "STATE", "IN", "OUT", "FAILED", "WORKED", "BLOCKED", "HELD")
EDGE_HEADS = ("EDGE", "POLICY", "SENT", "TAKEN", "COMPLETED", "DROPPED", "FAILED", "IN FLIGHT", "WAITING", "BYTES")
NODE_RATE_HEADS = ("NODE", "IN/S", "OUT/S", "FAIL/S", "BUSY", "BLOCKED", "WORK50", "WORK95", "WORK99", "AGE95")
EDGE_RATE_HEADS = ("EDGE", "SENT/S", "TAKEN/S", "DROP/S", "BYTES/S", "WAIT50", "WAIT95", "WAIT99")
QUANTILES = ("p50_ns", "p95_ns", "p99_ns")
NAME_CHARS_MIN = 8


@click.command(short_help="Show the counters of a run's nodes and edges.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option("--window", type=click.Choice(["1", "10", "60"]), help="Show what happened in so many last seconds, instead of counters.")
@json_option('Print {"run", "state", "uptime_s", "nodes": [...], "edges": [...], "windows": {"1", "10", "60"}, "bottleneck": {...}}.')
@quiet_debug_option
def stats(run: str | None, window: str | None, as_json: bool) -> int:
    """Show the counters of RUN, or of the only live run, since it began; with --window, rates and times of its last seconds.

    WORKED is the time inside node code, BLOCKED the time that a node waited for a credit or a slot, HELD the packets that its code keeps.
    Of every edge, SENT = COMPLETED + DROPPED + FAILED + IN FLIGHT; WAITING of those in flight have not been taken yet.

    The sentence below says which node held the graph back in the last ten seconds, and what would help.

    \b
    With --window, packets and bytes per second, and:
      BUSY, BLOCKED  shares of the time
      WORK50 ..      half of the calls of node code took at most so long; 95 %; 99 %
      AGE95          95 % of the packets were at most so old, from their capture, when the node was done with them
      WAIT50 ..      half of the packets waited at most so long at the consumer before they were taken; 95 %; 99 %

    Names are shortened so that a line fits the terminal; 80 columns where there is none. --json gives everything, whatever the window: each
    of "windows" is {"seconds", "nodes": {NODE: {"consumed", "busy", "work": {"p50_ns", ...}, ...}}, "edges": {EDGE: {...}}}, in packets per
    second and nanoseconds, or null for a run too young to have it. `streamctl top` shows the same live.

    \b
    Exit status:
      0  fine
      1  the run is too young for a window: there is nothing to compare with yet
      2  the command line is wrong
      3  there is no such run, or it ended meanwhile
    """
    from streamcore.control.client import connect

    with connect(run) as client:
        reply = client.request("stats")
    if as_json:
        click.echo(json.dumps({"version": 1, **reply}))
        return FINE
    head = f"run {reply['run']}  {reply['state']}  up {span(reply['uptime_s'])}"
    if window is None:
        tables = _counters(reply)
    elif (found := reply["windows"][window]) is None:
        click.echo(f"streamctl: {head}: too young for rates; ask again in a second", err=True)
        return NODE_FAILED
    else:
        head += f"  over the last {span(found['seconds'])}"
        tables = _rates(found)
    verdict = reply["bottleneck"]
    said = ["", verdict["sentence"], *filter(None, [verdict["advice"]])] if reply["edges"] else []
    click.echo("\n".join([head, *tables, *said]))
    return FINE


def _counters(reply: Mapping[str, Any]) -> list[str]:
    lines = table(NODE_HEADS, map(_node, reply["nodes"]), right=range(2, len(NODE_HEADS)))
    return lines + (["", *table(EDGE_HEADS, map(_edge, reply["edges"]), right=range(2, len(EDGE_HEADS)))] if reply["edges"] else [])


def _node(row: dict[str, Any]) -> tuple[str, ...]:
    times = (span(row[name] / 1e9) for name in ("work_ns", "credit_wait_ns"))
    return (row["id"], row["state"], *(f"{row[name]:,}" for name in ("consumed", "produced", "failed")), *times, str(row["leases"]))


def _edge(row: dict[str, Any]) -> tuple[str, ...]:
    counts = ("sent", "taken", "completed", "dropped", "failed", "in_flight", "waiting")
    return (row["name"], row["policy"], *(f"{row[name]:,}" for name in counts), size(row["bytes"]))


def _rates(window: Mapping[str, Any]) -> list[str]:
    lines = _fitting(NODE_RATE_HEADS, [(name, *_node_rates(rates)) for name, rates in window["nodes"].items()])
    edges = [(name, *_edge_rates(rates)) for name, rates in window["edges"].items()]
    return lines + (["", *_fitting(EDGE_RATE_HEADS, edges)] if edges else [])


def _node_rates(rates: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (per_second(rates[name]) for name in ("consumed", "produced", "failed"))
    shares = (f"{rates[name]:.0%}" for name in ("busy", "blocked"))
    return (*counts, *shares, *(brief(rates["work"][name]) for name in QUANTILES), brief(rates["end_to_end"]["p95_ns"]))


def _edge_rates(rates: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (per_second(rates[name]) for name in ("sent", "taken", "dropped"))
    return (*counts, size(rates["bytes"]), *(brief(rates["wait"][name]) for name in QUANTILES))


def _fitting(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table whose first column gives way so that a line fits the terminal."""
    others = sum(2 + max(map(len, column)) for column in list(zip(heads, *rows, strict=True))[1:])
    most = max(NAME_CHARS_MIN, shutil.get_terminal_size((80, 0)).columns - others)
    return table(heads, [(fit(name, most), *cells) for name, *cells in rows], right=range(1, len(heads)))
