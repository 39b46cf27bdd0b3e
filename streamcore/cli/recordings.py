"""streamctl recording: recordings looked at, checked, and exported for other programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, size, span, table
from streamcore.clock import iso_utc

if TYPE_CHECKING:
    from streamcore.durable.record import Record
    from streamcore.durable.recording import Recording

HEADS = ("RECORDING", "RECORDS", "SEGMENTS", "SIZE", "FROM", "SPAN", "OWNER")
PORT_HEADS = ("PORT", "SOURCE", "KIND", "CODEC", "RECORDS", "FROM", "SPAN")
FORMATS = ("mcap", "jsonl")

path_argument = click.argument("path", type=click.Path(file_okay=False, path_type=Path))


@click.group(short_help="Recordings: list, look into, check, export.")
def recording() -> None:
    """Look at recordings, and give them to other programs. PATH is the `path` that the node durable.record has in its config.

    Nothing is changed, and all of it works while a run writes the recording; what is shown is true of one moment. To run a pipeline on a
    recording, use the source durable.replay.
    """


@recording.command(short_help="How much is in each.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
@json_option('Print {"recordings": [{"path", "owner", "records", "segments", "bytes", "begin", "end"}]}.')
@quiet_debug_option
def ls(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show for each recording how many records and bytes it has, when the first of them was captured, and what time they span.

    OWNER is the process that writes it now. Only indexes are read, and of a segment that has none yet the heads of its records.

    \b
    Exit status:
      0  fine
      1  a recording cannot be read
      2  there is no recording at PATH
    """
    from streamcore.durable.recording import Recording

    found = [Recording(path) for path in paths]
    if as_json:
        click.echo(json.dumps({"version": 1, "recordings": [_facts(item) for item in found]}))
    else:
        click.echo("\n".join(table(HEADS, map(_row, found), right=(1, 2, 3))))
    return 0


def _facts(found: Recording) -> dict[str, Any]:
    facts = {"path": str(found.path), "owner": found.owner, "records": found.records, "segments": len(found.parts), "bytes": found.nbytes}
    return facts | {"begin": iso_utc(found.begin_ns) if found.records else None, "end": iso_utc(found.end_ns) if found.records else None}


def _row(found: Recording) -> tuple[object, ...]:
    numbers = (f"{found.records:,}", f"{len(found.parts):,}", size(found.nbytes))
    return (found.path, *numbers, *_times(found.begin_ns, found.end_ns, found.records), found.owner or "-")


def _times(begin_ns: int, end_ns: int, count: int) -> tuple[str, str]:
    return (f"{iso_utc(begin_ns)[:19]}Z", span((end_ns - begin_ns) / 1e9)) if count else ("-", "-")


@recording.command(short_help="What is in one: ports, sources, kinds, runs.")
@path_argument
@json_option('Print what `ls --json` has, and {"runs", "ports": [{"port", "source_id", "kind", "codec", "records", "begin", "end"}]}.')
@quiet_debug_option
def info(path: Path, as_json: bool) -> int:
    """Show what a recording holds of each port, source and kind. The head of every record is read for that, but no payload.

    \b
    Exit status:
      0  fine
      1  it cannot be read
      2  there is no recording at PATH
    """
    from streamcore.durable.recording import Recording

    found = Recording(path)
    ports: dict[tuple[str, str, str, str], list[int]] = {}
    for record in _watched(found.read(payloads=False), found, f"reading {path}"):
        head = record.head
        row = ports.setdefault((head.key, head.source_id, head.kind, head.codec), [0, record.wall_ns, record.wall_ns])
        row[:] = row[0] + 1, min(row[1], record.wall_ns), max(row[2], record.wall_ns)
    runs = list(dict.fromkeys(part.run for part in found.parts if part.run and part.records))
    if as_json:
        rows = [
            dict(zip(("port", "source_id", "kind", "codec"), names, strict=True))
            | {"records": count, "begin": iso_utc(begin_ns), "end": iso_utc(end_ns)}
            for names, (count, begin_ns, end_ns) in ports.items()
        ]
        click.echo(json.dumps({"version": 1, **_facts(found), "runs": runs, "ports": rows}))
        return 0
    click.echo("\n".join(table(HEADS, [_row(found)], right=(1, 2, 3))) + f"\n{plural(len(runs), 'run')}: {', '.join(runs) or '-'}\n")
    cells = [(*names, f"{count:,}", *_times(begin_ns, end_ns, count)) for names, (count, begin_ns, end_ns) in ports.items()]
    click.echo("\n".join(table(PORT_HEADS, cells, right=(4,))))
    return 0


