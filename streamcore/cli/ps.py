"""streamctl ps: live runs, the processes of their nodes, and what these use."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamcore.cli.completing import complete_live_node, complete_live_run
from streamcore.cli.failures import FINE, NO_SUCH_RUN, NODE_FAILED
from streamcore.cli.options import interval_option, json_option, quiet_debug_option
from streamcore.cli.processes import Column, all_columns, indented, numbered, percent, tree_lines
from streamcore.cli.wording import fit, plural, short, size, span, table
from streamcore.clock import Clock

if TYPE_CHECKING:
    from streamcore.control.rundir import RunInfo
    from streamcore.supervisor.inspection import Facts, Tree

HEADS = ("NODE", "STATE", "PID", "RESTARTS", "CPU", "MEMORY", "IN", "OUT", "FAILED")
COUNTED = ("consumed", "produced", "failed")
NAME_CHARS_MIN = 8
COORDINATOR = "(coordinator)"
MINUTE_S = 60


class Look(NamedTuple):
    """One run: what it answered, and, where it was asked for, the processes of its nodes by id, and of its coordinator."""

    info: RunInfo
    reply: dict[str, Any]
    trees: dict[str, Tree | None]
    coordinator: Tree | None = None


@click.command(short_help="Show live runs, the processes of their nodes, and what these use.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option(
    "--wide", is_flag=True, help="Inspect the processes: memory of their own, threads, descriptors, disks, switches, faults, GPUs."
)
@click.option("--children", is_flag=True, help="Inspect, and show each process that a node has started on a line of its own.")
@click.option("--node", metavar="NODE", shell_complete=complete_live_node, help="Inspect, and show every fact of this node's processes.")
@interval_option("The time over which an inspection takes the CPU share")
@json_option('Print {"run", "state", "nodes": [{"id", "pid", "state", "incarnation", "restarts", ...}], "edges": [...]}, one run per line.')
@quiet_debug_option
def ps(run: str | None, wide: bool, children: bool, node: str | None, interval_s: float, as_json: bool) -> int:
    """Show RUN, or every live run of this user: one line per node with its process. RUN is a name, or the run's directory.

    CPU is the share of one core since the last look; MEMORY is RSS, which counts the shared frames that a process has touched, in every
    process that has. IN and OUT are packets, FAILED those that failed. Nothing is asked of the nodes themselves, so a node that hangs is
    shown as well; one that waits for its restart has no process, and `-` stands for what is not known.

    With --wide, --children or --node the processes are inspected, by this command and not by the run, which goes on undisturbed. Then a
    node's numbers are sums over its process and all that it has started, and the coordinator has a line as well:

    \b
      PROCS       processes
      CPU TIME    since they began
      RSS         memory that they have in use, shared or not
      USS         memory that nobody else has: their end would set it free
      PSS         USS and their part of what is shared: the one that adds up
      GROWTH      what RSS gained per minute, of late, once it has run for a while
      READ        from disks; WRITTEN: to disks
      SWITCHES    of threads: it waited / its time was up
      FAULTS      pages first touched / read from a disk
      INCIDENTS   crashes and kills, see `streamctl incidents`

    A plus behind a sum says that a process is left out which could not be read. Each node then has "process" in --json: {"total": {...},
    "partial": [names of such sums], "processes": [{"pid", "parent", "state", "command", "uss_bytes", ...}]}, or null; the run has
    "coordinator".

    \b
    Exit status:
      0  fine
      1  the node of --node has no process at this moment
      2  the run has no such node
      3  there is no such run, or none at all; or one did not answer, which is said, and the others are shown
    """
    asked, status = _ask(run)
    if node is not None:
        asked = _with_node(asked, node)
    inspected = wide or children or node is not None
    looks = _inspect(asked, interval_s) if inspected else [Look(info, reply, {}) for info, reply in asked]
    for number, look in enumerate(looks):
        if as_json:
            click.echo(json.dumps(_as_json(look, interval_s) if inspected else {"version": 1, "pid": look.info.pid, **look.reply}))
        else:
            lines = _details(look, node) if node else _wide_page(look, children) if inspected else _page(look)
            click.echo("\n".join(([""] if number else []) + lines))
    without = node is not None and all(look.trees[node] is None for look in looks)
    return status or (NODE_FAILED if without else FINE)


def _ask(run: str | None) -> tuple[list[tuple[RunInfo, dict[str, Any]]], int]:
    """The replies, and the status if that was all. Without a name one run that ends, or hangs, does not hide the others."""
    from streamcore.control.client import Client, connect, runs
    from streamcore.errors import RunError

    # With none at all, connect(None) says where it has looked.
    clients = [Client(info) for info in runs()] if run is None else []
    replies, status = [], FINE
    for client in clients or [connect(run)]:
        with client:
            try:
                replies.append((client.info, client.request("ps")))
            except RunError as error:
                if len(clients) <= 1:
                    raise
                click.echo(f"streamctl: {error}", err=True)
                status = NO_SUCH_RUN
    return replies, status


def _with_node(asked: list[tuple[RunInfo, dict[str, Any]]], node: str) -> list[tuple[RunInfo, dict[str, Any]]]:
    """The runs that have this node, with no other."""
    having = [(info, reply | {"nodes": [row]}) for info, reply in asked for row in reply["nodes"] if row["id"] == node]
    if asked and not having:
        there = ", ".join(row["id"] for _, reply in asked for row in reply["nodes"])
        raise click.BadParameter(f"no run has a node '{node}'; there is {there}", param_hint="--node")
    return having


def _inspect(asked: Sequence[tuple[RunInfo, dict[str, Any]]], interval_s: float) -> list[Look]:
    from streamcore.supervisor.inspection import begin, inspect
    from streamcore.supervisor.usage import Usage

    usage = Usage(Clock())
    pids = [row["pid"] for _, reply in asked for row in reply["nodes"] if row["pid"]]
    coordinators = [info.pid for info, _ in asked]
    if interval_s:
        begin([*pids, *coordinators], usage)
        Clock.sleep(interval_s)
    trees, alone = inspect(pids, usage), inspect(coordinators, usage, children=False)
    return [Look(info, reply, {row["id"]: trees.get(row["pid"]) for row in reply["nodes"]}, alone.get(info.pid)) for info, reply in asked]


def _as_json(look: Look, interval_s: float) -> dict[str, Any]:
    import msgspec

    nodes = [row | {"process": msgspec.to_builtins(look.trees[row["id"]])} for row in look.reply["nodes"]]
    more = {"nodes": nodes, "coordinator": msgspec.to_builtins(look.coordinator), "interval_s": interval_s}
    return {"version": 1, "pid": look.info.pid, **look.reply, **more}


def _head(look: Look) -> str:
    reply = look.reply
    nodes = plural(len(reply["nodes"]), "node")
    place = f", {reply['http']}" if reply.get("http") else ""
    return f"run {reply['run']}  {reply['state']}  up {span(reply['uptime_s'])}, {nodes}, coordinator pid {look.info.pid}{place}"


def _page(look: Look) -> list[str]:
    rows = [_row(row) for row in look.reply["nodes"]]
    right = range(2, len(HEADS))
    if sys.stdout.isatty():
        # Only where somebody looks: a program that cuts columns out of a pipe gets whole names.
        over = max(map(len, table(HEADS, rows, right))) - shutil.get_terminal_size().columns
        longest = max((len(row[0]) for row in rows), default=0)
        rows = [(fit(row[0], max(longest - over, NAME_CHARS_MIN)), *row[1:]) for row in rows] if over > 0 else rows
    return [_head(look), *table(HEADS, rows, right)]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    cpu, memory = row.get("cpu_percent"), row.get("rss_bytes")
    return (
        row["id"],
        _state(row),
        str(row["pid"] or "-"),
        str(row["restarts"]),
        "-" if cpu is None else percent(cpu),
        "-" if memory is None else size(memory),
        *(short(row[name]) for name in COUNTED),
    )


def _state(row: dict[str, Any]) -> str:
    return "PAUSED" if row.get("paused") and row["state"] == "READY" else str(row["state"])


def _wide_page(look: Look, children: bool) -> list[str]:
    columns = all_columns(tree.total for tree in (*look.trees.values(), look.coordinator) if tree)
    first = ("NODE", "PLUGIN", "STATE", "PID", "PROCS", "AGE", "RESTARTS", "INCIDENTS")
    heads = (*first, *(column.head for column in columns), "NICE", "CPUS", "GROWTH", "IN", "OUT", "FAILED")
    rows: list[tuple[str, ...]] = []
    for row in look.reply["nodes"]:
        tree, growth = look.trees[row["id"]], row.get("rss_growth_bytes_per_s")
        own = (
            row["id"],
            row["plugin"],
            _state(row),
            str(row["pid"] or "-"),
            *_life(tree),
            str(row["restarts"]),
            str(row.get("incidents", 0)),
        )
        gained = "-" if growth is None else f"{size(growth * MINUTE_S)}/min"
        rows.append((*own, *_used(tree, columns), gained, *(short(row[name]) for name in COUNTED)))
        for indent, facts in list(indented(tree))[1:] if tree and children else ():
            own = (indent + facts.name, "", facts.state, str(facts.pid), "", span(facts.age_s), "", "")
            rows.append((*own, *(column.cell(facts) for column in columns), *_placed(facts), "", "", "", ""))
    if look.coordinator:
        own = (COORDINATOR, "", "", str(look.info.pid), *_life(look.coordinator), "", "")
        rows.append((*own, *_used(look.coordinator, columns), "", "", "", ""))
    return [_head(look), *table(heads, rows, right=range(3, len(heads)))]


def _used(tree: Tree | None, columns: Sequence[Column]) -> tuple[str, ...]:
    if tree is None:
        return ("-",) * (len(columns) + 2)
    return (*(column.cell(tree.total, tree.partial) for column in columns), *_placed(tree.processes[0]))


def _placed(facts: Facts) -> tuple[str, str]:
    return str(facts.nice), numbered(facts.affinity)


def _life(tree: Tree | None) -> tuple[str, str]:
    return ("-", "-") if tree is None else (str(len(tree.processes)), span(tree.processes[0].age_s))


def _details(look: Look, node: str) -> list[str]:
    row, tree = look.reply["nodes"][0], look.trees[node]
    times = plural(row["restarts"], "restart"), plural(row.get("incidents", 0), "incident")
    head = (
        f"run {look.reply['run']}, node {node}  {_state(row)}, plugin {row['plugin']}, incarnation {row['incarnation']}, {', '.join(times)}"
    )
    return [head, *(tree_lines(tree) if tree else ["it has no process at this moment"])]
