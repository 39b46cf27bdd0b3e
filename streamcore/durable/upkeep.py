"""Look at the files of a store from outside, mend them, make them small: what `streamctl queue` does.

Looking needs no ownership and changes nothing: it works beside the process that owns the store, on a snapshot of that moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from streamcore.durable import files, opening, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, DEAD, REPLAYED, WAITING, key_of, sequence_of
from streamcore.durable.options import BYTES_MIN, Options
from streamcore.durable.record import Record
from streamcore.durable.store import DurableStore
from streamcore.errors import ConfigError, StoreError

STATES = ("waiting", "acked", "dead")
FOREVER_S = 1e9  # 31 years: mending a store forgets no id


class Facts(msgspec.Struct):
    """What a store holds. `owner` is the process that owns it, or ""; `oldest_ns` the wall clock when the first that waits was stored."""

    path: str
    owner: str
    waiting: int
    acked: int
    dead: int
    ids: int
    file_bytes: int
    max_bytes: int
    oldest_ns: int | None
    counters: Counters


class Seen(msgspec.Struct):
    """A stored record and what is known of it. `problem` says what is wrong with one that has no `record`."""

    sequence: int
    state: str
    failures: int = 0
    replayed: bool = False
    since_ns: int = 0  # wall clock: acknowledged, or made a dead letter
    reason: str = ""
    record: Record | None = None
    problem: str = ""


@contextmanager
def _snapshot(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A read transaction and the tables. Raises ConfigError if there is no store, StoreError if it cannot be read."""
    if not (path / files.DATA).is_file():
        raise ConfigError(f"{path}: holds no durable queue (no {files.DATA})")
    wrong = files.wrong_length(path)
    if wrong:
        raise StoreError(f"store {path}: {wrong}; `streamctl queue repair` saves what is whole in it")
    with closing(files.open_environment(path, None)) as environment:
        try:
            tables = files.open_tables(environment)
            with environment.begin() as txn:
                yield txn, tables
        except lmdb.Error as error:
            raise StoreError(f"store {path}: {error}; see `streamctl queue check`") from None


def look(path: Path) -> Facts:
    with _snapshot(path) as (txn, tables):
        counts = {name: txn.stat(db=tables[name])["entries"] for name in (*STATES, "ids")}
        raw = txn.get(files.COUNTERS_KEY, db=tables["state"])
        counters = Counters.decode(raw) if raw else Counters()
        first = txn.cursor(db=tables["waiting"])
        oldest = _seen(txn, tables, first.key(), "waiting", first.value()) if first.first() else None
    return Facts(
        path=str(path),
        owner=files.owner_of(path),
        **counts,
        file_bytes=(path / files.DATA).stat().st_size,
        max_bytes=files.map_bytes(path),
        oldest_ns=oldest.record.stored_ns if oldest and oldest.record else None,
        counters=counters,
    )


def browse(path: Path, state: str, first: int, most: int) -> list[Seen]:
    """At most so many records of that state, from sequence `first` on, in order."""
    found: list[Seen] = []
    with _snapshot(path) as (txn, tables):
        cursor = txn.cursor(db=tables[state])
        more = cursor.set_range(key_of(first))
        while more and len(found) < most:
            found.append(_seen(txn, tables, cursor.key(), state, cursor.value()))
            more = cursor.next()
    return found


def _seen(txn: Any, tables: dict[str, Any], key: bytes, state: str, value: bytes) -> Seen:
    seen = Seen(sequence_of(key), state)
    if state == "waiting":
        seen.failures, flags, _ = WAITING.unpack(value)
        seen.replayed = bool(flags & REPLAYED)
    elif state == "acked":
        seen.since_ns, _ = ACKED.unpack(value)
    else:
        seen.since_ns, seen.failures = DEAD.unpack(value[: DEAD.size])
        seen.reason = value[DEAD.size :].decode(errors="replace")
    raw = txn.get(key, db=tables["records"])
    try:
        seen.record = record.decode(raw or b"", seen.sequence)
    except record.BadRecord as error:
        seen.problem = str(error)
    return seen


def examine(path: Path) -> tuple[str, list[tuple[int, str]]]:
    """As opening.examine, of a store that must be there. Beside a living owner this is a snapshot too."""
    if not (path / files.DATA).is_file():
        raise ConfigError(f"{path}: holds no durable queue (no {files.DATA})")
    return opening.examine(path)


def repair(path: Path) -> list[str]:
    """Open it as its node would: damaged records go to quarantine, a damaged file aside. Says what was done."""
    if not (path / files.DATA).is_file():
        raise ConfigError(f"{path}: holds no durable queue (no {files.DATA})")
    with DurableStore(path, _keeping(path)) as store:
        return store.findings


def _keeping(path: Path) -> Options:
    """Options under which opening gives up nothing."""
    max_bytes = max(files.map_bytes(path) or Options().max_bytes, BYTES_MIN)
    return Options(max_bytes=max_bytes, retain_bytes=max_bytes // 2, dedup_window_s=FOREVER_S, dedup_max=1 << 62)


def compact(path: Path) -> tuple[int, int]:
    """Write the store anew without its free pages. (bytes before, bytes after); a kill at any moment leaves the old or the new file.

    Raises StoreLocked if it is owned, StoreError if it is damaged.
    """
    why, damaged = examine(path)
    if why or damaged:
        raise StoreError(f"store {path}: {why or damaged[0][1]}; repair it first")
    owner = files.lock(path)
    fresh = path / "compacted.mdb"
    try:
        before = (path / files.DATA).stat().st_size
        with closing(files.open_environment(path, _keeping(path))) as environment, open(fresh, "wb") as file:
            environment.copyfd(file.fileno(), compact=True)
            os.fsync(file.fileno())
        after = fresh.stat().st_size
        os.rename(fresh, path / files.DATA)
        (path / files.LOCK).unlink(missing_ok=True)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    except (OSError, lmdb.Error) as error:
        fresh.unlink(missing_ok=True)
        raise StoreError(f"store {path}: was not compacted: {error}") from None
    finally:
        os.close(owner)
    return before, after
