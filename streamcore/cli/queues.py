"""streamctl queue: the files of durable queues, looked at, checked, mended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, size, span, table
from streamcore.clock import Clock, iso_utc

if TYPE_CHECKING:
    from streamcore.durable.upkeep import Facts, Seen

HEADS = ("QUEUE", "WAITING", "RETAINED", "DEAD", "FILE", "OF", "OLDEST", "OWNER")
PEEK_HEADS = ("SEQUENCE", "STORED", "KIND", "SOURCE", "KEY", "FAILURES", "PAYLOAD", "VALUE")
VALUE_CHARS = 60

path_argument = click.argument("path", type=click.Path(file_okay=False, path_type=Path))


@click.group(short_help="Durable queues: list, peek, count, check, repair, compact.")
def queue() -> None:
    """Look at the files of durable queues and mend them. PATH is the `path` that the node durable.queue has in its config.

    `ls`, `peek`, `stats` and `check` change nothing and also work while a run owns the queue; what they show is true of one moment.
    `repair` and `compact` need a queue that nobody owns.
    """


@queue.command(short_help="How much waits in each.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
@json_option('Print {"queues": [{"path", "owner", "waiting", "acked", "dead", "file_bytes", "max_bytes", "oldest_ns", "counters"}]}.')
@quiet_debug_option
def ls(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show for each queue how many records wait, are retained after their acknowledgement, or are dead letters.

    FILE is the size of its data file, OF the most that it may become, OLDEST how long the first record has waited, OWNER the process that
    writes it now.

    \b
    Exit status:
      0  fine
      1  a queue cannot be read; `streamctl queue check` says why
      2  there is no queue at PATH
    """
    from streamcore.durable import upkeep

    found = [upkeep.look(path) for path in paths]
    if as_json:
        import msgspec

        click.echo(json.dumps({"version": 1, "queues": msgspec.to_builtins(found)}))
    else:
        click.echo("\n".join(table(HEADS, map(_queue_row, found), right=(1, 2, 3, 4, 5, 6))))
    return 0


def _queue_row(facts: Facts) -> tuple[object, ...]:
    waited = "-" if facts.oldest_ns is None else span(max(0, Clock.wall_ns() - facts.oldest_ns) / 1e9)
    numbers = (f"{facts.waiting:,}", f"{facts.acked:,}", f"{facts.dead:,}", size(facts.file_bytes), size(facts.max_bytes))
    return (facts.path, *numbers, waited, facts.owner or "-")


@queue.command(short_help="Show records without taking them.")
@path_argument
@click.option("--state", type=click.Choice(["waiting", "acked", "dead"]), default="waiting", show_default=True, help="Which records.")
@click.option("--from", "first", type=click.IntRange(1), default=1, metavar="SEQUENCE", help="Begin there.")
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="At most so many.")
@json_option('Print {"records": [{"sequence", "state", "failures", "id", "kind", "source_id", "key", "value", "payload_bytes", ...}]}.')
@quiet_debug_option
def peek(path: Path, state: str, first: int, count: int, as_json: bool) -> int:
    """Show records of a queue, the oldest first. They stay where they are.

    VALUE is the beginning of a JSON payload; --json prints all of it. For --state dead it is the reason.

    \b
    Exit status:
      0  fine, also if there are none
      1  the queue cannot be read
      2  there is no queue at PATH
    """
    from streamcore.durable import upkeep

    seen = upkeep.browse(path, state, first, count)
    if as_json:
        click.echo(json.dumps({"version": 1, "path": str(path), "records": [_record_facts(item) for item in seen]}))
    elif seen:
        click.echo("\n".join(table(PEEK_HEADS, map(_record_row, seen), right=(0, 5))))
    else:
        click.echo(f"{path}: no {state} records")
    return 0


def _record_row(seen: Seen) -> tuple[object, ...]:
    record = seen.record
    if record is None:
        return (seen.sequence, "-", "-", "-", "-", seen.failures, "-", seen.problem)
    head = record.head
    shape = f" {head.dtype} {'x'.join(map(str, head.shape))}" if head.shape else ""
    said = seen.reason or (json.dumps(_value(seen), ensure_ascii=False) if head.codec == "json" else "")
    stored = f"{iso_utc(record.stored_ns)[:19]}Z"
    payload = f"{head.codec}{shape}, {size(len(record.payload))}"
    return (seen.sequence, stored, head.kind, head.source_id, head.key or "-", seen.failures, payload, said[:VALUE_CHARS])


def _record_facts(seen: Seen) -> dict[str, Any]:
    facts: dict[str, Any] = {"sequence": seen.sequence, "state": seen.state, "failures": seen.failures, "replayed": seen.replayed}
    facts |= {"since": iso_utc(seen.since_ns) if seen.since_ns else None, "reason": seen.reason, "problem": seen.problem}
    if seen.record is not None:
        import msgspec

        record = seen.record
        facts |= {"id": record.id16.hex(), "stored": iso_utc(record.stored_ns), "captured": iso_utc(record.wall_ns)}
        facts |= msgspec.structs.asdict(record.head) | {"payload_bytes": len(record.payload), "value": _value(seen)}
    return facts


