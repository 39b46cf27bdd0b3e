"""Simulated power cuts of a durable store: record what a process writes and syncs, then make the files that a cut could have left.

What was written before the last fdatasync is there; of what came after it, any pages, in any order, some without their first sectors.
`tools/durable cuts --cuts 3000` prints what it found as JSON. Needs a C compiler, for the recorder that is loaded before the C library.
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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from store_kills import SYNCS, Broken, entry_of, examine_here, fast_folder, payload_of

from streamcore.durable import files
from streamcore.durable.options import Options
from streamcore.durable.store import DurableStore

RECORDER = Path(__file__).with_name("store_recorder.c")
HEAD = struct.Struct("<QQQ")
WRITE, WRITE_SYNCED, SYNC, SAID = 1, 2, 3, 4
PAGE_BYTES, SECTOR_BYTES = 4096, 512
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


class Disk:
    """The steps one after the other: what a cut leaves for certain, what it may leave, and what was said of it until then."""

    def __init__(self) -> None:
        self.image = bytearray()
        self.loose: list[tuple[int, bytes]] = []  # pages that no sync has covered yet
        self.upto = 0
        self.settled: set[int] = set()
        self.answered: set[int] = set()

    def take(self, step: Step) -> None:
        if step.what == WRITE:
            self.loose += [(step.offset + at, step.content[at : at + PAGE_BYTES]) for at in range(0, len(step.content), PAGE_BYTES)]
        elif step.what == WRITE_SYNCED:
            _put(self.image, step.offset, step.content)
        elif step.what == SYNC:
            for offset, content in self.loose:
                _put(self.image, offset, content)
            self.loose = []
        else:
            word = json.loads(step.content)
            if word[0] == "begin":
                self.answered.update(word[1])
            else:
                self.upto = word[1]
                self.settled.update(word[2])

    def left(self, chance: random.Random) -> bytearray:
        """A file that a power cut now could leave."""
        image, loose = bytearray(self.image), self.loose[:]
        chance.shuffle(loose)
        for offset, content in loose[: chance.randrange(len(loose) + 1)]:
            torn = chance.randrange(0, PAGE_BYTES, SECTOR_BYTES) if chance.random() < 0.1 else 0
            _put(image, offset + torn, content[torn:])
        return image


def _put(image: bytearray, offset: int, content: bytes) -> None:
    if (missing := offset + len(content) - len(image)) > 0:
        image.extend(bytes(missing))
    image[offset : offset + len(content)] = content


def cut_often(folder: Path, steps: list[Step], sync: str, seeds: range) -> None:
    """A cut for each seed, somewhere. Raises Broken, with the seed, unless each leaves what the store had promised until then."""
    chances = {seed: random.Random(seed) for seed in seeds}
    cuts = sorted((chance.randrange(1, len(steps) + 1), seed) for seed, chance in chances.items())
    disk, done = Disk(), 0
    for cut, seed in cuts:
        for step in steps[done:cut]:
            disk.take(step)
        done = cut
        try:
            _check(folder / "cut", disk, disk.left(chances[seed]), sync)
        except Broken as broken:
            raise Broken(f"{sync}, cut {seed} before step {cut}: {broken}; its files are kept in {folder}") from None


def _check(path: Path, disk: Disk, image: bytearray, sync: str) -> None:
    """Raises Broken unless the store that is left holds what it had promised."""
    upto, answered = disk.upto, disk.answered
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / files.DATA).write_bytes(image)
    if not upto and len(image) < 2 * PAGE_BYTES:
        return  # the store had not even been made
    why, damaged = examine_here(path)
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
    if disk.settled & set(waiting):
        raise Broken(f"come again, though their acknowledgement was durable: {sorted(disk.settled & set(waiting))[:10]}")
    if set(range(upto + 1, begun + 1)) - set(waiting) - answered:
        raise Broken(f"a hole between {upto} and {begun}")
    if any(not records[files.key_of(number)].endswith(payload_of(number)) for number in waiting):
        raise Broken("a payload is not what was appended")


def run(sync: str, seed: int, cuts: int, per_record: int, rounds: int, early: bool = False) -> None:
    """Raises Broken."""
    for first in range(0, cuts, per_record):
        folder = fast_folder("sc-cuts-")
        steps = record(folder, sync, seed * 1000 + first, rounds, *(["--early"] if early else []))
        cut_often(folder, steps, sync, range(seed * 1_000_000 + first, seed * 1_000_000 + min(first + per_record, cuts)))
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=3000, help="in each mode (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60, help="commits of one recording (default: %(default)s)")
    parser.add_argument("--per-record", type=int, default=100, metavar="CUTS", help="of one recording (default: %(default)s)")
    parser.add_argument("--sync", choices=SYNCS, action="append", help="only this mode (default: both)")
    parser.add_argument("--early", action="store_true", help="claim that a pipelined commit is durable at once: has to be found out")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.sync[0], given.seed, given.rounds, given.early)
        return 0
    for sync in given.sync or SYNCS:
        began_s = time.monotonic()
        try:
            run(sync, given.seed, given.cuts, given.per_record, given.rounds, given.early)
        except Broken as broken:
            sys.stderr.write(f"{broken}\n")
            return 1
        sys.stdout.write(json.dumps({"sync": sync, "cuts": given.cuts, "seconds": round(time.monotonic() - began_s, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
