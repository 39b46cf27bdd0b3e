"""streamctl stack: what a live node is doing at this moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.asking import node_row
from streamcore.cli.completing import complete_live_node
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option, run_option

if TYPE_CHECKING:
    from streamcore.supervisor.stacks import Stacks


@click.command(short_help="Print the stacks of all threads of a live node.")
@click.argument("node", shell_complete=complete_live_node)
@run_option
@json_option(
    'Print {"run", "node", "pid", "incarnation", "state", "python", "note", "threads": [{"tid", "name", "state", "wchan", "stack"}]}.'
)
@quiet_debug_option
def stack(node: str, run: str | None, as_json: bool) -> int:
    """Print the Python stacks of all threads of NODE, and where the kernel sees each of them.

    The node need not answer for that: it works while its code spins, and while native code keeps the interpreter's lock. The node goes on
    as before; a native call that sleeps may wake early. A process that is stopped, or held by the kernel, has only the kernel's view.

    \b
    Exit status:
      0  fine
      1  the node has no process at this moment, or its Python stacks cannot be had; why is said
      2  the run has no such node
      3  there is no such run
    """
    from streamcore.control.client import connect
    from streamcore.supervisor.stacks import look

    with connect(run) as client:
        row = node_row(client.request("stats"), node)
    if row["pid"] is None:
        click.echo(f"streamctl: node '{node}' has no process at this moment; it is {row['state']}", err=True)
        return NODE_FAILED
    found = look(row["pid"])
    threads = [{"tid": t.tid, "name": t.name, "state": t.state, "wchan": t.wchan, "stack": list(t.stack)} for t in found.threads]
    if as_json:
        head = {"version": 1, "run": client.info.run, "node": node, "pid": row["pid"], "incarnation": row["incarnation"]}
        click.echo(json.dumps({**head, "state": found.state, "python": found.python, "note": found.note, "threads": threads}))
        return 0 if found.python else NODE_FAILED
    click.echo("\n".join(stack_lines(row, found)))
    return 0 if found.python else NODE_FAILED


def stack_lines(row: Mapping[str, Any], found: Stacks) -> list[str]:
    """For people: which process of which node (`row` of `ps` or `stats`), its Python stacks, its threads."""
    lines = [f"node {row['id']}, pid {row['pid']}, incarnation {row['incarnation']}, {row['state']}, process {found.state or 'gone'}"]
    lines += [*(found.python or found.note).splitlines(), "", "threads as the kernel sees them"]
    for thread in found.threads:
        where = " < ".join(thread.stack) or thread.wchan or "running, or not to be seen"
        lines.append(f"  {thread.tid} {thread.name} {thread.state}  {where}")
    return lines
