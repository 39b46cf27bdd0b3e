"""Dead letters of durable queues, as `streamctl dlq` shows them beside the packets that killed a process. Their ID is QUEUE:SEQUENCE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click

from streamcore.cli.queue_places import Place, all_places, change, place_of
from streamcore.cli.queue_records import payload_text
from streamcore.cli.wording import plural
from streamcore.clock import iso_utc
from streamcore.durable.selection import Selection, walk
from streamcore.durable.upkeep import Seen

WHY_CHARS = 40


class Dead(NamedTuple):
    """A dead record and the queue that has it."""

    place: Place
    seen: Seen

    @property
    def id(self) -> str:
        return f"{self.place.name}:{self.seen.sequence}"


def of_run(run: str) -> list[Dead]:
    """All that the queues of a live run have; of one that has ended none, its queues are found by their folders only."""
    return [dead for place in all_places() if place.held and place.held.info.run == run for dead in _of_place(place)]


def of_queues(words: Iterable[str], run: str | None) -> list[Dead]:
    return [dead for word in words for dead in _of_place(place_of(word, run))]


def _of_place(place: Place) -> list[Dead]:
    return [Dead(place, seen) for seen in walk(place.path, "dead", Selection())]


def is_id(word: str) -> bool:
    queue, colon, sequence = word.rpartition(":")
    return bool(queue and colon and sequence.isdecimal())


def by_id(words: Iterable[str], run: str | None) -> list[Dead]:
    """Raises click.BadParameter for one that is none."""
    found: list[Dead] = []
    places: dict[str, Place] = {}
    for word in dict.fromkeys(words):
        queue, _, sequence = word.rpartition(":")
        place = places.setdefault(queue, places.get(queue) or place_of(queue, run))
        span = (int(sequence), int(sequence))
        hits = [Dead(place, seen) for seen in walk(place.path, "dead", Selection(spans=(span,)))]
        if not hits:
            raise click.BadParameter(f"dead letter {word}: queue {place.path} has none with this sequence", param_hint="ID")
        found += hits
    return found


def row(dead: Dead) -> tuple[str, ...]:
    seen, record = dead.seen, dead.seen.record
    node = dead.place.held.node if dead.place.held else "-"
    kind, source = (record.head.kind, record.head.source_id) if record else ("-", "-")
    why = f"{plural(seen.failures, 'failure')}: {seen.reason}" if seen.reason else plural(seen.failures, "failure")
    since = f"{iso_utc(seen.since_ns)[:19]}Z"
    return (dead.id, node, kind, source, str(seen.sequence), why[:WHY_CHARS], payload_text(seen), since, "-")


def facts(dead: Dead, *, brief: bool) -> dict[str, Any]:
    """As JSON; `brief`: without the value."""
    from streamcore.durable.export import facts_of

    found = facts_of(dead.seen)
    if brief:
        found.pop("value", None)
    return {"type": "record", "letter_id": dead.id, **dead.place.facts, **found}


def details(dead: Dead) -> dict[str, object]:
    """What `show` prints."""
    from streamcore.durable.export import value_of

    seen, record = dead.seen, dead.seen.record
    rows: dict[str, object] = {"queue": dead.place.path, "sequence": seen.sequence}
    if dead.place.held:
        rows |= {"node": dead.place.held.node, "run": dead.place.held.info.run}
    if record is not None:
        head = record.head
        rows |= {"kind": head.kind, "source": head.source_id, "key": head.key, "id": record.id16.hex()}
        rows |= {"captured": iso_utc(record.wall_ns), "stored": iso_utc(record.stored_ns)}
        rows |= {"meta": json.dumps(head.meta, ensure_ascii=False) if head.meta else None, "payload": payload_text(seen)}
        rows |= {"value": json.dumps(value_of(seen), ensure_ascii=False) if head.codec == "json" else None}
    rows |= {"failures": seen.failures, "last reason": seen.reason, "dead since": iso_utc(seen.since_ns), "problem": seen.problem}
    return rows


def act(name: str, dead: Sequence[Dead], timeout_s: float) -> int:
    """Retry or drop them, queue by queue; says what was done, and gives how many could not be."""
    short = 0
    places = {one.place.path: one.place for one in dead}
    for path, place in places.items():
        mine = [one.seen.sequence for one in dead if one.place.path == path]
        done = change(place, name, sorted(mine), timeout_s, lambda count: None)
        said = "queued again, with no failures" if name == "retry" else "removed"
        click.echo(f"{place.name}: {plural(done, 'dead letter')} {said}" + (f"; {len(mine) - done} were gone" if done < len(mine) else ""))
        short += len(mine) - done
    return short
