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
from pathlib import Path

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
            self.stored = word[1]
            for begun, sequences in self._answers:
                if 0 <= begun <= self.stored:
                    self.settled.update(sequences)
            self._answers = [item for item in self._answers if not 0 <= item[0] <= self.stored]
        elif word[0] == "ack":
            self.answered.update(word[1])
            self._answers.append((-1, word[1]))

    def check(self, waiting: list[int], findings: list[str]) -> None:
        if findings:
            raise Broken(f"a kill has damaged the file: {findings}")
        if waiting != sorted(set(waiting)):
            raise Broken("out of order")
        found = set(waiting)
        lost = {number for number in range(1, self.stored + 1) if number not in self.answered} - found
        if lost:
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
        self.answered -= found  # that answer died with its process


def one_life(path: Path, options: Options, seed: int, book: Book, life_s: float) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            child(path, options, seed, writer)
        finally:
            os._exit(1)
    os.close(writer)
    buffer, killed, dies_at, opened = b"", False, float("inf"), False
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
                    opened, dies_at = True, time.monotonic() + life_s
                else:
                    book.hear(word)
    finally:
        os.close(reader)
        if not killed:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not opened or not os.WIFSIGNALED(status):
        raise Broken(f"the child ended by itself with status {status}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=2000, help="kills in each mode (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync", choices=SYNCS, action="append", help="only this mode (default: both)")
    given = parser.parse_args()
    for sync in given.sync or SYNCS:
        folder = Path(tempfile.mkdtemp(prefix="sc-kills-"))
        book, began_s = Book(), time.monotonic()
        options = Options(max_bytes=64 << 20, sync=sync, retain_bytes=1 << 20, dedup_max=500)
        for cycle in range(given.cycles):
            seed = given.seed * 1_000_000 + cycle
            try:
                one_life(folder / "queue", options, seed, book, random.Random(seed).random() ** 2 * 0.1)
            except Broken as broken:
                sys.stderr.write(f"{sync}, cycle {cycle} of seed {given.seed}: {broken}; the store is kept in {folder}\n")
                return 1
        shutil.rmtree(folder)
        found = {"sync": sync, "kills": given.cycles, "records": book.records, "redelivered": book.redelivered}
        sys.stdout.write(json.dumps(found | {"seconds": round(time.monotonic() - began_s, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