def _value(seen: Seen) -> Any:
    if seen.record is None or seen.record.head.codec != "json":
        return None
    import msgspec

    try:
        return msgspec.to_builtins(msgspec.msgpack.decode(seen.record.payload))
    except msgspec.DecodeError:
        return None


@queue.command(short_help="All counters of one.")
@path_argument
@json_option("Print one object, as `ls --json` has it for each queue.")
@quiet_debug_option
def stats(path: Path, as_json: bool) -> int:
    """Show what a queue holds and what has passed through it since it was made.

    \b
    Exit status:
      0  fine
      1  the queue cannot be read
      2  there is no queue at PATH
    """
    import msgspec

    from streamcore.durable import upkeep

    facts = upkeep.look(path)
    if as_json:
        click.echo(json.dumps({"version": 1, **msgspec.to_builtins(facts)}))
        return 0
    now = {"waiting": facts.waiting, "retained": facts.acked, "dead letters": facts.dead, "ids remembered": facts.ids}
    counters = msgspec.structs.asdict(facts.counters)
    rooms = {name: size(counters.pop(name)) for name in ("used_bytes", "retained_bytes")}
    rows: dict[str, object] = {name: f"{count:,}" for name, count in now.items()}
    rows |= {"file": f"{size(facts.file_bytes)} of {size(facts.max_bytes)}", "owner": f"process {facts.owner}" if facts.owner else "nobody"}
    rows |= {"room of records": rooms["used_bytes"], "of these retained": rooms["retained_bytes"]}
    rows |= {name.replace("_", " "): f"{count:,}" for name, count in counters.items()}
    width = max(map(len, rows))
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


@queue.command(short_help="Read all of it and say what is damaged.")
@path_argument
@json_option('Print {"path", "broken", "damaged": [{"sequence", "reason"}]}.')
@quiet_debug_option
def check(path: Path, as_json: bool) -> int:
    """Read every record of a queue and hold it against its checksum. Nothing is changed.

    A process of its own reads the files: a damaged one may end it, which is then the finding.

    \b
    Exit status:
      0  all of it is whole
      1  something is damaged; `streamctl queue repair` puts it aside, as the node does at its next start
      2  there is no queue at PATH
    """
    from streamcore.durable import upkeep

    _say_on_terminal(f"reading {path} ...")
    broken, damaged = upkeep.examine(path)
    if as_json:
        found = [{"sequence": sequence, "reason": reason} for sequence, reason in damaged]
        click.echo(json.dumps({"version": 1, "path": str(path), "broken": broken, "damaged": found}))
    elif broken:
        click.echo(f"{path}: cannot be used as it is: {broken}")
    else:
        lines = [reason for _, reason in damaged]
        click.echo("\n".join([*lines, f"{path}: {plural(len(damaged), 'damaged record')}" if damaged else f"{path}: all of it is whole"]))
    return NODE_FAILED if broken or damaged else 0


@queue.command(short_help="Put aside what is damaged, keep the rest.")
@path_argument
@quiet_debug_option
def repair(path: Path) -> int:
    """Mend a queue that nobody owns, as the node does when it starts. Nothing is thrown away.

    A damaged record is moved to PATH/quarantine/. A file that cannot be followed any more is moved to PATH/damaged-N/ and searched for
    whole records; those that still waited are imported into a new file, under their old sequences. Some that were acknowledged may be
    among them: they are delivered again, flagged as redelivered.

    \b
    Exit status:
      0  it is whole now; what was done is said
      1  it is owned by a process, or cannot be written
      2  there is no queue at PATH
    """
    from streamcore.durable import upkeep

    _say_on_terminal(f"reading {path} ...")
    findings = upkeep.repair(path)
    click.echo("\n".join(findings) if findings else f"{path}: all of it is whole, nothing was changed")
    return 0


@queue.command(short_help="Give the room of its file back.")
@path_argument
@quiet_debug_option
def compact(path: Path) -> int:
    """Write the file of a queue anew, without the pages that hold nothing. Records, ids and counters stay as they are.

    A queue uses its free pages again, so it never needs this to go on; its file only never becomes smaller by itself. Needs room for the
    new file beside the old one. A kill leaves the old or the new one.

    \b
    Exit status:
      0  done; the sizes are said
      1  it is owned by a process, is damaged, or there is no room; nothing was changed
      2  there is no queue at PATH
    """
    from streamcore.durable import upkeep

    _say_on_terminal(f"copying {path} ...")
    before, after = upkeep.compact(path)
    click.echo(f"{path}: {size(before)} before, {size(after)} now")
    return 0


def _say_on_terminal(text: str) -> None:
    """What takes long says so, to people only."""
    if sys.stderr.isatty():
        click.echo(text, err=True)
