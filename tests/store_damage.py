"""Damaged files of a durable store: bits flipped, ends cut off, a thousand times: `tools/durable damage --flips 1000 --truncations 300`.

A process is forked for each file. It opens the store, takes everything, goes on working with it, and opens it again. What is missing has to
be said, what comes has to be what was stored, and no signal may end it, whatever it reads. A single-threaded program of its own, so that it
may fork.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from store_kills import Broken, entry_of, examine_here, fast_folder, payload_of

from streamcore.durable import files, opening, verify
from streamcore.durable.options import Options
from streamcore.durable.store import DurableStore

OPTIONS = Options(max_bytes=16 << 20, retain_bytes=1 << 20, dedup_max=150)
COUNT, ACKED = 120, 40
WORK = 6  # transactions after the damage: what is wrong with free pages and indexes shows when they are used


def examine_forked(path: Path, step: Any = None) -> tuple[str, list[tuple[int, str]]]:
    """What opening.examine does, by a child that is forked: the start of an interpreter takes ten times as long."""
    wrong = files.wrong_length(path)
    if wrong:
        return wrong, []
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writer, "w") as answers:
                json.dump(verify.verify(path), answers)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        raw = answers.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"reading it ended a process with signal {os.WTERMSIG(status)}", []
    broken, damaged = json.loads(raw)
    return broken, [(sequence, reason) for sequence, reason in damaged]


def make(path: Path) -> None:
    """COUNT records, of which the first ACKED are acknowledged and retained, in a file with pages that are free."""
    with DurableStore(path, OPTIONS) as store:
        for first in range(1, COUNT + 1, 20):
            store.append([entry_of(number) for number in range(first, first + 20)])
        for delivery in store.deliver(ACKED):
            store.ack(delivery.record.sequence)
            if not delivery.record.sequence % 10:
                store.commit()


def flip(data: Path, chance: random.Random) -> str:
    raw = bytearray(data.read_bytes())
    places = [(chance.randrange(len(raw)), chance.randrange(8)) for _ in range(chance.choice((1, 1, 1, 3, 40, 200)))]
    for offset, bit in places:
        raw[offset] ^= 1 << bit
    data.write_bytes(raw)
    return f"bits flipped at {places[:3]}"


def truncate(data: Path, chance: random.Random) -> str:
    size = data.stat().st_size
    left = chance.choice((chance.randrange(size), chance.randrange(size // 4096) * 4096, max(0, size - chance.randrange(1, 9000))))
    os.truncate(data, left)
    return f"{size} bytes cut to {left}"


def use(path: Path) -> None:
    """In a process of its own. Raises Broken."""
    with DurableStore(path, OPTIONS) as store:
        said = list(store.findings)
        taken = {item.record.sequence: item.record.payload for item in store.deliver(10_000)}
        if any(payload != payload_of(sequence) for sequence, payload in taken.items()):
            raise Broken("a record was handed out that is not what was stored")
        if set(taken) != set(range(ACKED + 1, COUNT + 1)) and not store.findings:
            raise Broken(f"{COUNT - ACKED - len(taken)} records are missing, and nobody was told")
        if said and not list(path.glob("quarantine/*")) + list(path.glob("damaged-*/*")) and "nothing of it is left" not in str(said):
            raise Broken(f"nothing was put aside, though it said {said}")
        work(store)
    opening.examine = examine_here  # it is sound now, or that is the report
    with DurableStore(path, OPTIONS) as store:
        if store.findings:
            raise Broken(f"damaged after it was opened and used: {store.findings}; at first it said {said}")


def work(store: DurableStore) -> None:
    """Answer what was taken, in pieces, and append what is new. Sequences may have begun anew: the content goes with the number."""
    for _ in range(WORK):
        first = max(store.counters.next_sequence, COUNT + 1)
        store.append([entry_of(number) for number in range(first, first + 10)])
        for item in store.deliver(10_000):
            if not item.record.payload == payload_of(item.record.wall_ns):
                raise Broken(f"record {item.record.sequence} is not what was stored")
        for sequence in sorted(store._order.in_flight)[:15]:
            store.ack(sequence)
    store.commit()


def in_a_process(path: Path) -> str:
    """What went wrong in it; "" if nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            use(path)
        except Broken as broken:
            os.write(writer, str(broken).encode()[:4000])
        except BaseException as error:  # of the store: what it is belongs into the report
            os.write(writer, "".join(traceback.format_exception(error)).encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as words:
        said = words.read().decode()
    _, status = os.waitpid(pid, 0)
    return f"signal {os.WTERMSIG(status)} has ended the owner" if os.WIFSIGNALED(status) else said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000, help="files with 1 to 200 flipped bits (default: %(default)s)")
    parser.add_argument("--truncations", type=int, default=300, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    opening.examine = examine_forked
    folder, began_s, failures = fast_folder("sc-damage-"), time.monotonic(), 0
    make(folder / "sound")
    for damage, count in ((flip, given.flips), (truncate, given.truncations)):
        for number in range(count):
            path = folder / f"{damage.__name__}-{number}"
            shutil.copytree(folder / "sound", path)
            what = damage(path / files.DATA, random.Random(given.seed * 1_000_000 + number))
            if wrong := in_a_process(path):
                failures += 1
                sys.stderr.write(f"{what}: {wrong}; its files are kept in {path}\n")
            else:
                shutil.rmtree(path)
    found = {"flips": given.flips, "truncations": given.truncations, "failures": failures}
    sys.stdout.write(json.dumps(found | {"seconds": round(time.monotonic() - began_s, 1)}) + "\n")
    if not failures:
        shutil.rmtree(folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
