"""streamctl queue peek, replay, retry, drop, export: single records of a durable queue, chosen by what they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click

from streamcore.cli.failures import WRONG_INPUT
from streamcore.cli.options import Function, json_option, quiet_debug_option, run_option
from streamcore.cli.progress import progress
from streamcore.cli.queue_places import Place, change, place_of, queue_argument, timeout_option
from streamcore.cli.times import byte_size, spans, time
from streamcore.cli.wording import plural, size, table
from streamcore.clock import iso_utc
from streamcore.whole_file import whole_file

if TYPE_CHECKING:
    from streamcore.durable.selection import Selection
    from streamcore.durable.upkeep import Seen

PEEK_HEADS = ("SEQUENCE", "STORED", "KIND", "SOURCE", "KEY", "FAILURES", "PAYLOAD", "VALUE")
VALUE_CHARS = 60
NOUNS = {"waiting": "waiting", "acked": "retained", "dead": "dead"}


def filter_options(function: Function) -> Function:
    """Which records; read by `_selection`."""
    for decorate in (
        click.option("--larger", callback=byte_size, metavar="SIZE", help="Payloads larger than that, e.g. 200KiB."),
        click.option("--sequence", "spans", multiple=True, callback=spans, metavar="N[-M]", help="This one, or from N to M. Repeatable."),
        click.option("--source", "sources", multiple=True, metavar="ID", help="Records of this source. Repeatable."),
        click.option("--key", "keys", multiple=True, metavar="KEY", help="Records of this key. Repeatable."),
        click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Records of this kind. Repeatable."),
        click.option("--to", "to_ns", callback=time, metavar="TIME", help="Stored before that time."),
        click.option("--from", "from_ns", callback=time, metavar="TIME", help="Stored at that time or later."),
    ):
        function = decorate(function)
    return function


def action_options(function: Function) -> Function:
    for decorate in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and how many records it is. Nothing is done."),
        timeout_option,
        run_option,
        json_option('Print {"path", "run", "node", "action", "state", "found", "bytes", "first", "last", "from", "to", "done"}.'),
        quiet_debug_option,
    ):
        function = decorate(function)
    return function


def _selection(chosen: dict[str, Any]) -> Selection:
    from streamcore.durable.selection import Selection

    return Selection(**chosen)


@click.command(short_help="Show records without taking them.")
@queue_argument
@click.option("--state", type=click.Choice(["waiting", "acked", "dead"]), default="waiting", show_default=True, help="Which records.")
@filter_options
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="At most so many.")
@run_option
@json_option('Print {"records": [{"sequence", "state", "failures", "id", "kind", "source_id", "key", "value", "payload_bytes", ...}]}.')
@quiet_debug_option
def peek(queue: str, state: str, count: int, run: str | None, as_json: bool, **chosen: Any) -> int:
    """Show records of a queue, the oldest first. They stay where they are.

    VALUE is the beginning of a JSON payload; --json prints all of it. For --state dead it is the reason.

    \b
    Exit status:
      0  fine, also if there are none
      1  the queue cannot be read
      2  there is no such queue
    """
    from itertools import islice

    from streamcore.durable.export import facts_of
    from streamcore.durable.selection import walk

    place = place_of(queue, run)
    seen = list(islice(walk(place.path, state, _selection(chosen)), count))
    if as_json:
        click.echo(json.dumps({"version": 1, **place.facts, "records": [facts_of(item) for item in seen]}))
    elif seen:
        click.echo("\n".join(table(PEEK_HEADS, map(_row, seen), right=(0, 5))))
    else:
        click.echo(f"{queue}: no such {state} records")
    return 0


def _row(seen: Seen) -> tuple[object, ...]:
    from streamcore.durable.export import value_of

    record = seen.record
    if record is None:
        return (seen.sequence, "-", "-", "-", "-", seen.failures, "-", seen.problem)
    head = record.head
    said = seen.reason or (json.dumps(value_of(seen), ensure_ascii=False) if head.codec == "json" else "")
    stored = f"{iso_utc(record.stored_ns)[:19]}Z"
    return (seen.sequence, stored, head.kind, head.source_id, head.key or "-", seen.failures, payload_text(seen), said[:VALUE_CHARS])


def payload_text(seen: Seen) -> str:
    if seen.record is None:
        return "-"
    head = seen.record.head
    shape = f" {head.dtype} {'x'.join(map(str, head.shape))}" if head.shape else ""
    return f"{head.codec}{shape}, {size(len(seen.record.payload))}"


@click.command(short_help="Deliver retained records once more.")
@queue_argument
@filter_options
@action_options
def replay(queue: str, yes: bool, dry_run: bool, timeout_s: float, run: str | None, as_json: bool, **chosen: Any) -> int:
    """Queue records that were acknowledged, and are retained, once more: exactly those that the options choose, in their old order.

    They keep their idempotency ids, and `meta.durable.replayed` of their packets is true. What is not retained any more (`retain_bytes`,
    `retain_s`) cannot be replayed. What is meant, and how many records, is said first; without --yes it asks, and where nobody can be asked
    it is refused.

    \b
    Times:  2026-11-25, 2026-11-25T14:00, 14:00, yesterday 14:00, 2026-11-25T13:00Z, -10m, "1h30m ago"; of this box' zone if none is given

    \b
    Exit status:
      0  done, also if there are none
      1  it is owned by a process of no live run, the run refuses, or the disk is full; how many are done is said
      2  there is no such queue, or --yes is missing where nobody can be asked; nothing was done

    \b
    Example:
      streamctl queue replay outbox --from "yesterday 14:00" --to "yesterday 15:00" --kind event
    """
    return _act(_Action("replay", ("acked",), queue, yes, dry_run, timeout_s, run, as_json), _selection(chosen))


@click.command(short_help="Try dead letters, and what failed, now.")
@queue_argument
@click.option("--state", type=click.Choice(["dead", "waiting", "all"]), default="dead", show_default=True, help="Which records.")
@filter_options
@action_options
def retry(queue: str, state: str, yes: bool, dry_run: bool, timeout_s: float, run: str | None, as_json: bool, **chosen: Any) -> int:
    """Let dead letters (--state dead), or records that wait for a retry (--state waiting), be delivered now; their attempts begin anew.

    A dead letter takes its old place in the order: it leaves before everything that was stored after it and still waits. What is under way
    at this moment is left alone.

    \b
    Exit status: as of `streamctl queue replay`.
    """
    states = ("dead", "waiting") if state == "all" else (state,)
    return _act(_Action("retry", states, queue, yes, dry_run, timeout_s, run, as_json), _selection(chosen))


@click.command(short_help="Give records up for good.")
@queue_argument
@click.option("--state", type=click.Choice(["waiting", "acked", "dead"]), required=True, help="Which records.")
@filter_options
@action_options
def drop(queue: str, state: str, yes: bool, dry_run: bool, timeout_s: float, run: str | None, as_json: bool, **chosen: Any) -> int:
    """Give records up for good: such that still wait are never delivered then. Export them first if they may be missed.

    What is under way at this moment may still arrive. Ids stay known: a dropped record that comes again is not stored again.

    \b
    Exit status: as of `streamctl queue replay`.

    \b
    Example:
      streamctl queue drop outbox --state waiting --to yesterday --dry-run
    """
    return _act(_Action("drop", (state,), queue, yes, dry_run, timeout_s, run, as_json), _selection(chosen))


class _Action(NamedTuple):
    """What an action was told on its command line."""

    name: str
    states: Sequence[str]
    queue: str
    yes: bool
    dry_run: bool
    timeout_s: float
    run: str | None
    as_json: bool


class Found(NamedTuple):
    """The records that an action is about."""

    sequences: list[int]
    nbytes: int
    from_ns: int
    to_ns: int


def find(place: Place, states: Sequence[str], selection: Selection, *, failed_only: bool = False) -> Found:
    """`failed_only`: of those that wait, such that have failed."""
    from streamcore.durable import upkeep
    from streamcore.durable.selection import walk

    sequences: list[int] = []
    nbytes, times = 0, []
    facts = upkeep.look(place.path)
    with progress(f"reading {place.name}", sum(getattr(facts, state) for state in states)) as step:
        for state in states:
            for seen in walk(place.path, state, selection, step):
                if seen.record is not None and not (failed_only and state == "waiting" and not seen.failures):
                    sequences.append(seen.sequence)
                    nbytes += len(seen.record.payload)
                    times.append(seen.record.stored_ns)
    return Found(sorted(sequences), nbytes, min(times, default=0), max(times, default=0))


def _act(action: _Action, selection: Selection) -> int:
    place = place_of(action.queue, action.run)
    found = find(place, action.states, selection, failed_only=action.name == "retry")
    count = len(found.sequences)
    kinds = " and ".join(NOUNS[state] for state in action.states)
    what = f"{action.name} {plural(count, f'{kinds} record')} of {place.name}"
    if count:
        what += f" (sequences {found.sequences[0]} to {found.sequences[-1]}, stored from {iso_utc(found.from_ns)[:19]}Z"
        what += f" to {iso_utc(found.to_ns)[:19]}Z, {size(found.nbytes)})"
    done = None
    if count and not action.dry_run:
        agree(what, action.yes)
        with progress(what, count) as step:
            done = change(place, action.name, found.sequences, action.timeout_s, step)
    if action.as_json:
        facts = {"action": action.name, "state": list(action.states), "found": count, "bytes": found.nbytes, "done": done}
        ends = {"first": found.sequences[0], "last": found.sequences[-1]} if count else {"first": None, "last": None}
        times = {"from": iso_utc(found.from_ns), "to": iso_utc(found.to_ns)} if count else {"from": None, "to": None}
        click.echo(json.dumps({"version": 1, **place.facts, **facts, **ends, **times}))
    elif done is None:
        click.echo(f"would {what}" if count else f"{place.name}: no such {kinds} records")
    else:
        gone = f"; {count - done:,} were no longer there, or not in that state" if done < count else ""
        click.echo(f"{what}: {done:,} done{gone}")
    return 0


def agree(what: str, yes: bool) -> None:
    """Go on if that is wanted: asked on a terminal, refused where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        click.echo(f"streamctl: would {what}; say --yes", err=True)
        raise click.exceptions.Exit(WRONG_INPUT)
    click.confirm(f"{what}?", abort=True, err=True)


