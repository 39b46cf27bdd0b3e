"""Read all of a store and say what is damaged, as JSON on stdout: `python -m streamcore.durable.verify PATH`.

A process of its own, for a damaged file may end it: LMDB trusts every page number in its map.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from streamcore.durable import dead, files, pages, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, ID, WAITING, sequence_of
from streamcore.durable.options import room_of
from streamcore.errors import StoreError

DAMAGED_MAX = 10_000  # more than so many is no store any more
STEP = 2000  # records between two words about how far it is


def verify(path: Path, step: Callable[[int, int], None] = lambda read, of: None) -> tuple[str, list[tuple[int, str]]]:
    """Why the store as a whole cannot be used, or "", and (sequence, reason) of its damaged records."""
    try:
        environment = files.open_environment(path, None)
        tables = files.open_tables(environment)
        with environment.begin(buffers=True) as txn:
            pages.check(path / files.DATA, environment.stat()["psize"], txn.id())
            return "", _walk(txn, tables, step)
    except (lmdb.Error, StoreError) as error:
        return str(error), []


def _walk(txn: Any, tables: dict[str, Any], step: Callable[[int, int], None]) -> list[tuple[int, str]]:
    """Raises StoreError for what cannot be mended record by record."""
    damaged: list[tuple[int, str]] = []
    present = used_bytes = 0
    count = txn.stat(db=tables["records"])["entries"]
    last = -1
    for key, raw in txn.cursor(db=tables["records"]):
        sequence = sequence_of(key)
        if len(key) != 8 or sequence <= last:
            raise StoreError(f"table records: found key {bytes(key).hex()} after {last}")
        last = sequence
        if present % STEP == 0:
            step(present, count)
        present += 1
        used_bytes += room_of(len(raw))
        try:
            record.check(raw, sequence)
        except record.BadRecord as error:
            damaged.append((sequence, str(error)))
        if len(damaged) > DAMAGED_MAX:
            raise StoreError(f"table records: more than {DAMAGED_MAX} damaged records")
    waiting, _ = _check_table(txn, tables, "waiting", WAITING.size, damaged)
    retained, retained_bytes = _check_table(txn, tables, "acked", ACKED.size, damaged)
    buried, buried_bytes = _check_table(txn, tables, "dead", dead.LAYOUT.size, damaged)
    if present != waiting + retained + buried:
        raise StoreError(f"found {present} records; {waiting} wait, {retained} are retained, {buried} are dead letters")
    if any(len(key) != 8 or len(value) != ID.size for key, value in txn.cursor(db=tables["ids"])):
        raise StoreError(f"table ids: found an entry of a wrong size, expected 8 and {ID.size} bytes")
    known = {sequence for sequence, _ in damaged}
    for key, value in txn.cursor(db=tables["dead"]):
        try:
            dead.decode(bytes(value), sequence_of(key))
        except StoreError as error:
            if sequence_of(key) not in known:
                damaged.append((sequence_of(key), str(error)))
    _check_counters(txn, tables, last, (used_bytes, retained_bytes, buried_bytes))
    return damaged


def _check_table(txn: Any, tables: dict[str, Any], name: str, value_bytes: int, damaged: list[tuple[int, str]]) -> tuple[int, int]:
    """How many of its entries have a record, and the room of these. An entry without one is damage. Dead letters end with a text."""
    records = txn.cursor(db=tables["records"])
    matched = rooms = 0
    for key, value in txn.cursor(db=tables[name]):
        if len(key) != 8 or len(value) < value_bytes or (len(value) > value_bytes and name != "dead"):
            raise StoreError(f"table {name}: found an entry of {len(key)} and {len(value)} bytes, expected 8 and {value_bytes}")
        if records.set_key(bytes(key)):
            matched += 1
            rooms += room_of(len(records.value()))
        else:
            damaged.append((sequence_of(key), f"record {sequence_of(key)}: it is missing"))
        if len(damaged) > DAMAGED_MAX:
            raise StoreError(f"table {name}: more than {DAMAGED_MAX} entries without a record")
    return matched, rooms


def _check_counters(txn: Any, tables: dict[str, Any], last: int, expected: tuple[int, int, int]) -> None:
    raw = txn.get(files.COUNTERS_KEY, db=tables["state"])
    if raw is None:
        if last >= 0:
            raise StoreError("table state: found no counters")
        return
    counters = Counters.decode(bytes(raw))
    if counters.next_sequence <= last:
        raise StoreError(f"counters: found a next sequence of {counters.next_sequence}, expected one above {last}")
    found = counters.used_bytes, counters.retained_bytes, counters.dead_bytes
    if found != expected:
        raise StoreError(f"counters: found a room of all, retained and dead records of {found} bytes, expected {expected}")


def main() -> None:
    """SYNC: opening._listen reads these lines."""

    def say(read: int, of: int) -> None:
        sys.stdout.write(json.dumps({"read": read, "of": of}) + "\n")
        sys.stdout.flush()

    why, found = verify(Path(sys.argv[1]), say) if "--progress" in sys.argv else verify(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({"broken": why, "damaged": found}) + "\n")


if __name__ == "__main__":
    main()
