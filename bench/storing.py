"""The case `durable`: how many records per second are on the disk, synced, beside SQLite and a plain file that does nothing else.

All work in turns in folders on the same disk. `sqlite` is a table of blobs, WAL with synchronous=FULL, one transaction per group, and with
`unique ids` as well the index that refuses an id that was stored before, which the store always has. `append` writes a group behind the
last one and calls fdatasync: the disk's own limit for that group.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streamcore import DurableStore
from streamcore.durable import upkeep
from streamcore.durable.files import DATA
from streamcore.errors import StoreError
from streamcore_bench.lives import write
from streamcore_bench.points import Found, Options, Point
from streamcore_bench.programs import Failed, Program, Stop, folder, streamctl
from streamcore_bench.results import APPEND, OURS
from streamcore_bench.storing_nodes import event

NODES = "streamcore_bench.storing_nodes"
EVENT_BYTES, PICTURE_BYTES = 1024, 150 << 10
GROUPS = (1, 16, 64, 256)
PICTURE_GROUPS = (1, 16)
SECONDS = 1.5  # of a measured part
COUNTS = {1: 3000, 16: 30_000, 64: 40_000, 256: 60_000}  # records through the node: some seconds
PICTURES = 3000
ROOM_BYTES = 2 << 30
DEADLINE_S = 120.0
LOOK_S = 0.05
PIPELINED = "streamcore, pipelined"
SQLITE, SQLITE_IDS, SQLITE_SINGLE = "sqlite", "sqlite, unique ids", "sqlite, one by one"
BETWEEN = {1: 1}  # depth of the edge into the queue, where it is not twice the group: one that waits is a group of one

Put = Callable[[list[bytes]], object]


def points(options: Options) -> list[Point]:
    found = [
        Point(f"store, 1 KiB, groups of {group}", ("rate",), ours=lambda stop, more, group=group: store(stop, more, group))
        for group in GROUPS
    ]
    for group in GROUPS:
        name = f"1 KiB, groups of {group}"
        found.append(Point(f"node, {name}", ("rate",), ours=lambda stop, more, group=group: node(stop, more, group, EVENT_BYTES)))
    found.append(Point("node, 1 KiB, sink at work", ("rate",), ours=lambda stop, more: through(stop, more)))
    for group in PICTURE_GROUPS:
        name = f"node, 150 KiB, groups of {group}"
        found.append(Point(name, ("rate",), ours=lambda stop, more, group=group: node(stop, more, group, PICTURE_BYTES)))
    return found


# --- the store alone, and the others


@contextmanager
def disk_folder() -> Iterator[Path]:
    """Where syncs mean something: /tmp is in memory on many systems."""
    place = Path(tempfile.mkdtemp(prefix="sb-", dir=os.environ.get("TMPDIR") or "/var/tmp"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def rate_of(stop: Stop, seconds: float, group: int, contents: Callable[[int], bytes], put: Put) -> float:
    """Records per second when `put` is given groups for so long."""
    count, began_ns = 0, time.monotonic_ns()
    end_ns = began_ns + round(seconds * 1e9)
    while (now_ns := time.monotonic_ns()) < end_ns:
        stop.check()
        put([contents(number) for number in range(count, count + group)])
        count += group
    return count / ((now_ns - began_ns) / 1e9)


def contents_of(nbytes: int) -> Callable[[int], bytes]:
    """Makes the bytes of record N; JSON is packed each time, as a node has to do it."""
    if nbytes == EVENT_BYTES:
        value = event(0, nbytes)
        return lambda number: msgspec.msgpack.encode(value | {"number": number})
    noise = os.urandom(nbytes - 8)
    return lambda number: number.to_bytes(8, "little") + noise


def ours(stop: Stop, seconds: float, group: int, sync: str) -> float:
    with disk_folder() as place, DurableStore(place / "queue", DurableStore.Options(max_bytes=ROOM_BYTES, sync=sync)) as queue:
        head = DurableStore.Head("event", "source")

        def put(contents: list[bytes]) -> None:
            first = queue.counters.next_sequence
            entries = [DurableStore.Entry((first + i).to_bytes(16, "big"), 0, head, content) for i, content in enumerate(contents)]
            if queue.append(entries) < len(entries):
                raise Failed(f"the store is full ({queue.full}) after {queue.counters.appended} records")

        return rate_of(stop, seconds, group, contents_of(EVENT_BYTES), put)


def sqlite(stop: Stop, seconds: float, group: int, nbytes: int, ids: bool = False) -> float:
    with disk_folder() as place:
        connection = sqlite3.connect(place / "queue.sqlite", isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"CREATE TABLE records (sequence INTEGER PRIMARY KEY, content BLOB{', id BLOB UNIQUE' if ids else ''})")
            numbers = itertools.count()

            def put(contents: list[bytes]) -> None:
                connection.execute("BEGIN IMMEDIATE")
                if ids:
                    rows = [(content, next(numbers).to_bytes(16, "big")) for content in contents]
                    connection.executemany("INSERT INTO records (content, id) VALUES (?, ?)", rows)
                else:
                    connection.executemany("INSERT INTO records (content) VALUES (?)", [(content,) for content in contents])
                connection.execute("COMMIT")

            return rate_of(stop, seconds, group, contents_of(nbytes), put)
        finally:
            connection.close()


def append(stop: Stop, seconds: float, group: int, nbytes: int) -> float:
    with disk_folder() as place:
        descriptor = os.open(place / "queue", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:

            def put(contents: list[bytes]) -> None:
                content = b"".join(contents)
                if os.write(descriptor, content) < len(content):
                    raise Failed(f"the disk of {place} is full")
                os.fdatasync(descriptor)

            return rate_of(stop, seconds, group, contents_of(nbytes), put)
        finally:
            os.close(descriptor)


def others(stop: Stop, seconds: float, group: int, nbytes: int) -> Found:
    found = {SQLITE: {"rate": sqlite(stop, seconds, group, nbytes)}, APPEND: {"rate": append(stop, seconds, group, nbytes)}}
    if group > 1 and nbytes == EVENT_BYTES:
        found[SQLITE_SINGLE] = {"rate": sqlite(stop, seconds, 1, nbytes)}
    return found


def store(stop: Stop, options: Options, group: int) -> Found:
    seconds = options.seconds(SECONDS)
    own = {who: {"rate": ours(stop, seconds, group, sync)} for who, sync in ((OURS, "commit"), (PIPELINED, "pipelined"))}
    return own | others(stop, seconds, group, EVENT_BYTES) | {SQLITE_IDS: {"rate": sqlite(stop, seconds, group, EVENT_BYTES, ids=True)}}


# --- through the node


def graph(place: Path, disk: Path, count: int, group: int, nbytes: int, sync: str, hold: bool) -> dict[str, Any]:
    source = {"count": count, "nbytes": nbytes, "picture": nbytes == PICTURE_BYTES}
    queue = {"path": str(disk / "queue"), "max_bytes": ROOM_BYTES, "batch": max(2, group), "sync": sync}
    sink = {"count": count, "folder": str(place), "go": str(place / "go") if hold else ""}
    return {
        "version": 2,
        "name": "bench",
        "allow": ["streamcore_bench"],
        "nodes": [
            {"id": "source", "plugin": f"{NODES}:Events", "config": source},
            {"id": "queue", "plugin": "durable.queue", "config": queue},
            {"id": "sink", "plugin": f"{NODES}:Take", "config": sink, "progress_s": DEADLINE_S},
        ],
        "edges": [
            {"from": "source", "to": "queue", "depth": BETWEEN.get(group, 2 * group)},
            {"from": "queue", "to": "sink", "depth": 16 if nbytes == PICTURE_BYTES else 256},
        ],
    }


def node(stop: Stop, options: Options, group: int, nbytes: int) -> Found:
    """What becomes durable while the sink stands still, by the counters in the file; then the sink takes it all.

    `delivered`: how fast it came out then.
    """
    count = round(options.seconds(COUNTS[group] if nbytes == EVENT_BYTES else PICTURES))
    own = {who: _stored(stop, count, group, nbytes, sync) for who, sync in ((OURS, "commit"), (PIPELINED, "pipelined"))}
    return own | others(stop, options.seconds(SECONDS), group, nbytes)


def _stored(stop: Stop, count: int, group: int, nbytes: int, sync: str) -> dict[str, float]:
    with folder() as place, disk_folder() as disk:
        spec = write(place, graph(place, disk, count, group, nbytes, sync, hold=True))
        with streamctl(stop, place, "up", spec) as program:
            found = _watch(stop, program, disk / "queue", count)
            (place / "go").touch()
            return found | {"delivered": _taken(program, place)}


def through(stop: Stop, options: Options) -> Found:
    """Storing and delivering at once, as the sink sees it."""
    group = 64
    count = round(options.seconds(COUNTS[group]))
    own: Found = {}
    for who, sync in ((OURS, "commit"), (PIPELINED, "pipelined")):
        with folder() as place, disk_folder() as disk:
            spec = write(place, graph(place, disk, count, group, EVENT_BYTES, sync, hold=False))
            with streamctl(stop, place, "up", spec) as program:
                own[who] = {"rate": _taken(program, place)}
    return own | others(stop, options.seconds(SECONDS), group, EVENT_BYTES)


def _watch(stop: Stop, program: Program, queue: Path, count: int) -> dict[str, float]:
    """Rate and records per commit, between the first look that finds a tenth stored and the last one before all are."""
    first = last = None
    end_s = time.monotonic() + DEADLINE_S
    while True:
        stop.sleep(LOOK_S)
        if program.process.poll() is not None or time.monotonic() > end_s:
            raise Failed(f"the queue did not store {count} records\n{program.tail()}")
        if not (queue / DATA).exists():
            continue  # whoever looks earlier would hold the lock that its owner is about to take
        try:
            counters = upkeep.look(queue).counters
        except StoreError:
            continue  # it is being made
        now = (time.monotonic_ns(), counters.appended, counters.commits)
        if first is None and counters.appended >= count // 10:
            first = now
        if counters.appended >= count:
            break
        last = now
    if first is None or last is None or last[1] <= first[1]:
        raise Failed(f"{count} records were stored within {LOOK_S:g} s: too few to measure")
    stored, commits = last[1] - first[1], last[2] - first[2]
    return {"rate": stored * 1e9 / (last[0] - first[0]), "group": stored / max(1, commits)}


def _taken(program: Program, place: Path) -> float:
    found = json.loads(program.wait_for(place / "taken", DEADLINE_S))
    if found["wrong"]:
        raise Failed(f"{found['wrong']} packets came out of order")
    if status := program.wait(DEADLINE_S):
        raise Failed(f"the run ended with status {status}\n{program.tail()}")
    return float(found["rate"])
