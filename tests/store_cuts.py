"""Simulated power cuts of a durable store: record what a process writes and syncs, then make the files that a cut could have left.

What was written before the last fdatasync is there; of what came after it, any pages, in any order. `tools/durable cuts --cuts 3000` prints
what it found as JSON. Needs a C compiler, for the recorder that is loaded before the C library.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from store_kills import SYNCS, Broken, entry_of, payload_of

from streamcore.durable import files, verify
from streamcore.durable.options import Options
from streamcore.durable.store import DurableStore

RECORDER = Path(__file__).with_name("store_recorder.c")
HEAD = struct.Struct("<QQQ")
WRITE, WRITE_SYNCED, SYNC, SAID = 1, 2, 3, 4
PAGE_BYTES = 4096
OPTIONS = {"max_bytes": 16 << 20, "retain_bytes": 200_000, "dedup_max": 300}


class Step(NamedTuple):
    what: int
    offset: int
    content: bytes


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def record(folder: Path, sync: str, seed: int, rounds: int, *more: str) -> list[Step]:
    """Let a process work on a store and give everything that it wrote, synced, and said was durable."""
    library, log = folder / "recorder.so", folder / "record"
    subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", library, RECORDER, "-ldl"], check=True, timeout=120)
    env = {**os.environ, "LD_PRELOAD": str(library), "STORE_RECORD": str(log), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [
        sys.executable,
        __file__,
        "--work",
        str(folder / "queue"),
        "--sync",
        sync,
        "--seed",
        str(seed),
        "--rounds",
        str(rounds),
        *more,
    ]
    subprocess.run(command, env=env, check=True, timeout=600)
    return list(_steps(log.read_bytes()))


def _steps(raw: bytes) -> Iterator[Step]:
    at = 0
    while at < len(raw):
        what, offset, nbytes = HEAD.unpack_from(raw, at)
        at += HEAD.size
        yield Step(what, offset, raw[at : at + nbytes])
        at += nbytes


def work(path: Path, sync: str, seed: int, rounds: int, early: bool) -> None:
    """In the recorded process: says which answers it is about to write, then what is durable. `early` says so of every commit at once."""
    chance = random.Random(seed)
    log = os.open(os.environ["STORE_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(*word: object) -> None:
        content = json.dumps(word).encode()
        os.write(log, HEAD.pack(SAID, 0, len(content)) + content)

    store = DurableStore(path, Options(sync=sync, **OPTIONS))
    unconfirmed: list[tuple[int, int, list[int]]] = []
    waiting: list[int] = []
    for _ in range(rounds):
        answered, waiting = waiting[: (cut := chance.randrange(len(waiting) + 1))], waiting[cut:]
        for sequence in answered:
            store.ack(sequence)
        say("begin", answered)
        first = store.counters.next_sequence
        last = first - 1 + chance.choice((1, 1, 5, 16, 40))
        store.append([entry_of(number) for number in range(first, last + 1)])
        unconfirmed.append((store.counters.commits, last, answered))
        if chance.random() < 0.1:
            store.sync()
        while unconfirmed and (early or unconfirmed[0][0] <= store.durable_commits):
            _, upto, settled = unconfirmed.pop(0)
            say("durable", upto, settled)
        commits = store.counters.commits
        waiting += [item.record.sequence for item in store.deliver(50)]
        if store.counters.commits > commits:
            unconfirmed.append((store.counters.commits, last, []))


def image_after(steps: list[Step], cut: int, chance: random.Random) -> bytearray:
    """A file that a power cut before step `cut` could have left."""
    image, loose = bytearray(), []
    for step in steps[:cut]:
        if step.what == WRITE:
            loose += [(step.offset + at, step.content[at : at + PAGE_BYTES]) for at in range(0, len(step.content), PAGE_BYTES)]
        elif step.what == WRITE_SYNCED:
            _put(image, step.offset, step.content)
        elif step.what == SYNC:
            for offset, content in loose:
                _put(image, offset, content)
            loose = []
    chance.shuffle(loose)
    for offset, content in loose[: chance.randrange(len(loose) + 1)]:
        _put(image, offset, content)
    return image


def _put(image: bytearray, offset: int, content: bytes) -> None:
    image.extend(bytes(max(0, offset + len(content) - len(image))))
    image[offset : offset + len(content)] = content


def check(folder: Path, steps: list[Step], cut: int, chance: random.Random, sync: str) -> None:
    """Raises Broken unless the store that the cut has left holds what it had promised."""
    upto, settled, answered, begun = 0, set(), set(), 0
    for step in steps[:cut]:
        if step.what == SAID:
            word = json.loads(step.content)
            if word[0] == "begin":
                answered.update(word[1])
            else:
                upto = word[1]
                settled.update(word[2])
    image = image_after(steps, cut, chance)
    path = folder / "cut"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / files.DATA).write_bytes(image)
    if not upto and len(image) < 2 * PAGE_BYTES:
        return  # the store had not even been made
    wrong = files.wrong_length(path)
    why, damaged = (wrong, []) if wrong else verify.verify(path)
    if not upto and why:
        return
    if why or damaged:
        raise Broken(f"the file is corrupt: {why} {damaged}")
    environment = files.open_environment(path, Options(sync=sync, **OPTIONS))
    try:
        tables = files.open_tables(environment)
        with environment.begin() as txn:
            waiting = [files.sequence_of(key) for key, _ in txn.cursor(db=tables["waiting"])]
            records = dict(txn.cursor(db=tables["records"]))
    finally:
        environment.close()
    begun = max([upto, *waiting])
    lost = set(range(1, upto + 1)) - set(waiting) - answered
    if lost:
        raise Broken(f"lost, though they were durable: {sorted(lost)[:10]}")
    if settled & set(waiting):
        raise Broken(f"come again, though their acknowledgement was durable: {sorted(settled & set(waiting))[:10]}")
    if set(range(upto + 1, begun + 1)) - set(waiting) - answered:
        raise Broken(f"a hole between {upto} and {begun}")
    if any(not records[files.key_of(number)].endswith(payload_of(number)) for number in waiting):
        raise Broken("a payload is not what was appended")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=3000, help="in each mode (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60, help="commits that are recorded for 100 cuts (default: %(default)s)")
    parser.add_argument("--sync", choices=SYNCS, action="append", help="only this mode (default: both)")
    parser.add_argument("--early", action="store_true", help="claim that a pipelined commit is durable at once: has to be found out")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.sync[0], given.seed, given.rounds, given.early)
        return 0
    for sync in given.sync or SYNCS:
        for first in range(0, given.cuts, 100):
            folder = Path(tempfile.mkdtemp(prefix="sc-cuts-"))
            steps = record(folder, sync, given.seed * 1000 + first, given.rounds, *(["--early"] if given.early else []))
            for number in range(first, min(first + 100, given.cuts)):
                chance = random.Random(given.seed * 1_000_000 + number)
                cut = chance.randrange(1, len(steps) + 1)
                try:
                    check(folder, steps, cut, chance, sync)
                except Broken as broken:
                    sys.stderr.write(f"{sync}, cut {number} of seed {given.seed}: {broken}; its files are kept in {folder}\n")
                    return 1
            shutil.rmtree(folder)
        sys.stdout.write(json.dumps({"sync": sync, "cuts": given.cuts}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
