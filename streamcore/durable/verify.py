"""Read all of a store and say what is damaged, as JSON on stdout: `python -m streamcore.durable.verify PATH`.

A process of its own, for a damaged file may end it: LMDB trusts every page number in its map.
"""

from __future__ import annotations

import heapq
import json
import mmap
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

from streamcore.durable import dead, files, record
from streamcore.durable.change import lane_of
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, FLAGS_MAX, ID, WAITING, sequence_of
from streamcore.durable.options import room_of
from streamcore.durable.pages import FREE, Item, Pages, table_of
from streamcore.errors import StoreError

DAMAGED_MAX = 10_000  # more than so many is no store any more
LOOKS = 3  # for the meta page of a transaction, beside an owner that commits
NEVER = 1 << 64  # above every sequence

Damaged = list[tuple[int, str]]
Owner = tuple[int, str, memoryview]  # sequence of a record, table of its state, entry there


NOBODY: Owner = (NEVER, "", memoryview(b""))
STATES = {"waiting": WAITING.size, "acked": ACKED.size, "dead": dead.LAYOUT.size}
STEP_BYTES, RECORD_BYTES_MIN = 10_000_000, 5000  # between two words about how far it is; a small record takes as long as so many


class Sums(NamedTuple):
    """What the counters have to say as well."""

    last: int
    rooms: dict[str, int]  # by state


def verify(path: Path, step: Callable[[int, int], None] = lambda read, of: None) -> tuple[str, Damaged]:
    """Why the store as a whole cannot be used, or "", and (sequence, reason) of its damaged records."""
    try:
        environment = files.open_environment(path, None)
        try:
            for _ in range(LOOKS):
                # The transaction keeps the pages of its snapshot from being used again.
                with environment.begin() as txn, open(path / files.DATA, "rb") as file:
                    metas = {meta.transaction: meta for meta in files.metas(file.fileno())}
                    meta = metas.get(txn.id())
                    if meta and ((len(metas) == 2 and max(metas) == min(metas) + 1) or not max(metas)):
                        return "", _walk(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)), meta, step)
            return f"its meta pages are of the transactions {sorted(metas)}, expected two that follow each other", []
        finally:
            environment.close()
    except (lmdb.Error, StoreError, OSError) as error:
        return str(error), []
    except (struct.error, IndexError, ValueError) as error:  # bytes that no check names, read as numbers: damage all the same
        return f"its pages cannot be read: {type(error).__name__}: {error}", []


def _walk(raw: memoryview, meta: files.Meta, step: Callable[[int, int], None]) -> Damaged:
    """Raises StoreError for what cannot be mended record by record."""
    pages = Pages(raw, meta.page_bytes, meta.last_page)
    tables = pages.tables(table_of("(main)", meta.main_table))
    items = {name: pages.items(tables[name]) if name in tables else iter(()) for name in files.TABLES}
    damaged: Damaged = []
    count = tables["records"].entries if "records" in tables else 0
    sums = _check_records(items, damaged, lambda read: step(read, count))
    if any(len(key) != 8 or len(value) != ID.size for key, value in items["ids"]):
        raise StoreError(f"table ids: found an entry of a wrong size, expected 8 and {ID.size} bytes")
    _check_counters(dict(items["state"]), sums)
    pages.check_free(table_of(FREE, meta.free_table))
    return damaged


def _check_records(items: dict[str, Iterator[Item]], damaged: Damaged, step: Callable[[int], None]) -> Sums:
    """Each record is what was written, and stands in the table of exactly one state; what these tables say of it can be true."""
    owners = heapq.merge(*(_entries(name, nbytes, items[name]) for name, nbytes in STATES.items()))
    sequence, name, entry = next(owners, NOBODY)
    last, rooms, unsaid = -1, dict.fromkeys(STATES, 0), STEP_BYTES
    for number, (key, raw) in enumerate(items["records"]):
        unsaid += max(len(raw), RECORD_BYTES_MIN)
        if unsaid >= STEP_BYTES:
            step(number)
            unsaid = 0
        last = sequence_of(key)
        if len(key) != 8:
            raise StoreError(f"table records: found a key of {len(key)} bytes, expected 8")
        while sequence < last:
            damaged.append((sequence, f"record {sequence}: it is missing"))
            sequence, name, entry = next(owners, NOBODY)
        if sequence != last:
            raise StoreError(f"record {last}: neither waits, nor is retained, nor a dead letter")
        rooms[name] += room_of(len(raw))
        try:
            record.check(raw, last)
            _check_entry(last, name, entry, raw)
        except record.BadRecord as error:
            damaged.append((last, str(error)))
        sequence, name, entry = next(owners, NOBODY)
        if sequence == last:
            raise StoreError(f"record {last}: has two states, {name} is one of them")
        if len(damaged) > DAMAGED_MAX:
            raise StoreError(f"table records: more than {DAMAGED_MAX} damaged records")
    while sequence < NEVER and len(damaged) <= DAMAGED_MAX:
        damaged.append((sequence, f"record {sequence}: it is missing"))
        sequence, name, entry = next(owners, NOBODY)
    return Sums(last, rooms)


def _entries(name: str, value_bytes: int, items: Iterable[Item]) -> Iterator[Owner]:
    for key, value in items:
        if len(key) != 8 or len(value) < value_bytes or (name != "dead" and len(value) > value_bytes):
            raise StoreError(f"table {name}: found an entry of {len(key)} and {len(value)} bytes, expected 8 and {value_bytes}")
        yield sequence_of(key), name, value


def _check_entry(sequence: int, name: str, entry: memoryview, raw: memoryview) -> None:
    """What the table of its state says of a sound record. Raises BadRecord for what concerns only this one."""
    if name == "waiting":
        _, flags, lane = WAITING.unpack(entry)
        expected = lane_of(record.head_of(raw, sequence).key) if lane else 0  # no bit that flips makes a lane 0
        if flags & ~FLAGS_MAX or lane != expected:
            raise record.BadRecord(f"record {sequence}: found flags {flags:#x} and lane {lane:#x} for it, expected lane {expected:#x}")
    elif name == "acked":
        if (room := ACKED.unpack(entry)[1]) != room_of(len(raw)):
            raise StoreError(f"table acked: found a room of {room} for record {sequence}, expected {room_of(len(raw))}")
    else:
        try:
            dead.decode(bytes(entry), sequence)
        except StoreError as error:
            raise record.BadRecord(str(error)) from None


def _check_counters(state: dict[bytes, memoryview], sums: Sums) -> None:
    raw = state.get(files.COUNTERS_KEY)
    if raw is None:
        if sums.last >= 0:
            raise StoreError("table state: found no counters")
        return
    counters = Counters.decode(bytes(raw))
    if counters.next_sequence <= sums.last:
        raise StoreError(f"counters: found a next sequence of {counters.next_sequence}, expected one above {sums.last}")
    found = counters.used_bytes, counters.retained_bytes, counters.dead_bytes
    expected = sum(sums.rooms.values()), sums.rooms["acked"], sums.rooms["dead"]
    if found != expected:
        raise StoreError(f"counters: found a room of all, retained and dead records of {found} bytes, expected {expected}")


def main() -> None:
    """SYNC: opening._listen reads these lines."""

    def say(read: int, of: int) -> None:
        sys.stdout.write(json.dumps({"read": read, "of": of}) + "\n")
        sys.stdout.flush()

    why, found = verify(Path(sys.argv[1]), say)
    sys.stdout.write(json.dumps({"broken": why, "damaged": found}) + "\n")


if __name__ == "__main__":
    main()
