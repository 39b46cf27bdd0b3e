"""Look at the files of a store from outside, mend them, make them small: what `streamctl queue` does.

Looking needs no ownership and changes nothing: it works beside the process that owns the store, on a snapshot of that moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from streamcore.durable import dead, files, opening, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, REPLAYED, WAITING, sequence_of
from streamcore.durable.options import BYTES_MIN, Options
from streamcore.durable.record import Record
from streamcore.durable.store import DurableStore
from streamcore.errors import ConfigError, StoreError

COPY_BYTES = 1 << 20
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
def snapshot(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A read transaction and the tables. Raises ConfigError if there is no store, StoreError if it cannot be read."""
    _must_be_there(path)
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
    with snapshot(path) as (txn, tables):
        counts = {name: txn.stat(db=tables[name])["entries"] for name in (*STATES, "ids")}
        raw = txn.get(files.COUNTERS_KEY, db=tables["state"])
        counters = Counters.decode(raw) if raw else Counters()
        first = txn.cursor(db=tables["waiting"])
        oldest = seen_of(txn, tables, first.key(), "waiting", first.value()) if first.first() else None
    return Facts(
        path=str(path),
        owner=files.owner_of(path),
        **counts,
        file_bytes=(path / files.DATA).stat().st_size,
        max_bytes=files.map_bytes(path),
        oldest_ns=oldest.record.stored_ns if oldest and oldest.record else None,
        counters=counters,
    )


def seen_of(txn: Any, tables: dict[str, Any], key: bytes, state: str, value: bytes) -> Seen:
    seen = Seen(sequence_of(key), state)
    if state == "waiting":
        seen.failures, flags, _ = WAITING.unpack(value)
        seen.replayed = bool(flags & REPLAYED)
    elif state == "acked":
        seen.since_ns, _ = ACKED.unpack(value)
    else:
        _, seen.since_ns, seen.failures, seen.reason, flags = dead.decode(bytes(value), seen.sequence)
        seen.replayed = bool(flags & REPLAYED)
    raw = txn.get(key, db=tables["records"])
    try:
        seen.record = record.decode(raw or b"", seen.sequence)
    except record.BadRecord as error:
        seen.problem = str(error)
    return seen


def examine(path: Path, step: Callable[[int, int], None] | None = None) -> tuple[str, list[tuple[int, str]]]:
    """As opening.examine, of a store that must be there. Beside a living owner this is a snapshot too."""
    _must_be_there(path)
    return opening.examine(path, step) if step else opening.examine(path)


def repair(path: Path) -> list[str]:
    """Open it as its node would: damaged records go to quarantine, a damaged file aside. Says what was done."""
    with owned(path) as store:
        return store.findings


def owned(path: Path) -> DurableStore:
    """Open a store that must be there, to change it: nothing of it is given up by that. Raises StoreLocked if a process owns it."""
    _must_be_there(path)
    return DurableStore(path, keeping(path))


def _must_be_there(path: Path) -> None:
    if not (path / files.DATA).is_file():
        raise ConfigError(f"{path}: holds no durable queue (no {files.DATA})")


def keeping(path: Path) -> Options:
    """Options under which opening gives up nothing."""
    max_bytes = max(files.map_bytes(path) or Options().max_bytes, BYTES_MIN)
    return Options(max_bytes=max_bytes, retain_bytes=max_bytes // 2, dedup_window_s=FOREVER_S, dedup_max=1 << 62)


def compact(path: Path, step: Callable[[int], None] = lambda nbytes: None) -> tuple[int, int]:
    """Write the store anew without its free pages. (bytes before, bytes after); a kill at any moment leaves the old or the new file.

    `step` is told how many bytes more were written. Raises StoreLocked if it is owned, StoreError if it is damaged.
    """
    why, damaged = examine(path)
    if why or damaged:
        raise StoreError(f"store {path}: {why or damaged[0][1]}; repair it first")
    owner = files.lock(path)
    fresh = path / files.COMPACTED
    try:
        before = (path / files.DATA).stat().st_size
        with closing(files.open_environment(path, keeping(path))) as environment, open(fresh, "wb") as file:
            _copy(environment, file.fileno(), step)
            os.fsync(file.fileno())
        after = fresh.stat().st_size
        os.rename(fresh, path / files.DATA)
        (path / files.LOCK).unlink(missing_ok=True)
        files.sync_folder(path)
    except (OSError, lmdb.Error) as error:
        raise StoreError(f"store {path}: was not compacted: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)
        os.close(owner)
    return before, after


def _copy(environment: Any, target: int, step: Callable[[int], None]) -> None:
    """Through a pipe: LMDB's copying cannot be interrupted, the end of its pipe can."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    failures: list[Exception] = []

    def copy() -> None:
        try:
            environment.copyfd(write_end, compact=True)
        except Exception as error:  # told to the thread that waits for it
            failures.append(error)
        finally:
            os.close(write_end)

    thread = threading.Thread(target=copy, name="copy")
    thread.start()
    try:
        while chunk := os.read(read_end, COPY_BYTES):
            left = memoryview(chunk)
            while left:
                left = left[os.write(target, left) :]
            step(len(chunk))
    finally:
        os.close(read_end)
        thread.join()
    if failures:
        raise failures[0]
