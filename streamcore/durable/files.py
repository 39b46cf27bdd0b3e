"""The files of a store: its lock, its LMDB environment and tables, and whether the data file is as long as it says itself.

PATH/data.mdb and lock.mdb are LMDB's. PATH/owner is locked by the process that may write. PATH/quarantine/ holds damaged records,
PATH/damaged-N/ a data file that was given up; PATH/condemned says that the present one is to be, and why.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from streamcore.clock import Clock
from streamcore.durable.options import Options
from streamcore.errors import StoreError, StoreLocked

DATA, LOCK, OWNER, CONDEMNED = "data.mdb", "lock.mdb", "owner", "condemned"
COMPACTED = "compacted.mdb"  # a copy that is under way, or was when its maker was killed
READERS_MAX = 32  # of the writer and of `streamctl queue` beside it; dead ones are cleared
TABLES = ("records", "waiting", "acked", "dead", "ids", "state")
COUNTERS_KEY = b"counters"
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.02

# What the table entries hold. Keys are sequences, big-endian: in order, so that a commit writes few pages.
WAITING = struct.Struct("<IIQ")  # failures, flags, lane
ACKED = struct.Struct("<qI")  # wall clock of the acknowledgement, room of the record
ID = struct.Struct("<q16s")  # wall clock, id

# The flags of WAITING: bits 0 and 1, and from bit TURN_SHIFT on a number that no earlier delivery of the record is likely to have.
REPLAYED = 1  # it had been acknowledged
RETRIED = 2  # it has been handed out before, though its failures are 0
TURN_SHIFT = 8
_TURN_MASK = 0xFFFF
FLAGS_MAX = REPLAYED | RETRIED | _TURN_MASK << TURN_SHIFT

NEARLY_FULL_BYTES = 64 << 20  # more than one transaction writes
_CUT_SHORT = "Input/output error"
_FULL_DISK = ("No space left on device", "File too large", "Disk quota exceeded")

# LMDB's meta pages, numbers 0 and 1. SYNC: mdb.c, MDB_page and MDB_meta: header of 16 bytes, magic, version, address, map size, two
# tables of 48 bytes (free pages, and the one that has all others) of which the first begins with the page size, last page, transaction.
_META = struct.Struct("<16x II Q Q 48s 48s Q Q")
_META_MAGIC = 0xBEEFC0DE
_PAGE_SIZES = frozenset(1 << n for n in range(9, 17))


def key_of(sequence: int) -> bytes:
    return sequence.to_bytes(8, "big")


def flags_of(flag: int, commits: int) -> int:
    """The flags of a record that is queued again by the commit that follows on so many."""
    return flag | (commits & _TURN_MASK) << TURN_SHIFT


def sequence_of(key: bytes | memoryview) -> int:
    return int.from_bytes(key, "big")


def lock(path: Path, what: str = "store", reader: str = "streamctl queue") -> int:
    """Become the owner of the store at `path`, which is made if need be. The descriptor holds the lock; no child inherits it.

    Errors call it `what`, and name `reader` for those who only want to look.

    Raises:
      StoreLocked: names the process that owns it.
      StoreError: the folder cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise StoreError(f"{what} {path}: found a file there, expected a folder, or nothing; name one of its own") from None
    except OSError as error:
        raise StoreError(f"{what} {path}: {error.strerror}") from None
    if not _flock(descriptor):
        pid = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreLocked(f"{what} {path}: process {pid} owns it; stop its run, or read it with `{reader}`") from None
    try:
        os.pwrite(descriptor, b"%-19d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk: the number only tells people whom to ask
    return descriptor


def open_environment(path: Path, options: Options | None) -> Any:
    """The LMDB environment: to write with `options`, else to read only. Raises StoreError."""
    readonly = options is None
    try:
        environment = lmdb.open(
            str(path),
            map_size=options.max_bytes if options else 0,
            max_dbs=len(TABLES),
            max_readers=READERS_MAX,
            readonly=readonly,
            create=not readonly,
            metasync=options is None or options.sync == "commit",
            readahead=False,  # random reads of a file larger than memory must not push everything else out
            mode=0o600,
        )
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"store {path}: {error}") from None
    _keep_from_children(path / DATA)
    return environment


