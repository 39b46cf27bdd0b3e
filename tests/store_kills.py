"""kill -9 of a process that appends to and acknowledges in a durable store, at random instants, again and again.

A single-threaded program of its own, so that it may fork: `tools/durable kills --cycles 2000 --seed 1`. It prints what it did as JSON; a
broken promise ends it with the cycle and the seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from streamcore.durable import files, opening, verify
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore

WORD_S = 60.0  # within which the child has to say something
SYNCS = ("commit", "pipelined")


class Broken(Exception):
    """A promise does not hold."""


def payload_of(number: int) -> bytes:
    return random.Random(number).randbytes((number * 7919) % 3000)


def entry_of(number: int) -> Entry:
    return Entry(number.to_bytes(16, "big"), number, Head("event", "source", "bytes"), payload_of(number))


def fast_folder(prefix: str, fast: Path = Path("/dev/shm")) -> Path:
    """In memory if there is such a place: a kill loses nothing that was written, wherever it was written to."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=fast if os.access(fast, os.W_OK) else None))


def examine_here(path: Path, step: Any = None) -> tuple[str, list[tuple[int, str]]]:
    """What the child process of an opening does, without one: the start of an interpreter costs ten times as much as everything else."""
    wrong = files.wrong_length(path)
    return (wrong, []) if wrong else verify.verify(path)


def child(path: Path, options: Options, seed: int, pipe: int) -> None:
    """Says what it is about to do and what is durable: `open`, `begin N`, `stored N`, `ack [...]`, `acked`."""

    def say(*word: object) -> None:
        os.write(pipe, json.dumps(word).encode() + b"\n")

    chance = random.Random(seed)
    store = DurableStore(path, options)
    found = store.deliver(1_000_000)
    if any(item.record.payload != payload_of(item.record.sequence) for item in found):
        store.findings.append("a payload is not what was appended")
    say("open", [item.record.sequence for item in found], store.findings)
    unanswered = [item.record.sequence for item in found]
    unconfirmed: list[tuple[int, int, bool]] = []  # commit, last number, were there answers
    while True:
        last = store.counters.next_sequence - 1 + chance.choice((1, 1, 3, 20, 64))
        say("begin", last)
        store.append([entry_of(number) for number in range(store.counters.next_sequence, last + 1)])
        unconfirmed.append((store.counters.commits, last, True))
        if chance.random() < 0.2:
            store.sync()
        while unconfirmed and unconfirmed[0][0] <= store.durable_commits:
            say("stored", unconfirmed.pop(0)[1])
        unanswered += [item.record.sequence for item in store.deliver(64)]
        answered = unanswered[: chance.choice((0, 1, 8, 64, 128))]
        del unanswered[: len(answered)]
        say("ack", answered)
        for sequence in answered:
            store.ack(sequence)


class Book:
    """What the child has said, and what has to hold after it was killed."""

    def __init__(self) -> None:
        self.stored = self.begun = 0
        self.owed: set[int] = set()  # stored, and not answered since
        self.answered: set[int] = set()
        self.settled: set[int] = set()
        self._answers: list[tuple[int, list[int]]] = []  # (begun after it, sequences): durable once that append is
        self.records = self.redelivered = 0

    def hear(self, word: list) -> None:
        if word[0] == "begin":
            self._answers = [(word[1] if begun < 0 else begun, sequences) for begun, sequences in self._answers]
            self.begun = word[1]
        elif word[0] == "stored":
            self.records += word[1] - self.stored
            self.owed.update(set(range(self.stored + 1, word[1] + 1)) - self.answered)
            self.stored = word[1]
            for begun, sequences in self._answers:
                if 0 <= begun <= self.stored:
                    self.settled.update(sequences)
            self._answers = [item for item in self._answers if not 0 <= item[0] <= self.stored]
        elif word[0] == "ack":
            self.answered.update(word[1])
            self.owed.difference_update(word[1])
            self._answers.append((-1, word[1]))

    def check(self, waiting: list[int], findings: list[str]) -> None:
        if findings:
            raise Broken(f"a kill has damaged the file: {findings}")
        if waiting != sorted(set(waiting)):
            raise Broken("out of order")
        found = set(waiting)
        if lost := self.owed - found:
            raise Broken(f"lost, though they were durable: {sorted(lost)[:10]}")
        if found & self.settled:
            raise Broken(f"came again, though their acknowledgement was durable: {sorted(found & self.settled)[:10]}")
        last = max([self.stored, *waiting])
        if last > self.begun or set(range(self.stored + 1, last + 1)) - found - self.answered:
            raise Broken(f"a hole between {self.stored} and {last}, begun {self.begun}")
        self.redelivered += len(found)
        self.stored, self.begun = last, last
        self._answers = []
        self.settled |= self.answered - found
        self.answered, self.owed = set(), found  # an answer to what is there again died with its process


def one_life(path: Path, options: Options, seed: int, book: Book, life_s: float) -> None:
    """From a start to a kill, which comes `life_s` after the store is open, or in one of eight lives after the start."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            child(path, options, seed, writer)
        except BaseException as error:  # of the store: it has to be seen why
            traceback.print_exception(error)
        finally:
            os._exit(1)
    os.close(writer)
    dies_at = time.monotonic() + life_s if seed % 8 == 0 else float("inf")
    early, killed, opened, buffer = seed % 8 == 0, False, False, b""
    try:
        while True:
            wait_s = min(max(0.0, dies_at - time.monotonic()), WORD_S)
            ready, _, _ = select.select([reader], [], [], wait_s)
            if not killed and time.monotonic() >= dies_at:
                os.kill(pid, signal.SIGKILL)
                killed, dies_at = True, float("inf")
            if not ready:
                if dies_at == float("inf") and not killed:
                    raise Broken(f"the child said nothing for {WORD_S} s")
                continue
            chunk = os.read(reader, 1 << 16)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for word in map(json.loads, lines):
                if word[0] == "open":
                    book.check(word[1], word[2])
                    opened, dies_at = True, dies_at if early else time.monotonic() + life_s
                else:
                    book.hear(word)
    finally:
        os.close(reader)
        if not killed:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not (opened or early) or not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise Broken(f"the child ended by itself with status {status}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=2000, help="kills in each mode (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync", choices=SYNCS, action="append", help="only this mode (default: both)")
    parser.add_argument("--life", type=float, default=0.1, metavar="SECONDS", help="the longest one (default: %(default)s)")
    memory = Path("/dev/shm")
    parser.add_argument("--folder", type=Path, default=memory, help="on a disk most kills find it syncing (default: %(default)s)")
    given = parser.parse_args()
    opening.examine = examine_here
    for sync in given.sync or SYNCS:
        folder = fast_folder("sc-kills-", given.folder)
        book, began_s = Book(), time.monotonic()
        options = Options(max_bytes=64 << 20, sync=sync, retain_bytes=1 << 20, dedup_max=500)
        for cycle in range(given.cycles):
            seed = given.seed * 1_000_000 + cycle
            try:
                one_life(folder / "queue", options, seed, book, random.Random(seed).random() ** 2 * given.life)
            except Broken as broken:
                sys.stderr.write(f"{sync}, cycle {cycle} of seed {given.seed}: {broken}; the store is kept in {folder}\n")
                return 1
        shutil.rmtree(folder)
        found = {"sync": sync, "kills": given.cycles, "records": book.records, "redelivered": book.redelivered}
        sys.stdout.write(json.dumps(found | {"seconds": round(time.monotonic() - began_s, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
