"""Simulated power cuts of a recording: what a recorder writes and syncs is noted, then the files are made that a cut could have left.

A file is there if its folder was synced after it was made, else perhaps. What was written before its last fdatasync is in it; of what came
after it, any pages. An index was never synced: it may be whole, torn, empty or missing.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamcore.durable import files
from streamcore.durable import recorder as module
from streamcore.durable.record import Entry, Head
from streamcore.durable.recorder import Recorder
from streamcore.durable.recording import Recording

PAGE_BYTES = 4096
OPTIONS = Recorder.Options(segment_bytes=64 << 10, max_bytes=8 << 20)
Step = tuple[str, str, int, bytes]  # made, written, synced, folder or said; file; offset or number; content


class Broken(Exception):
    """A recording lost what it had completed, or gives what it was not given."""


def payload_of(number: int) -> bytes:
    return b"%08d" % number + random.Random(number).randbytes(number * 37 % 9000)


class Noted:
    """The module os, with a note of what is done to segments. `syncs` False: fdatasync does nothing, which has to be found out."""

    def __init__(self, syncs: bool):
        self.steps: list[Step] = []
        self._syncs = syncs

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_CREAT:
            self.steps.append(("made", Path(path).name, 0, b""))
        return os.open(path, flags, *more)

    def pwrite(self, fd: int, raw: bytes, offset: int) -> int:
        return self.pwritev(fd, [raw], offset)

    def pwritev(self, fd: int, buffers: list[Any], offset: int) -> int:
        self.steps.append(("written", _name(fd), offset, b"".join(buffers)))
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        if self._syncs:
            self.steps.append(("synced", _name(fd), 0, b""))

    def fsync(self, fd: int) -> None:
        self.steps.append(("folder", "", 0, b""))


def _name(fd: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{fd}")).name


@contextmanager
def _noting(syncs: bool) -> Iterator[Noted]:
    noted = Noted(syncs)
    module.os = files.os = noted  # type: ignore[attr-defined]
    try:
        yield noted
    finally:
        module.os = files.os = os  # type: ignore[attr-defined]


def record(path: Path, seed: int, rounds: int, syncs: bool = True) -> list[Step]:
    """What a recorder does to the files in `path`, and after which step which record is completed."""
    chance = random.Random(seed)
    with _noting(syncs) as noted:
        with Recorder(path, OPTIONS) as recorder:
            number = 1
            for _ in range(rounds):
                batch = [
                    Entry(n.to_bytes(16, "big"), n, Head("event", "source", "bytes"), payload_of(n))
                    for n in range(number, number + chance.choice((1, 1, 3, 8, 20)))
                ]
                assert recorder.append(batch) == len(batch)
                number += len(batch)
                noted.steps.append(("said", "", number - 1, b""))
        return noted.steps


def _leave(folder: Path, whole: Path, steps: list[Step], chance: random.Random) -> None:
    made: set[str] = set()
    sure: set[str] = set()
    images: dict[str, bytearray] = {}
    loose: dict[str, list[tuple[int, bytes]]] = {}
    for what, name, offset, content in steps:
        if what == "made":
            made.add(name)
        elif what == "folder":
            sure |= made
        elif what == "written":
            pages = [(offset + at, content[at : at + PAGE_BYTES]) for at in range(0, len(content), PAGE_BYTES)]
            loose.setdefault(name, []).extend(pages)
        elif what == "synced":
            _put(images.setdefault(name, bytearray()), loose.pop(name, []))
    for name in sorted(made):
        if name.endswith(".seg") and (name in sure or chance.random() < 0.5):
            pages = loose.get(name, [])
            chance.shuffle(pages)
            image = images.setdefault(name, bytearray())
            _put(image, pages[: chance.randrange(len(pages) + 1)])
            (folder / name).write_bytes(image)
            index = whole / name.replace(".seg", ".idx")
            if name != max(made, default="") and index.exists():
                raw = index.read_bytes()
                left = chance.choice((raw, raw[: len(raw) // 2], b"", bytes(len(raw)), None))
                if left is not None:
                    (folder / index.name).write_bytes(left)


def _put(image: bytearray, pages: list[tuple[int, bytes]]) -> None:
    for offset, content in pages:
        image.extend(bytes(max(0, offset + len(content) - len(image))))
        image[offset : offset + len(content)] = content


def check(folder: Path, whole: Path, steps: list[Step], seed: int) -> None:
    """Cut the power somewhere. Raises Broken unless what was completed until then is there, before and after the recorder's next start."""
    chance = random.Random(seed)
    cut = chance.randrange(1, len(steps) + 1)
    done = max((number for what, _, number, _ in steps[:cut] if what == "said"), default=0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _leave(folder, whole, steps[:cut], chance)
    if done:
        _check(folder, done)
    with Recorder(folder, OPTIONS) as recorder:
        kept = _check(folder, done)
        if recorder.next_sequence <= max(kept, default=0):
            raise Broken(f"the next sequence is {recorder.next_sequence}, though {kept[-1]} is there")
        recorder.append([Entry(bytes(16), 0, Head("event", "source", "bytes"), payload_of(recorder.next_sequence))])
        _check(folder, done)


def _check(folder: Path, done: int) -> list[int]:
    try:
        found = list(Recording(folder).read())
    except module.StoreError as error:
        raise Broken(str(error)) from None
    numbers = [item.sequence for item in found]
    if any(item.payload != payload_of(item.sequence) for item in found) or numbers != sorted(set(numbers)):
        raise Broken("a record is not what was appended")
    lost = set(range(1, done + 1)) - set(numbers)
    if lost:
        raise Broken(f"lost, though they were completed: {sorted(lost)[:10]} of {done}")
    return numbers