def _keep_from_children(data: Path) -> None:
    """LMDB lets children inherit one of its descriptors: a program that outlives the node would keep the file's room."""
    ours = os.stat(data)
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), ours):
                os.set_inheritable(int(name), False)
        except OSError:  # that of the listing itself
            continue


def open_tables(environment: Any) -> dict[str, Any]:
    """All tables by name; made if the environment may be written. Raises StoreError if one is missing."""
    try:
        return {name: environment.open_db(name.encode(), create=not environment.flags()["readonly"]) for name in TABLES}
    except lmdb.Error as error:
        raise StoreError(f"store {environment.path()}: {error}") from None


def _flock(descriptor: int) -> bool:
    """False if somebody keeps it. Who only asks for the owner has it for a moment (SYNC: owner_of)."""
    for attempt in range(LOCK_TRIES):
        if attempt:
            Clock.sleep(LOCK_PAUSE_S)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            continue
    return False


def condemn(path: Path, why: str) -> None:
    """The data file is not to be opened as it is again."""
    try:
        (path / CONDEMNED).write_text(why, "utf-8")
    except OSError:
        pass  # a disk that takes nothing: the next owner finds out by itself


def condemned(path: Path) -> str:
    """Why, or "" if it is not."""
    try:
        return (path / CONDEMNED).read_text("utf-8", "replace") or "it was found damaged"
    except OSError:
        return ""


def wrong_length(path: Path) -> str:
    """Says in what the data file differs from what its newest meta page claims; "" if it is whole.

    Reading a page that a truncated file does not have is a SIGBUS: this is asked before anything maps it.
    """
    try:
        with open(path / DATA, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            legible = metas(file.fileno())
    except OSError as error:
        return f"{DATA}: {error.strerror}"
    if not legible:
        return f"{DATA}: found no meta page of LMDB in its {size} bytes"
    newest = max(legible)
    expected = (newest.last_page + 1) * newest.page_bytes
    return "" if size >= expected else f"{DATA}: found {size} bytes, expected at least {expected}"


def is_full(path: Path, error: str) -> bool:
    """LMDB says `Input/output error` as well when a write was cut short, which is how most disks get full."""
    if any(text in error for text in _FULL_DISK):
        return True
    disk = os.statvfs(path)
    return _CUT_SHORT in error and disk.f_bavail * disk.f_frsize < NEARLY_FULL_BYTES


def map_bytes(path: Path) -> int:
    """The size of the map that the store was made with, from its newest meta page; 0 if there is none."""
    with open(path / DATA, "rb") as file:
        return max((meta.map_bytes for meta in metas(file.fileno())), default=0)


def sync_folder(path: Path) -> None:
    """Names in it that were made, changed or removed are so after a power cut. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def owner_of(path: Path) -> str:
    """The number of the process that owns the store, "unknown" if it does not say, "" if nobody does."""
    try:
        descriptor = os.open(path / OWNER, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return ""


class Meta(NamedTuple):
    """What a meta page says: the state that a transaction has left. Two of them are written in turns."""

    transaction: int
    last_page: int
    page_bytes: int
    map_bytes: int
    free_table: bytes
    main_table: bytes


def metas(descriptor: int) -> list[Meta]:
    """Those that are legible."""
    size = os.fstat(descriptor).st_size
    first = _meta_at(descriptor, 0)
    sizes = [first.page_bytes] if first else sorted(_PAGE_SIZES)
    found = [first, *(_meta_at(descriptor, page_bytes) for page_bytes in sizes if page_bytes < size)]
    return [meta for meta in found if meta]


def _meta_at(descriptor: int, offset: int) -> Meta | None:
    raw = os.pread(descriptor, _META.size, offset)
    if len(raw) < _META.size:
        return None
    magic, _, _, map_bytes, free, main, last_page, transaction = _META.unpack(raw)
    page_bytes = int.from_bytes(free[:4], "little")
    if magic != _META_MAGIC or page_bytes not in _PAGE_SIZES:
        return None
    return Meta(transaction, last_page, page_bytes, map_bytes, free, main)