@recording.command(short_help="Read all of it and say what is damaged.")
@path_argument
@json_option('Print {"path", "records", "damaged", "findings": [text]}.')
@quiet_debug_option
def check(path: Path, as_json: bool) -> int:
    """Read every record of a recording and hold it against its checksum. Nothing is changed.

    What is damaged is left out by `export` and by durable.replay, which count it; it costs nothing else. What a crash has torn off at the
    end was never completed and is no damage.

    \b
    Exit status:
      0  all of it is whole
      1  something is damaged
      2  there is no recording at PATH
    """
    from streamcore.durable.recording import Recording

    found, findings = Recording(path), []
    reading = found.read(on_damage=lambda count, text: findings.append(f"{plural(count, 'damaged record')}: {text}"))
    count = sum(1 for _ in _watched(reading, found, f"checking {path}"))
    if as_json:
        click.echo(json.dumps({"version": 1, "path": str(path), "records": count, "damaged": found.damaged, "findings": findings}))
    else:
        said = plural(found.damaged, "damaged record") if found.damaged else "all of it is whole"
        click.echo("\n".join([*findings, f"{path}: {plural(count, 'record')}, {said}"]))
    return NODE_FAILED if found.damaged else 0


@recording.command(short_help="Write it as MCAP or JSON lines.")
@path_argument
@click.option("--to", "target", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="What to write; else what the end of FILE's name says.")
@click.option("--from", "start", default="", metavar="TIME", help="Only what was captured then or later.")
@click.option("--to-time", "end", default="", metavar="TIME", help="Only what was captured before.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only packets of this kind. Repeatable.")
@click.option("--source", "sources", multiple=True, metavar="ID", help="Only packets with this source_id. Repeatable.")
@click.option("--port", "ports", multiple=True, metavar="PORT", help="Only what came from this port, e.g. camera.out. Repeatable.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option('Print {"path", "to", "format", "records", "damaged", "bytes"}.')
@quiet_debug_option
def export(path: Path, target: Path, form: str | None, start: str, end: str, force: bool, as_json: bool, **names: tuple[str, ...]) -> int:
    """Write a recording, or a part of it, into a file that other programs read. FILE appears when it is complete.

    mcap is what Foxglove and Rerun open: a topic for each source and port, /SOURCE/PORT, at the capture times; pictures as
    foxglove.CompressedImage or foxglove.RawImage, all else as JSON. It needs `pip install 'streamcore[mcap]'`. jsonl is a JSON object per
    line; of arrays and bytes it has only what they are.

    TIME is 2026-11-25T14:00:00Z or yesterday 14:00 (in the box's zone unless it says otherwise), 1h30m after the beginning of the
    recording, or -10m before its end.

    \b
    Exit status:
      0  done; what was left out as damaged is said
      1  it cannot be read, or FILE cannot be written
      2  there is no recording at PATH, FILE exists, or the package mcap is missing
    """
    from streamcore.durable.recording import Recording
    from streamcore.durable.recording_export import save
    from streamcore.errors import ConfigError, StoreError

    form = form or target.suffix.removeprefix(".")
    if form not in FORMATS:
        raise ConfigError(f"found {target.name!r}, expected a name that ends with .mcap or .jsonl; or say --format")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; nothing was written. To replace it, say --force")
    found = Recording(path)
    selection = found.select(start, end, **names)
    wrong: Counter[str] = Counter()
    reading = found.read(selection, on_damage=lambda count, text: wrong.update({text: count}))
    try:
        count = save(_watched(reading, found, f"writing {target}", found.selected_bytes(selection)), target, form)
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}") from None
    for text, number in wrong.items():
        click.echo(f"left out {plural(number, 'damaged record')}: {text}", err=True)
    nbytes = target.stat().st_size
    if as_json:
        facts = {"path": str(path), "to": str(target), "format": form, "records": count, "damaged": found.damaged, "bytes": nbytes}
        click.echo(json.dumps({"version": 1, **facts}))
    else:
        click.echo(f"{target}: {plural(count, 'record')}, {size(nbytes)}")
    return 0


def _watched(records: Iterable[Record], found: Recording, what: str, total_bytes: int = 0) -> Iterator[Record]:
    """The same records, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from records
        return
    from rich.console import Console
    from rich.progress import Progress

    mean = found.nbytes / max(1, found.records)  # the bar need not be exact, and most records are alike
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=(total_bytes or found.nbytes) / mean)
        for record in records:
            yield record
            progress.advance(task)
