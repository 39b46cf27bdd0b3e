"""tools/inspect: what any processes use, with all that they have started; no run is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.failures import FINE, INTERRUPTED, NO_SUCH_RUN, NODE_FAILED
from streamcore.cli.options import interval_option, json_option
from streamcore.cli.processes import COUNTS, CPU, MEMORY, all_columns, indented, numbered, tree_lines
from streamcore.cli.wording import plural, span, table
from streamcore.clock import Clock

if TYPE_CHECKING:
    from streamcore.supervisor.inspection import Facts, Tree

PROGRAM = "tools/inspect"
READ_WITH_RIGHTS = {"USS": "uss_bytes", "PSS": "pss_bytes", "descriptors": "fds", "disks": "read_bytes"}
NAMED_MAX = 5


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("pids", metavar="PID...", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option("--wide", is_flag=True, help="All columns: age, CPU time, disks, context switches, page faults, nice, CPUs, GPUs.")
@click.option("--details", is_flag=True, help="Every fact in words, also the command line, the descriptor limit and the control group.")
@interval_option("The time over which the CPU share is taken")
@click.option("--watch", is_flag=True, help="Look again after every --interval, until Ctrl-C or until none of them lives.")
@json_option('Print {"trees": [{"pid", "total": {...}, "partial": [...], "processes": [...]}], "missing": [...]}, one look per line.')
def pids(pids: tuple[int, ...], wide: bool, details: bool, interval_s: float, watch: bool, as_json: bool) -> int:
    """Show what the process PID and all that it has started use, and their sum.

    Nothing is asked of the processes: one that hangs or is stopped is shown like any other. RSS is memory in use, shared or not; USS what
    nobody else has; PSS is USS and its part of what is shared: the one that adds up. `-` stands for what is not known, a plus behind a sum
    says that it leaves out a process which could not be read. Of a process of another user only a part may be read, unless one is root.

    \b
    Exit status:
      0  fine; with --watch: Ctrl-C, or all of them have ended
      1  some of it could not be read, and why is said; the rest is shown
      2  the command line is wrong
      3  there is no such process, or it may not be seen; others are shown
    """
    from streamcore.supervisor.inspection import begin, inspect
    from streamcore.supervisor.usage import Usage

    if watch and not interval_s:
        raise click.BadParameter("with --watch it is the time between two looks, more than 0s", param_hint="--interval")
    form = "json" if as_json else "details" if details else "wide" if wide else ""
    usage, shown = Usage(Clock()), False
    begin(pids if interval_s else (), usage)
    try:
        while True:
            Clock.sleep(interval_s)
            trees = inspect(pids, usage)
            living = any(facts.state != "zombie" for tree in trees.values() for facts in tree.processes)
            if shown and not living:
                return FINE
            if watch and sys.stdout.isatty():
                click.clear()
            _show(trees, [pid for pid in pids if pid not in trees], interval_s, form)
            status = FINE if shown else _complain(trees, [pid for pid in pids if pid not in trees])
            if not watch or not living:
                return status
            shown = True
    except KeyboardInterrupt:
        if watch:
            return FINE
        raise


def _show(trees: dict[int, Tree], missing: list[int], interval_s: float, form: str) -> None:
    if form == "json":
        import msgspec

        shown = [{"pid": pid, **msgspec.to_builtins(tree)} for pid, tree in trees.items()]
        click.echo(json.dumps({"version": 1, "interval_s": interval_s, "trees": shown, "missing": missing}))
    elif form == "details":
        click.echo("\n".join(line for tree in trees.values() for line in tree_lines(tree)))
    elif trees:
        click.echo("\n".join(_table(trees, form == "wide")))


def _table(trees: dict[int, Tree], wide: bool) -> list[str]:
    columns = all_columns(tree.total for tree in trees.values()) if wide else (CPU, *MEMORY, *COUNTS)
    heads = (
        "PID",
        "STATE",
        *(["USER", "AGE"] if wide else ()),
        *(column.head for column in columns),
        *(["NICE", "CPUS"] if wide else ()),
        "NAME",
    )
    rows: list[tuple[str, ...]] = []
    for tree in trees.values():
        for indent, facts in indented(tree):
            used = [column.cell(facts) for column in columns]
            who, placed = ([facts.user or "-", span(facts.age_s)], [str(facts.nice), numbered(facts.affinity)]) if wide else ([], [])
            rows.append((str(facts.pid), facts.state, *who, *used, *placed, indent + facts.name))
        if len(tree.processes) > 1:
            used = [column.cell(tree.total, tree.partial) for column in columns]
            rows.append(("", f"{len(tree.processes)} in all", *([""] * 2 if wide else ()), *used, *([""] * 2 if wide else ()), ""))
    return table(heads, rows, right=(0, *range(2, len(heads) - 1)))


def _complain(trees: dict[int, Tree], missing: list[int]) -> int:
    """Say on stderr what is not shown, and why."""
    unread: dict[tuple[str, str], list[str]] = {}
    for facts in {facts.pid: facts for tree in trees.values() for facts in tree.processes if facts.state != "zombie"}.values():
        if what := [name for name, field in READ_WITH_RIGHTS.items() if getattr(facts, field) is None]:
            unread.setdefault((", ".join(what), _why_unread(facts)), []).append(str(facts.pid))
    for (names, why), found in unread.items():
        which = " ".join(found[:NAMED_MAX]) + (" ..." if len(found) > NAMED_MAX else "")
        click.echo(f"{PROGRAM}: not read of {plural(len(found), 'process', 'processes')} ({which}): {names}; {why}", err=True)
    for pid in missing:
        click.echo(f"{PROGRAM}: {_why_missing(pid)}", err=True)
    return NO_SUCH_RUN if missing else NODE_FAILED if unread else FINE


def _why_unread(facts: Facts) -> str:
    try:
        os.kill(facts.pid, 0)
    except PermissionError:
        return f"they belong to {facts.user or 'another user'}: run this as that user or as root"
    except ProcessLookupError:
        return "they have ended meanwhile"
    return "the kernel does not allow it, or holds them in a call"


def _why_missing(pid: int) -> str:
    try:
        os.kill(pid, 0)
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except PermissionError:
        return f"process {pid} may not be seen: it belongs to another user; run this as that user or as root"
    except OSError:
        return f"there is no process {pid}"
    leader = next((line.split()[1] for line in lines if line.startswith("Tgid:")), str(pid))
    return f"{pid} is a thread of process {leader}: name that" if leader != str(pid) else f"process {pid} was not there at first; try again"


def main() -> int:
    try:
        status = pids.main(prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
