"""streamctl dlq: packets that killed their process too often, and records that a durable queue has given up to deliver."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_letter, complete_queue, complete_run
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import any_run_option, duration, json_option, quiet_debug_option
from streamcore.cli.queue_records import agree
from streamcore.cli.wording import plural, size, table

if TYPE_CHECKING:
    from streamcore.cli.dlq_queues import Dead
    from streamcore.node.dead_letter import Letter

HEADS = ("ID", "NODE", "KIND", "SOURCE", "SEQUENCE", "WHY", "PAYLOAD", "STORED", "REDRIVEN")
SHOWN_ID_CHARS = 12


queues_option = click.option(
    "--queue", "queues", metavar="QUEUE", multiple=True, shell_complete=complete_queue, help="Those of this durable queue only. Repeatable."
)


@click.group(short_help="Dead letters of nodes and of durable queues: list, show, redrive, drop.")
def dlq() -> None:
    """Dead letters: packets that killed the process of their node `poison_limit` times in a row, and records that a durable queue has given
    up to deliver, after `max_attempts` or because they were refused for good.

    Such a packet is failed, so that the pipeline goes on, and kept whole in the run directory: its metadata, its payload, and the incident
    of the last death. Such a record stays in its queue. Both stay when the run has ended and when a run of the same name is started, until
    they are dropped, or given up by the queue's `dead_max_bytes` and `dead_max_s`.

    The ID of a packet may be cut to its first characters, at least 4. That of a record is QUEUE:SEQUENCE, where QUEUE is the node in the
    live run, or the folder. The queues of a run that has ended are found by their folders only (--queue).
    """


@dlq.command("list", short_help="List them, the oldest first.")
@click.argument("run", required=False, shell_complete=complete_run)
@queues_option
@json_option(
    'Print {"run", "letters": [{"type": packet or record, "node", "sequence", "kind", "source_id", "deaths" or "failures", ...}]}.'
)
@quiet_debug_option
def list_(run: str | None, queues: tuple[str, ...], as_json: bool) -> int:
    """List the dead letters of RUN, live or ended, or of the only run; or of single queues.

    WHY is how often it has killed its process, or how often and why its delivery has failed. REDRIVEN says how often a packet was processed
    again, and how that ended the last time.

    \b
    Exit status:
      0  fine, also if there are none
      3  there is no such run
    """
    path, letters, dead = _known(run, queues)
    if as_json:
        from streamcore.cli import dlq_queues

        found = [_facts(letter, path, brief=True) for letter in letters if path] + [dlq_queues.facts(one, brief=True) for one in dead]
        click.echo(json.dumps({"version": 1, "run": path.name if path else run, "letters": found}))
    elif letters or dead:
        click.echo("\n".join(_table(letters, dead)))
    else:
        click.echo(f"{_named(path, queues)}: no dead letters{_of_an_ended_run(path)}")
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
    from streamcore.cli import dlq_queues

    if dlq_queues.is_id(packet_id):
        (dead,) = dlq_queues.by_id([packet_id], run)
        if as_json:
            click.echo(json.dumps({"version": 1, **dlq_queues.facts(dead, brief=False)}))
        else:
            click.echo("\n".join(_aligned(dlq_queues.details(dead))))
        return 0
    path, (letter,) = _found(run, [packet_id])
    facts = _facts(letter, path, brief=False)
    if as_json:
        click.echo(json.dumps({"version": 1, **facts}))
        return 0
    report = letter.report or {}
    rows: dict[str, object] = {
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
    click.echo("\n".join(_aligned(rows)))
    return 0


def _aligned(rows: dict[str, object]) -> list[str]:
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items() if value not in (None, "")]


@dlq.command(short_help="Process or deliver them again.")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_letter)
@click.option("--all", "everything", is_flag=True, help="All that were not processed again yet, or those of --queue.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.option(
    "--timeout", "timeout_s", callback=duration, default="10s", show_default=True, metavar="DURATION", help="Wait so long for the nodes."
)
@queues_option
@any_run_option
@quiet_debug_option
def redrive(ids: tuple[str, ...], everything: bool, yes: bool, timeout_s: float, queues: tuple[str, ...], run: str | None) -> int:
    """Hand packets to their nodes once more, in a live run, e.g. after the plugin was mended; have records delivered again by their queue.

    The node takes the packet between two others, flagged as redelivered, as an input that comes by no edge: the account of its edges does
    not change. Outputs that somebody has seen before the death are recognised by their ids. The letter stays and notes the outcome. A
    packet that kills its process again is not tried once more by itself.

    A record of a durable queue waits again at its old place, its attempts counted from the beginning, and is no dead letter any more: as
    `streamctl queue retry` does it, also in the files of a stopped run.

    \b
    Exit status:
      0  all packets were processed, all records wait again
      1  one failed again, or was not processed within --timeout
      2  there is no such ID, or --all without --yes where nobody can be asked
      3  there is no such live run
    """
    from streamcore.cli import dlq_queues

    path, letters, dead = _chosen(ids, everything, yes, queues, run, "process again", live=True)
    failed = _redrive(path, letters, timeout_s) if path is not None and letters else 0
    failed += dlq_queues.act("retry", dead, timeout_s)
    return NODE_FAILED if failed else 0


def _redrive(path: Path, letters: list[Letter], timeout_s: float) -> int:
    """How many were not processed well."""
    from streamcore.control import dead_letters
    from streamcore.control.client import connect
    from streamcore.errors import RunError

    handed: list[Letter] = []
    failed = 0
    with connect(path.name) as client:
        for letter in letters:
            try:
                dead_letters.redrive(client, letter)
                handed.append(letter)
            except RunError as error:
                if not client.live():
                    raise
                failed += 1
                click.echo(f"{letter.packet_id}  not handed to {letter.node}: {error}", err=True)
        after = dead_letters.wait_redriven(path, handed, timeout_s)
    for before, letter in zip(handed, after, strict=True):
        done = letter.redriven > before.redriven
        failed += not done or letter.outcome != "ok"
        said = letter.outcome if done else f"not processed within {timeout_s:g} s"
        click.echo(f"{letter.packet_id}  {letter.node}: {said}")
    return failed


@dlq.command(short_help="Remove them for good.")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_letter)
@click.option("--all", "everything", is_flag=True, help="All of the run, or of --queue.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@click.option(
    "--timeout", "timeout_s", callback=duration, default="10s", show_default=True, metavar="DURATION", help="Wait so long for the nodes."
)
@queues_option
@any_run_option
@quiet_debug_option
def drop(ids: tuple[str, ...], everything: bool, yes: bool, timeout_s: float, queues: tuple[str, ...], run: str | None) -> int:
    """Remove dead letters and their payloads for good. What is removed is named.

    \b
    Exit status:
      0  they are gone
      1  a queue is owned by a process of no live run, or the run refuses
      2  there is no such ID, or --all without --yes where nobody can be asked; nothing was removed
      3  there is no such run
    """
    from streamcore.cli import dlq_queues
    from streamcore.control import dead_letters

    path, letters, dead = _chosen(ids, everything, yes, queues, run, "remove for good", live=False)
    for letter in letters:
        if path is not None:
            dead_letters.drop(path, letter)
        click.echo(f"{letter.packet_id}  {letter.node}: removed ({_payload(letter)})")
    return NODE_FAILED if dlq_queues.act("drop", dead, timeout_s) else 0


# --- what several of them need


def _known(run: str | None, queues: Sequence[str]) -> tuple[Path | None, list[Letter], list[Dead]]:
    """The run directory, its letters and the dead records of its queues; of `queues` only these."""
    from streamcore.cli import dlq_queues
    from streamcore.control import dead_letters
    from streamcore.control.client import directory

    if queues:
        return None, [], dlq_queues.of_queues(queues, run)
    path = directory(run)
    return path, dead_letters.known(path), dlq_queues.of_run(path.name)


def _named(path: Path | None, queues: Sequence[str]) -> str:
    return f"run {path.name}" if path else ", ".join(queues)


def _of_an_ended_run(path: Path | None) -> str:
    """What to do about the queues that are not looked into."""
    from streamcore.control import rundir

    if path is None or rundir.live_info(path) is not None:
        return ""
    return " of its nodes; it has ended: those of its queues are shown by `streamctl dlq list --queue FOLDER`"


def _table(letters: Sequence[Letter], dead: Sequence[Dead]) -> list[str]:
    from streamcore.cli import dlq_queues

    return table(HEADS, [*map(_row, letters), *map(dlq_queues.row, dead)], right=(4,))


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


def _chosen(
    ids: Sequence[str], everything: bool, yes: bool, queues: Sequence[str], run: str | None, what: str, *, live: bool
) -> tuple[Path | None, list[Letter], list[Dead]]:
    """What a command is for, and the directory of the run if packets are. --all names them and asks, unless --yes.

    live: packets have to be of a live run, and are wanted only if they were not processed again yet.
    """
    from streamcore.cli import dlq_queues
    from streamcore.control.client import connect

    if bool(ids) == everything or (ids and queues):
        raise click.UsageError("give IDs, or --all, for single queues with --queue")
    packets = [word for word in ids if not dlq_queues.is_id(word)]
    if live and (packets or (everything and not queues)):
        with connect(run) as client:
            run = client.info.run
    if ids:
        dead = dlq_queues.by_id([word for word in ids if dlq_queues.is_id(word)], run)
        path, letters = _found(run, packets) if packets else (None, [])
        return path, letters, dead
    path, letters, dead = _known(run, queues)
    letters = [letter for letter in letters if not (live and letter.outcome == "ok")]
    count = len(letters) + len(dead)
    if not count:
        click.echo(f"{_named(path, queues)}: no dead letters to {what}")
    elif not yes:
        click.echo("\n".join(_table(letters, dead)))
        agree(f"{what} {plural(count, 'dead letter')} of {_named(path, queues)}", yes)
    return path, letters, dead


def _row(letter: Letter) -> tuple[str, ...]:
    return (
        letter.packet_id[:SHOWN_ID_CHARS],
        letter.node,
        letter.kind,
        letter.source_id,
        str(letter.sequence),
        plural(letter.deaths, "death"),
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

    facts: dict[str, Any] = {"type": "packet", "letter_id": letter.packet_id, **msgspec.to_builtins(letter)}
    if brief:
        del facts["value"], facts["report"]
    stored = dead_letters.payload_path(path, letter)
    return facts | {"payload_path": str(stored) if stored else ""}
