"""Find whole records in a data file whose trees cannot be followed, and import them into a new store.

The file is read, not mapped, from its first byte to its last: a record is known by its magic and its checksum, wherever it lies. Pages that
are free still hold old records; the newest counters say below which sequence nothing waited any more. A dead letter is known likewise by
what is stored beside its record; one that was dropped may come back as one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from streamcore.durable import counters, dead, files, record
from streamcore.durable.change import lane_of
from streamcore.durable.counters import Counters
from streamcore.durable.files import ID, WAITING, key_of
from streamcore.durable.options import Options, room_of
from streamcore.errors import StoreError

CHUNK_BYTES = 64 << 10  # what is read again after every hit
RECORD_BYTES_MAX = 2 << 30  # a header that claims more is none
BATCH = 256  # records of one transaction

_MAGIC = re.compile(b"|".join(map(re.escape, (record.MAGIC_BYTES, counters.MAGIC_BYTES, dead.MAGIC_BYTES))))


def import_into(path: Path, damaged: Path, options: Options) -> str:
    """Make a new store at `path` of what is whole in the file `damaged`; says what it holds: what may have waited, and dead letters.

    Raises StoreError if the new store cannot be written; `damaged` is never changed.
    """
    with open(damaged, "rb") as file:
        descriptor = file.fileno()
        newest, found, deaths = _scan(descriptor)
        deaths = {sequence: death for sequence, death in deaths.items() if sequence in found and sequence < newest.first_waiting}
        places = {sequence: at for sequence, at in found.items() if sequence >= newest.first_waiting or sequence in deaths}
        waiting = places.keys() - deaths.keys()
        fresh = Counters(next_sequence=max([newest.next_sequence, *(sequence + 1 for sequence in places)]))
        fresh.offered_upto = fresh.next_sequence  # each may have been delivered before
        fresh.first_waiting = min(waiting, default=fresh.next_sequence)
        # Without counters more is found than was waiting: room for all of it. A smaller map at the next start keeps what it holds.
        room = msgspec.structs.replace(options, max_bytes=max(options.max_bytes, 2 * os.fstat(descriptor).st_size))
        environment = files.open_environment(path, room)
        try:
            tables = files.open_tables(environment)
            sequences = sorted(places)
            for first in range(0, len(sequences) or 1, BATCH):
                raws = [(sequence, _record_at(descriptor, places[sequence])) for sequence in sequences[first : first + BATCH]]
                _store(environment, tables, fresh, raws, deaths)
        except lmdb.Error as error:
            raise StoreError(f"store {path}: records of {damaged} cannot be imported: {error}") from None
        finally:
            environment.close()
    said = f"{len(deaths)} dead letters were imported, " if deaths else ""
    if not waiting:
        return f"{said}no record in it was still waiting, the next has sequence {fresh.next_sequence}"
    return f"{said}{len(waiting)} records from {min(waiting)} to {max(waiting)} were imported and wait"


def _store(environment: Any, tables: dict[str, Any], fresh: Counters, raws: list[tuple[int, bytes]], deaths: dict[int, dead.Death]) -> None:
    with environment.begin(write=True) as txn:
        for sequence, raw in raws:
            found, key = record.decode(raw, sequence), key_of(sequence)
            txn.put(key, raw, db=tables["records"])
            death = deaths.get(sequence)
            if death is not None:
                txn.put(key, dead.encode(death), db=tables["dead"])
                fresh.dead_bytes += room_of(len(raw))
            else:
                txn.put(key, WAITING.pack(0, 0, lane_of(found.head.key)), db=tables["waiting"])
            txn.put(key, ID.pack(found.stored_ns, found.id16), db=tables["ids"])
            fresh.used_bytes += room_of(len(raw))
            fresh.appended += 1
        fresh.commits += 1
        txn.put(files.COUNTERS_KEY, fresh.encode(), db=tables["state"])


def _scan(descriptor: int) -> tuple[Counters, dict[int, int], dict[int, dead.Death]]:
    """The newest counters, and by sequence the offset of every whole record, and what is known of dead letters.

    What lies inside a whole record is content, whatever it is.
    """
    size = os.fstat(descriptor).st_size
    newest, at = Counters(), 0
    places: dict[int, int] = {}
    deaths: dict[int, dead.Death] = {}
    while chunk := os.pread(descriptor, CHUNK_BYTES + len(record.MAGIC_BYTES) - 1, at):
        hit = _MAGIC.search(chunk)
        if hit is None:
            at += CHUNK_BYTES
            continue
        at += hit.start()
        step = 1
        if hit.group() == counters.MAGIC_BYTES:
            newest = max(newest, _counters_at(descriptor, at), key=lambda found: found.commits)
        elif hit.group() == dead.MAGIC_BYTES:
            death = _death_at(descriptor, at)
            if death is not None and death.since_ns >= deaths.get(death.sequence, death).since_ns:
                deaths[death.sequence] = death
        else:
            claimed = record.claimed_bytes(os.pread(descriptor, record.LAYOUT.size, at))
            if 0 < claimed <= min(size - at, RECORD_BYTES_MAX):
                sequence = record.whole(os.pread(descriptor, claimed, at))
                if sequence is not None:
                    places[sequence], step = at, claimed
        at += step
    return newest, places, deaths


def _death_at(descriptor: int, at: int) -> dead.Death | None:
    try:
        return dead.decode(os.pread(descriptor, dead.LAYOUT.size + dead.REASON_BYTES_MAX, at))
    except StoreError:
        return None


def _counters_at(descriptor: int, at: int) -> Counters:
    try:
        return Counters.decode(os.pread(descriptor, counters.LAYOUT.size, at))
    except StoreError:
        return Counters()


def _record_at(descriptor: int, at: int) -> bytes:
    return os.pread(descriptor, record.claimed_bytes(os.pread(descriptor, record.LAYOUT.size, at)), at)
