"""streamctl dlq: packets that killed their process too often."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_letter, complete_run
from streamcore.cli.failures import NODE_FAILED, WRONG_INPUT
from streamcore.cli.options import any_run_option, duration, json_option, quiet_debug_option, run_option
from streamcore.cli.wording import plural, size, table

if TYPE_CHECKING:
    from streamcore.node.dead_letter import Letter

HEADS = ("ID", "NODE", "KIND", "SOURCE", "SEQUENCE", "DEATHS", "PAYLOAD", "STORED", "REDRIVEN")
SHOWN_ID_CHARS = 12


@click.group(short_help="Packets that killed their process: list, redrive, drop.")
def dlq() -> None:
    """Dead letters: packets that killed the process of their node `poison_limit` times in a row.

    Such a packet is failed, so that the pipeline goes on, and kept whole in the run directory: its metadata, its payload, and the incident
    of the last death. Dead letters stay when the run has ended and when a run of the same name is started, until they are dropped.
    An ID may be cut to its first characters, at least 4.
    """


@dlq.command("list", short_help="List them, the oldest first.")
@click.argument("run", required=False, shell_complete=complete_run)
@json_option('Print {"run", "letters": [{"packet_id", "node", "edge", "sequence", "kind", "source_id", "deaths", "incident", ...}]}.')
@quiet_debug_option
def list_(run: str | None, as_json: bool) -> int:
    """List the dead letters of RUN, live or ended, or of the only run.

    REDRIVEN says how often one was processed again, and how that ended the last time.

    \b
    Exit status:
      0  fine, also if there are none
      3  there is no such run
    """
    path, letters = _all(run)
    if as_json:
        click.echo(json.dumps({"version": 1, "run": path.name, "letters": [_facts(letter, path, brief=True) for letter in letters]}))
    elif letters:
        click.echo("\n".join(table(HEADS, map(_row, letters), right=(4, 5))))
    else:
        click.echo(f"run {path.name}: no dead letters")
    return 0


@dlq.command(short_help="Show one of them.")
@click.argument("packet_id", metavar="ID", shell_complete=complete_letter)
@any_run_option
@json_option("Print the record as it is stored, and the path of its payload.")
@quiet_debug_option
def show(packet_id: str, run: str | None, as_json: bool) -> int:
    """Show where a dead letter came from, what it carries, why it is there, and where its payload lies.

    \b
    Exit status:
      0  fine
      2  there is no dead letter with this ID, or more than one
      3  there is no such run
    """
    path, (letter,) = _found(run, [packet_id])
    facts = _facts(letter, path, brief=False)
    if as_json:
        click.echo(json.dumps({"version": 1, **facts}))
        return 0
    report = letter.report or {}
    rows = {
        "packet": letter.packet_id,
        "node": letter.node,
        "edge": f"{letter.edge}, sequence {letter.sequence}",
        "kind": letter.kind,
        "source": letter.source_id,
        "captured": letter.ts,
        "position": letter.position,
        "meta": json.dumps(letter.meta, ensure_ascii=False) if letter.meta else None,
        "payload": _payload(letter),
        "payload in": facts["payload_path"],
        "value": json.dumps(letter.value, ensure_ascii=False) if letter.payload.type == "json" else None,
        "deaths": f"{letter.deaths} in a row",
        "last death": report.get("cause") or report.get("exit"),
        "incident": letter.incident,
        "stored": letter.stored,
        "redriven": _redriven(letter),
    }
    width = max(map(len, rows))
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items() if value not in (None, "")))
    return 0


@dlq.command(short_help="Let their node process them again.")
@click.argument("packet_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_letter)
@click.option("--all", "everything", is_flag=True, help="All that were not processed again yet.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.option(
    "--timeout", "timeout_s", callback=duration, default="10s", show_default=True, metavar="DURATION", help="Wait so long for the nodes."
)
@run_option
@quiet_debug_option
def redrive(packet_ids: tuple[str, ...], everything: bool, yes: bool, timeout_s: float, run: str | None) -> int:
    """Hand dead letters to their nodes once more, in a live run, e.g. after the plugin was mended.

    The node takes the packet between two others, flagged as redelivered, as an input that comes by no edge: the account of its edges does
    not change. Outputs that somebody has seen before the death are recognised by their ids. The record stays and notes the outcome. A
    packet that kills its process again is not tried once more by itself.

    \b
    Exit status:
      0  all were processed
      1  one failed again, or was not processed within --timeout
      2  there is no such ID, or --all without --yes where nobody can be asked
      3  there is no such live run
    """
    from streamcore.control import dead_letters
    from streamcore.control.client import connect
    from streamcore.errors import RunError

    with connect(run) as client:
        path = Path(client.info.path)
        waiting = [letter for letter in dead_letters.known(path) if letter.outcome != "ok"]
        letters = _chosen(path, packet_ids, everything, yes, "process again", waiting)
        handed: list[Letter] = []
        refused = 0
        for letter in letters:
            try:
                dead_letters.redrive(client, letter)
                handed.append(letter)
            except RunError as error:
                if not client.live():
                    raise
                refused += 1
                click.echo(f"{letter.packet_id}  not handed to {letter.node}: {error}", err=True)
        after = dead_letters.wait_redriven(path, handed, timeout_s)
    failed = refused
    for before, letter in zip(handed, after, strict=True):
        done = letter.redriven > before.redriven
        failed += not done or letter.outcome != "ok"
        said = letter.outcome if done else f"not processed within {timeout_s:g} s"
        click.echo(f"{letter.packet_id}  {letter.node}: {said}")
    return NODE_FAILED if failed else 0


@dlq.command(short_help="Remove them for good.")
@click.argument("packet_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_letter)
@click.option("--all", "everything", is_flag=True, help="All of the run.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@any_run_option
@quiet_debug_option
def drop(packet_ids: tuple[str, ...], everything: bool, yes: bool, run: str | None) -> int:
    """Remove dead letters and their payloads for good. What is removed is named.

    \b
    Exit status:
      0  they are gone
      2  there is no such ID, or --all without --yes where nobody can be asked; nothing was removed
      3  there is no such run
    """
    from streamcore.control import dead_letters

    path, known = _all(run)
    letters = _chosen(path, packet_ids, everything, yes, "remove for good", known)
    for letter in letters:
        dead_letters.drop(path, letter)
        click.echo(f"{letter.packet_id}  {letter.node}: removed ({_payload(letter)})")
    return 0


# --- what several of them need


def _all(run: str | None) -> tuple[Path, list[Letter]]:
    from streamcore.control import dead_letters
    from streamcore.control.client import directory

    path = directory(run)
    return path, dead_letters.known(path)


def _found(run: str | None, words: Sequence[str]) -> tuple[Path, list[Letter]]:
    from streamcore.control.client import directory

    path = directory(run)
    return path, _by_id(path, words)


def _by_id(path: Path, words: Sequence[str]) -> list[Letter]:
    from streamcore.control import dead_letters

    try:
        return dead_letters.find(path, words)
    except dead_letters.NoSuchLetter as error:
        raise click.BadParameter(str(error), param_hint="ID") from None


def _chosen(path: Path, words: Sequence[str], everything: bool, yes: bool, what: str, candidates: list[Letter]) -> list[Letter]:
    """The letters that a command is for. --all names them and asks, unless --yes."""
    if bool(words) == everything:
        raise click.UsageError("give IDs, or --all")
    if not everything:
        return _by_id(path, words)
    if not candidates:
        click.echo(f"run {path.name}: no dead letters to {what}")
        return []
    if not yes:
        click.echo("\n".join(table(HEADS, map(_row, candidates), right=(4, 5))))
        if not sys.stdin.isatty():
            click.echo(f"streamctl: --all would {what} {plural(len(candidates), 'dead letter')}; say --yes", err=True)
            raise click.exceptions.Exit(WRONG_INPUT)
        click.confirm(f"{what} {plural(len(candidates), 'dead letter')} of run {path.name}?", abort=True)
    return candidates


def _row(letter: Letter) -> tuple[str, ...]:
    return (
        letter.packet_id[:SHOWN_ID_CHARS],
        letter.node,
        letter.kind,
        letter.source_id,
        str(letter.sequence),
        str(letter.deaths),
        _payload(letter),
        f"{letter.stored[:19]}Z",
        _redriven(letter) or "-",
    )


def _payload(letter: Letter) -> str:
    payload = letter.payload
    shape = f"{payload.dtype} {'x'.join(map(str, payload.shape))}, " if payload.type == "array" else f"{payload.type}, "
    return shape + size(payload.nbytes)


def _redriven(letter: Letter) -> str:
    return f"{letter.redriven}, {letter.outcome}" if letter.redriven else ""


def _facts(letter: Letter, path: Path, *, brief: bool) -> dict[str, Any]:
    """As JSON. `brief`: without the value and the incident's content, which may be large."""
    import msgspec

    from streamcore.control import dead_letters

    facts: dict[str, Any] = msgspec.to_builtins(letter)
    if brief:
        del facts["value"], facts["report"]
    stored = dead_letters.payload_path(path, letter)
    return facts | {"payload_path": str(stored) if stored else ""}
