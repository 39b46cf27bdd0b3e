"""Read all of a store and say what is damaged, as JSON on stdout: `python -m streamcore.durable.verify PATH`.

A process of its own, for a damaged file may end it: LMDB trusts every page number in its map.
"""

from __future__ import annotations

import heapq
import json
import mmap
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

from streamcore.durable import files, record
from streamcore.durable.change import lane_of
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, DEAD, ID, REPLAYED, WAITING, sequence_of
from streamcore.durable.options import room_of
from streamcore.durable.pages import FREE, Item, Pages, table_of
from streamcore.errors import StoreError

DAMAGED_MAX = 10_000  # more than so many is no store any more
LOOKS = 3  # for the meta page of a transaction, beside an owner that commits
NEVER = 1 << 64  # above every sequence

Damaged = list[tuple[int, str]]
Owner = tuple[int, str, memoryview]  # sequence of a record, table of its state, entry there


NOBODY: Owner = (NEVER, "", memoryview(b""))
STATES = {"waiting": WAITING, "acked": ACKED, "dead": DEAD}


class Sums(NamedTuple):
    """What the counters have to say as well."""

    last: int
    used_bytes: int
    retained_bytes: int


def verify(path: Path) -> tuple[str, Damaged]:
    """Why the store as a whole cannot be used, or "", and (sequence, reason) of its damaged records."""
    try:
        environment = files.open_environment(path, None)
        try:
            for _ in range(LOOKS):
                with (
                    environment.begin() as txn,
                    open(path / files.DATA, "rb") as file,
                ):  # the snapshot keeps its pages from being used again
                    metas = {meta.transaction: meta for meta in files.metas(file.fileno())}
                    meta = metas.get(txn.id())
                    if meta and ((len(metas) == 2 and max(metas) == min(metas) + 1) or not max(metas)):
                        return "", _walk(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)), meta)
            return f"its meta pages are of the transactions {sorted(metas)}, expected two that follow each other", []
        finally:
            environment.close()
    except (lmdb.Error, StoreError, OSError) as error:
        return str(error), []


def _walk(raw: memoryview, meta: files.Meta) -> Damaged:
    """Raises StoreError for what cannot be mended record by record."""
    pages = Pages(raw, meta.page_bytes, meta.last_page)
    tables = pages.tables(table_of("(main)", meta.main_table))
    items = {name: pages.items(tables[name]) if name in tables else iter(()) for name in files.TABLES}
    damaged: Damaged = []
    sums = _check_records(items, damaged)
    if any(len(key) != 8 or len(value) != ID.size for key, value in items["ids"]):
        raise StoreError(f"table ids: found an entry of a wrong size, expected 8 and {ID.size} bytes")
    _check_counters(dict(items["state"]), sums)
    pages.check_free(table_of(FREE, meta.free_table))
    return damaged


def _check_records(items: dict[str, Iterator[Item]], damaged: Damaged) -> Sums:
    """Each record is what was written, and stands in the table of exactly one state; what these tables say of it can be true."""
    owners = heapq.merge(*(_entries(name, layout.size, items[name]) for name, layout in STATES.items()))
    sequence, name, entry = next(owners, NOBODY)
    last, used_bytes, retained_bytes = -1, 0, 0
    for key, raw in items["records"]:
        last = sequence_of(key)
        if len(key) != 8:
            raise StoreError(f"table records: found a key of {len(key)} bytes, expected 8")
        while sequence < last:
            damaged.append((sequence, f"record {sequence}: it is missing"))
            sequence, name, entry = next(owners, NOBODY)
        if sequence != last:
            raise StoreError(f"record {last}: neither waits, nor is retained, nor a dead letter")
        room = room_of(len(raw))
        used_bytes += room
        retained_bytes += room if name == "acked" else 0
        try:
            lane = lane_of(record.check(raw, last).key)
            if name == "waiting":
                _check_waiting(last, entry, lane)
            elif name == "acked" and ACKED.unpack(entry)[1] != room:
                raise StoreError(f"table acked: found a room of {ACKED.unpack(entry)[1]} for record {last}, expected {room}")
        except record.BadRecord as error:
            damaged.append((last, str(error)))
        sequence, name, entry = next(owners, NOBODY)
        if sequence == last:
            raise StoreError(f"record {last}: has two states, {name} is one of them")
        if len(damaged) > DAMAGED_MAX:
            raise StoreError(f"table records: more than {DAMAGED_MAX} damaged records")
    while sequence < NEVER:
        damaged.append((sequence, f"record {sequence}: it is missing"))
        sequence, name, entry = next(owners, NOBODY)
    return Sums(last, used_bytes, retained_bytes)


def _entries(name: str, value_bytes: int, items: Iterable[Item]) -> Iterator[Owner]:
    for key, value in items:
        if len(key) != 8 or len(value) < value_bytes or (name != "dead" and len(value) > value_bytes):
            raise StoreError(f"table {name}: found an entry of {len(key)} and {len(value)} bytes, expected 8 and {value_bytes}")
        yield sequence_of(key), name, value


def _check_waiting(sequence: int, entry: memoryview, lane: int) -> None:
    _, flags, found = WAITING.unpack(entry)
    if flags not in (0, REPLAYED) or found != lane:
        raise record.BadRecord(f"record {sequence}: found flags {flags:#x} and lane {found:#x} for it, expected lane {lane:#x}")


def _check_counters(state: dict[bytes, memoryview], sums: Sums) -> None:
    raw = state.get(files.COUNTERS_KEY)
    if raw is None:
        if sums.last >= 0:
            raise StoreError("table state: found no counters")
        return
    counters = Counters.decode(bytes(raw))
    if counters.next_sequence <= sums.last:
        raise StoreError(f"counters: found a next sequence of {counters.next_sequence}, expected one above {sums.last}")
    found, expected = (counters.used_bytes, counters.retained_bytes), (sums.used_bytes, sums.retained_bytes)
    if found != expected:
        raise StoreError(f"counters: found a room of {found[0]} and {found[1]} bytes, expected {expected[0]} and {expected[1]}")


if __name__ == "__main__":
    why, found = verify(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({"broken": why, "damaged": found}))
