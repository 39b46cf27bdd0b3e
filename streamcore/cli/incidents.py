"""streamctl incidents: why nodes of a run died or were killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from streamcore.cli.completing import complete_incident, complete_run
from streamcore.cli.options import any_run_option, json_option, quiet_debug_option
from streamcore.cli.wording import span, table

HEADS = ("NAME", "WHEN", "REASON", "CAUSE", "PACKET", "PICTURES")
LOG_SHOWN = 20


@click.group(short_help="Look at why nodes died or were killed.")
def incidents() -> None:
    """Incidents: one file for every crash of a node, and for every kill of a node that hung or did not start in time.

    It holds the cause, the stacks of all threads, what the kernel says of them, the packet under work, the node's counters, the last lines
    of its log, its environment, and small pictures of the frames that it worked on. Secrets are masked; pictures are not. The newest 50 of
    a run are kept in RUN_DIR/incidents, until a run of the same name is started.
    """


@incidents.command("list", short_help="List them, the oldest first.")
@click.argument("run", required=False, shell_complete=complete_run)
@json_option('Print {"run", "incidents": [{"name", "ts", "node", "incarnation", "reason", "cause", "exit", "path", ...}]}.')
@quiet_debug_option
def list_(run: str | None, as_json: bool) -> int:
    """List the incidents of RUN, live or ended, or of the only run.

    \b
    Exit status:
      0  fine, also if there are none
      3  there is no such run
    """
    from streamcore.control.client import directory
    from streamcore.supervisor.incident import known

    path = directory(run)
    found = known(path)
    if as_json:
        click.echo(json.dumps({"version": 1, "run": path.name, "incidents": [_brief(facts, path) for facts in found]}))
    elif found:
        click.echo("\n".join(table(HEADS, map(_row, found))))
    else:
        click.echo(f"run {path.name}: no incidents")
    return 0


@incidents.command(short_help="Show one of them.")
@click.argument("name", required=False, shell_complete=complete_incident)
@any_run_option
@json_option("Print the whole file.")
@quiet_debug_option
def show(name: str | None, run: str | None, as_json: bool) -> int:
    """Show the incident NAME as `list` names it (NODE.INCARNATION), the last one of the node NAME, or the last one at all.

    \b
    Exit status:
      0  fine
      2  there is no such incident
      3  there is no such run
    """
    from streamcore.control.client import directory
    from streamcore.supervisor.incident import known

    path = directory(run)
    found = known(path)
    hits = [facts for facts in found if name in (None, _name(facts), facts["node"])]
    if not hits:
        there = ", ".join(map(_name, found)) or "none"
        raise click.BadParameter(f"run '{path.name}' has no incident {name or 'at all'}; there is {there}", param_hint="NAME")
    facts = hits[-1]
    click.echo(json.dumps({**facts, "path": _path(facts, path)}) if as_json else "\n".join(_page(facts, path)))
    return 0


def _name(facts: dict[str, Any]) -> str:
    return f"{facts['node']}.{facts['incarnation']}"


def _path(facts: dict[str, Any], run_dir: Path) -> str:
    return str(run_dir / "incidents" / f"{_name(facts)}.json")


def _brief(facts: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    wanted = ("ts", "run_id", "node", "plugin", "incarnation", "pid", "reason", "cause", "exit", "packet", "pictures")
    return {"name": _name(facts), **{key: facts.get(key) for key in wanted}, "path": _path(facts, run_dir)}


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    packet = facts.get("packet") or {}
    what = f"{packet.get('edge', '')} {packet.get('sequence', '')}".strip()
    return (_name(facts), f"{facts['ts'][:19]}Z", facts["reason"], facts["cause"], what or "-", str(len(facts.get("pictures", ()))))


def _page(facts: dict[str, Any], run_dir: Path) -> list[str]:
    """What a person reads first: what, when, over which packet, where in the code, and the end of the log."""
    lines = [f"{facts['reason']} of node '{facts['node']}' (incarnation {facts['incarnation']}, pid {facts['pid']}) at {facts['ts']}"]
    lines += [f"    cause    {facts['cause']}"]
    if facts.get("exit") and facts["exit"] not in facts["cause"]:
        lines.append(f"    exit     {facts['exit']}")
    lines.append(f"    plugin   {facts['plugin']}, graph {facts['graph']} {facts['graph_version']}")
    if facts.get("busy_s") is not None:
        lines.append(f"    busy     {span(facts['busy_s'])} with one packet")
    lines += _packet_lines(facts.get("packet"))
    process = facts.get("process") or {}
    if process:
        lines.append(
            f"    process  state {process.get('State', '?')}, resident {process.get('VmRSS', '?')}, threads {process.get('Threads', '?')}"
        )
    pictures = facts.get("pictures") or []
    lines += [f"    picture  {run_dir / 'incidents' / picture}" for picture in pictures]
    lines.append(f"    file     {_path(facts, run_dir)}")
    stacks = facts.get("stacks") or {}
    lines += ["", "Python stacks, the most recent call first", *_indented(stacks.get("python") or stacks.get("note") or "none")]
    lines += _kernel_lines(stacks.get("threads") or [])
    log = _before_stacks(facts.get("log") or [])
    if log:
        lines += ["", "The log ends", *(f"    | {line}" for line in log[-LOG_SHOWN:])]
    return lines


def _packet_lines(packet: dict[str, Any] | None) -> list[str]:
    if not packet:
        return ["    packet   none was under work"]
    lines = [f"    packet   {packet.get('packet_id', '')} sequence {packet['sequence']} of {packet['edge']}"]
    if packet.get("note"):
        return [*lines, f"             {packet['note']}"]
    payload = {key: value for key, value in packet["payload"].items() if value not in ("", [])}
    lines.append(f"             {packet['kind']} from {packet['source_id']}, captured {packet['ts']}, payload {payload}")
    if packet.get("meta"):
        lines.append(f"             meta {json.dumps(packet['meta'], ensure_ascii=False)}")
    return lines


def _before_stacks(log: list[str]) -> list[str]:
    """The log without the stacks of a process that died in native code: they stand above already."""
    return log[: next((number for number, line in enumerate(log) if line.startswith("Fatal Python error:")), len(log))]


def _kernel_lines(threads: list[dict[str, Any]]) -> list[str]:
    if not threads:
        return []
    lines = ["", "Threads as the kernel sees them"]
    for thread in threads:
        where = " < ".join(thread["stack"]) or thread["wchan"] or "running, or not to be seen"
        lines.append(f"    {thread['tid']} {thread['name']} {thread['state']}  {where}")
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
