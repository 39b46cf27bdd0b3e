"""The dead letters of a run, from outside: listed, looked at, dropped, and handed to their node again. Records: node/dead_letter.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from streamcore.clock import Clock
from streamcore.control.client import Client
from streamcore.errors import StreamcoreError
from streamcore.node import dead_letter
from streamcore.node.dead_letter import Letter

PREFIX = re.compile(r"[0-9a-f]{4,32}")
LOOK_S = 0.05


class NoSuchLetter(StreamcoreError):
    """No record, or several, with the id that was given."""

    fault = "spec"


def known(run_dir: Path) -> list[Letter]:
    """All records of a run, live or ended, the oldest first; what is no record is left out."""
    paths = (run_dir / dead_letter.FOLDER).glob("*.json")
    found = [letter for path in paths if (letter := dead_letter.read(path)) is not None and letter.packet_id == path.stem]
    return sorted(found, key=lambda letter: (letter.stored, letter.packet_id))


def find(run_dir: Path, words: Iterable[str]) -> list[Letter]:
    """The records with these ids, each of which may be cut to the first characters that tell it apart, at least 4.

    Raises:
      NoSuchLetter: says which id, and what there is.
    """
    letters = known(run_dir)
    return [_the_one(run_dir, letters, word) for word in dict.fromkeys(words)]


def _the_one(run_dir: Path, letters: Sequence[Letter], word: str) -> Letter:
    wanted = word.lower()
    if not PREFIX.fullmatch(wanted):
        raise NoSuchLetter(f"dead letter: found {word!r}, expected 4 to 32 hex digits of a packet id, as `streamctl dlq list` shows them")
    hits = [letter for letter in letters if letter.packet_id.startswith(wanted)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise NoSuchLetter(f"dead letter {word}: {len(hits)} ids begin so: {', '.join(letter.packet_id for letter in hits[:5])}")
    raise NoSuchLetter(f"dead letter {word}: run '{run_dir.name}' has none with this id; it has {len(letters)}")


def path_of(run_dir: Path, letter: Letter) -> Path:
    return dead_letter.path_of(run_dir, letter.packet_id)


def payload_path(run_dir: Path, letter: Letter) -> Path | None:
    """Where its payload lies; None if it is in the record."""
    return path_of(run_dir, letter).with_name(letter.payload.file) if letter.payload.file else None


def drop(run_dir: Path, letter: Letter) -> None:
    """Remove a record for good: the record first, so that what is there is always complete."""
    path = path_of(run_dir, letter)
    path.unlink(missing_ok=True)
    for ending in (".npy", ".bin"):
        path.with_suffix(ending).unlink(missing_ok=True)


def redrive(client: Client, letter: Letter) -> None:
    """Hand a record to its node in a live run. The node marks it when it has processed it.

    Raises:
      RunError: the run has no such node, or the node is not at work.
    """
    client.request("redrive", node=letter.node, record=letter.packet_id)


def wait_redriven(run_dir: Path, letters: Iterable[Letter], timeout_s: float, clock: Clock | None = None) -> list[Letter]:
    """Wait until these have been processed again, and give them as they are then; one that was not in time is as it was."""
    clock = clock or Clock()
    before = list(letters)
    now: dict[str, Letter] = {}
    deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    while True:
        for letter in before:
            if letter.packet_id not in now:
                found = dead_letter.read(path_of(run_dir, letter))
                if found is not None and found.redriven > letter.redriven:
                    now[letter.packet_id] = found
        if len(now) == len(before) or clock.monotonic_ns() > deadline_ns:
            return [now.get(letter.packet_id, letter) for letter in before]
        clock.sleep(LOOK_S)
