"""streamctl queue: durable queues of live runs and in the files of stopped ones, looked at, checked, mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.completing import complete_queue
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option, run_option
from streamcore.cli.progress import progress
from streamcore.cli.queue_places import Place, all_places, place_of, queue_argument
from streamcore.cli.queue_records import drop, export, peek, replay, retry
from streamcore.cli.wording import plural, size, span, table
from streamcore.clock import Clock

if TYPE_CHECKING:
    from streamcore.durable.upkeep import Facts

HEADS = ("QUEUE", "WAITING", "RETAINED", "DEAD", "FILE", "OF", "OLDEST", "OWNER")


@click.group(short_help="Durable queues: list, peek, replay, retry, drop, export, check, repair, compact.")
def queue() -> None:
    """Look at durable queues, deliver again what they hold, and mend them.

    QUEUE is a folder, the `path` that the node durable.queue has in its config, or the node itself in a live run (--run says in which, if
    there are several). A word that is the name of a folder here, or has a slash, is a folder.

    Looking (`ls`, `peek`, `stats`, `export`, `check`) changes nothing and also works while a run owns the queue; what it shows is true of
    one moment. `replay`, `retry` and `drop` go through the run while it lives, else they change the files. `repair` and `compact` need a
    queue that nobody owns.
    """


for _command in (peek, replay, retry, drop, export):
    queue.add_command(_command)


@queue.command(short_help="How much waits in each.")
@click.argument("words", metavar="[QUEUE]...", nargs=-1, shell_complete=complete_queue)
@run_option
@json_option(
    'Print {"queues": [{"path", "run", "node", "owner", "waiting", "acked", "dead", "file_bytes", "max_bytes", "oldest_ns", ...}]}.'
)
@quiet_debug_option
def ls(words: tuple[str, ...], run: str | None, as_json: bool) -> int:
    """Show for each queue how many records wait, are retained after their acknowledgement, or are dead letters.

    Without QUEUE: those of all live runs, or of --run. FILE is the size of its data file, OF the most that it may become, OLDEST how long
    the first record has waited, OWNER who writes it now: RUN/NODE, or the number of another process.

    \b
    Exit status:
      0  fine
      1  a queue cannot be read; `streamctl queue check` says why
      2  there is no such queue
      3  there is no such run
    """
    from streamcore.durable import upkeep

    places = [place_of(word, run) for word in words] if words else _of_run(run)
    found = [(place, upkeep.look(place.path)) for place in places]
    if as_json:
        import msgspec

        click.echo(json.dumps({"version": 1, "queues": [msgspec.to_builtins(facts) | place.facts for place, facts in found]}))
    elif found:
        click.echo("\n".join(table(HEADS, [_queue_row(*one) for one in found], right=(1, 2, 3, 4, 5, 6))))
    else:
        click.echo("no live run owns a durable queue; name the folder of one")
    return 0


def _of_run(run: str | None) -> list[Place]:
    from streamcore.control.client import connect

    if run is None:
        return all_places()
    with connect(run) as asker:
        return [place for place in all_places() if place.held and place.held.info.run == asker.info.run]


def _owner(place: Place, facts: Facts) -> str:
    return f"{place.held.info.run}/{place.held.node}" if place.held else facts.owner


def _queue_row(place: Place, facts: Facts) -> tuple[object, ...]:
    waited = "-" if facts.oldest_ns is None else span(max(0, Clock.wall_ns() - facts.oldest_ns) / 1e9)
    numbers = (f"{facts.waiting:,}", f"{facts.acked:,}", f"{facts.dead:,}", size(facts.file_bytes), size(facts.max_bytes))
    return (facts.path, *numbers, waited, _owner(place, facts) or "-")


@queue.command(short_help="All counters of one.")
@queue_argument
@run_option
@json_option("Print one object, as `ls --json` has it for each queue.")
@quiet_debug_option
def stats(queue: str, run: str | None, as_json: bool) -> int:
    """Show what a queue holds and what has passed through it since it was made.

    \b
    Exit status:
      0  fine
      1  the queue cannot be read
      2  there is no such queue
    """
    import msgspec

    from streamcore.durable import upkeep

    place = place_of(queue, run)
    facts = upkeep.look(place.path)
    if as_json:
        click.echo(json.dumps({"version": 1, **msgspec.to_builtins(facts), **place.facts}))
        return 0
    now = {"waiting": facts.waiting, "retained": facts.acked, "dead letters": facts.dead, "ids remembered": facts.ids}
    counters = msgspec.structs.asdict(facts.counters)
    rooms = {name: size(counters.pop(name)) for name in ("used_bytes", "retained_bytes", "dead_bytes")}
    rows: dict[str, object] = {name: f"{count:,}" for name, count in now.items()}
    rows |= {"file": f"{size(facts.file_bytes)} of {size(facts.max_bytes)}", "owner": _owner(place, facts) or "nobody"}
    rows |= {"room of records": rooms["used_bytes"], "of these retained": rooms["retained_bytes"], "of these dead": rooms["dead_bytes"]}
    rows |= {name.replace("_", " "): f"{count:,}" for name, count in counters.items()}
    width = max(map(len, rows))
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


@queue.command(short_help="Read all of it and say what is damaged.")
@queue_argument
@run_option
@json_option('Print {"path", "broken", "damaged": [{"sequence", "reason"}]}.')
@quiet_debug_option
def check(queue: str, run: str | None, as_json: bool) -> int:
    """Read every record of a queue and hold it against its checksum. Nothing is changed.

    A process of its own reads the files: a damaged one may end it, which is then the finding.

    \b
    Exit status:
      0  all of it is whole
      1  something is damaged; `streamctl queue repair` puts it aside, as the node does at its next start
      2  there is no such queue
    """
    path = place_of(queue, run).path
    broken, damaged = _examine(path)
    if as_json:
        found = [{"sequence": sequence, "reason": reason} for sequence, reason in damaged]
        click.echo(json.dumps({"version": 1, "path": str(path), "broken": broken, "damaged": found}))
    elif broken:
        click.echo(f"{queue}: cannot be used as it is: {broken}")
    else:
        lines = [reason for _, reason in damaged]
        click.echo("\n".join([*lines, f"{queue}: {plural(len(damaged), 'damaged record')}" if damaged else f"{queue}: all of it is whole"]))
    return NODE_FAILED if broken or damaged else 0


def _examine(path: Path) -> tuple[str, list[tuple[int, str]]]:
    from streamcore.durable import upkeep

    before = 0
    with progress(f"reading {path}", 100) as step:

        def tell(read: int, of: int) -> None:
            nonlocal before
            percent = 100 * read // max(of, 1)
            step(percent - before)
            before = percent

        return upkeep.examine(path, tell)


@queue.command(short_help="Put aside what is damaged, keep the rest.")
@queue_argument
@run_option
@json_option('Print {"path", "findings": [sentence]}.')
@quiet_debug_option
def repair(queue: str, run: str | None, as_json: bool) -> int:
    """Mend a queue that nobody owns, as the node does when it starts. Nothing is thrown away.

    A damaged record is moved to PATH/quarantine/. A file that cannot be followed any more is moved to PATH/damaged-N/ and searched for
    whole records; those that still waited are imported into a new file, under their old sequences, and dead letters as such. Some that were
    acknowledged may be among them: they are delivered again, flagged as redelivered.

    \b
    Exit status:
      0  it is whole now; what was done is said
      1  it is owned by a process, or cannot be written
      2  there is no such queue
    """
    from streamcore.durable import upkeep

    path = place_of(queue, run).path
    with progress(f"reading {path}"):
        findings = upkeep.repair(path)
    if as_json:
        click.echo(json.dumps({"version": 1, "path": str(path), "findings": findings}))
    else:
        click.echo("\n".join(findings) if findings else f"{queue}: all of it is whole, nothing was changed")
    return 0


@queue.command(short_help="Give the room of its file back.")
@queue_argument
@run_option
@json_option('Print {"path", "bytes_before", "bytes_after"}.')
@quiet_debug_option
def compact(queue: str, run: str | None, as_json: bool) -> int:
    """Write the file of a queue anew, without the pages that hold nothing. Records, ids and counters stay as they are.

    A queue uses its free pages again, so it never needs this to go on; its file only never becomes smaller by itself. Needs room for the
    new file beside the old one. Ctrl-C and kill leave the old or the new one.

    \b
    Exit status:
      0  done; the sizes are said
      1  it is owned by a process, is damaged, or there is no room; nothing was changed
      2  there is no such queue
    """
    from streamcore.durable import upkeep

    path = place_of(queue, run).path
    with progress(f"copying {path}", upkeep.look(path).file_bytes) as step:
        before, after = upkeep.compact(path, step)
    if as_json:
        click.echo(json.dumps({"version": 1, "path": str(path), "bytes_before": before, "bytes_after": after}))
    else:
        click.echo(f"{queue}: {size(before)} before, {size(after)} now")
    return 0