@click.command(short_help="Write records as other programs read them.")
@queue_argument
@click.option(
    "--state", type=click.Choice(["waiting", "acked", "dead", "all"]), default="waiting", show_default=True, help="Which records."
)
@filter_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "mcap"]),
    default="jsonl",
    show_default=True,
    help="One JSON object per line, or MCAP for Foxglove and Rerun, which needs streamcore[mcap].",
)
@click.option(
    "--payloads", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write payloads that are no JSON to files."
)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where to; else stdout.")
@run_option
@json_option('Print {"path", "run", "node", "output", "records"} when it is written; needs --output.')
@quiet_debug_option
def export(
    queue: str, state: str, form: str, payloads: Path | None, output: Path | None, run: str | None, as_json: bool, **chosen: Any
) -> int:
    """Write records, payload included, to FILE or stdout, by state and in order. They stay where they are.

    A JSON payload is `value`. Another one is `payload_base64`, or with --payloads a file SEQUENCE.png, .jpg, .raw (bytes of an array in C
    order; dtype and shape stand in the line) or .bin, named in `payload_file`. In MCAP each source and kind is a topic, pictures are
    what viewers show, and the time is that of the capture. FILE is there when it is complete: Ctrl-C leaves none, or
    the one that was there before.

    \b
    Exit status:
      0  done, also if there are none
      1  the queue cannot be read, or the file cannot be written
      2  there is no such queue

    \b
    Example:
      streamctl queue export outbox --state all --from yesterday -o events.jsonl
    """
    from streamcore.durable import upkeep
    from streamcore.durable.export import FORMATS
    from streamcore.durable.selection import walk

    if as_json and output is None:
        raise click.UsageError("--json needs --output: stdout has the records")
    place = place_of(queue, run)
    states = ("waiting", "acked", "dead") if state == "all" else (state,)
    facts = upkeep.look(place.path)
    total = sum(getattr(facts, name) for name in states)
    with _written(output) as file, progress(f"exporting {place.name}", total) as step:
        records = (seen for name in states for seen in walk(place.path, name, _selection(chosen), step))
        count = FORMATS[form](records, file, payloads)
    if as_json:
        click.echo(json.dumps({"version": 1, **place.facts, "output": str(output), "records": count}))
    elif output is not None:
        click.echo(f"{output}: {plural(count, 'record')}")
    return 0


@contextmanager
def _written(output: Path | None) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        with whole_file(output) as file:
            yield file
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from None
