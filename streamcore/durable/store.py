"""The store of a durable queue: append in group commits, deliver in order, acknowledge, retain, replay. One process owns it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from streamcore.clock import Clock
from streamcore.durable import actions, files, opening, record
from streamcore.durable.change import BURY, DAMAGED, DROP, FAIL, REPLAY, RETRY, Change, Settlement
from streamcore.durable.counters import Counters
from streamcore.durable.files import ID, REPLAYED, RETRIED, WAITING, key_of, sequence_of
from streamcore.durable.options import Options as StoreOptions
from streamcore.durable.options import room_of
from streamcore.durable.order import Delivery, Handed, Order, turn_of
from streamcore.durable.record import BadRecord, Record
from streamcore.errors import PayloadError, StoreError

SMALL_BYTES = 1 << 20  # a payload that fits every store
SCAN_MAX = 10_000  # waiting records looked at by one deliver(): those of lanes that wait cost time too
OFFERED_AHEAD = 4096  # hand-outs that one write announces: after a crash so many may be flagged redelivered that were not
READERS_CHECK_NS = 60_000_000_000  # dead readers keep pages from being used again

_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.BadValsizeError)


class DurableStore:
    """Open the store at `path` and own it until close().

    Acknowledgements are gathered and written by the next append() or commit(). One thread at a time; never used after a fork.

    `step` is told while all of the file is read how many records were, and of how many.

    Attributes:
      findings: what was wrong with the files and what was done about it, a sentence each.
      full: why the last append() stored less than it was given: "" if it did not, max_bytes or disk.

    Raises:
      StoreLocked: another process owns it.
      StoreError: it cannot be read or written at all.
    """

    # What it takes, so that a node needs one name only.
    Error = StoreError
    Options = StoreOptions
    Entry = record.Entry
    Head = record.Head
    carry_out = staticmethod(actions.carry_out)
    pack_json = staticmethod(record.pack_json)
    unpack_json = staticmethod(record.unpack_json)

    def __init__(
        self,
        path: Path | str,
        options: StoreOptions | None = None,
        clock: Clock | None = None,
        step: Callable[[int, int], None] = lambda read, of: None,
    ):
        self.path = Path(path)
        self.options = options or StoreOptions()
        self._clock, self._step = clock or Clock(), step
        self.full = ""
        self._acks: list[tuple[int, int]] = []  # sequence, room
        self._settlements: list[Settlement] = []
        self._amended = 0  # by the last commit
        self._owner = files.lock(self.path)
        try:
            try:
                self._begin()
            except StoreError:  # what is wrong with some pages is only found by writing
                if not files.condemned(self.path):
                    raise
                self._environment.close()
                self._begin()
        except BaseException:
            os.close(self._owner)
            raise

    def _begin(self) -> None:
        self.findings, damaged = opening.prepare(self.path, self.options, self._step)
        self._open()
        # Below it a record may have been handed out by a process before this one.
        self._offered_before = min(self._counters.offered_upto, self._counters.next_sequence)
        self._order = Order(self._counters.first_waiting)
        self._durable_commits = self._counters.commits
        self._readers_checked_ns = self._clock.monotonic_ns()
        for sequence, reason in damaged:
            self._quarantine(sequence, reason)
        self.commit()

    def _open(self) -> None:
        self._environment = files.open_environment(self.path, self.options)
        self._environment.reader_check()
        self._tables = files.open_tables(self._environment)
        with self._environment.begin() as txn:
            raw = txn.get(files.COUNTERS_KEY, db=self._tables["state"])
            self._counters = Counters.decode(raw) if raw is not None else Counters()
            # In memory, for ids come in any order: on the disk each would be a page of its own to read and to write.
            self._ids = {ID.unpack(row)[1]: sequence_of(key) for key, row in txn.cursor(self._tables["ids"])}

    def __enter__(self) -> DurableStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write what was acknowledged, make it durable, and let go of the files."""
        try:
            if self._acks or self._settlements:
                self.commit()
            self.sync()
        finally:
            self._environment.close()
            os.close(self._owner)

    # --- what it holds

    @property
    def counters(self) -> Counters:
        """As of the last commit."""
        return self._counters

    @property
    def waiting(self) -> int:
        """Records that are not acknowledged yet, those in flight included."""
        with self._environment.begin() as txn:
            return int(txn.stat(db=self._tables["waiting"])["entries"]) - len(self._order.settling)

    def knows(self, id16: bytes) -> bool:
        """Was it appended before, and is it remembered?"""
        return id16 in self._ids

    @property
    def in_flight(self) -> int:
        return len(self._order.in_flight)

    @property
    def due_ns(self) -> int | None:
        """When the next retry is due, on the monotonic clock."""
        return self._order.due_ns

    def is_in_flight(self, sequence: int) -> bool:
        return sequence in self._order.in_flight

    # --- in

    def append(self, entries: Sequence[record.Entry]) -> int:
        """Store entries in one transaction, in order, with what was acknowledged since the last one.

        Returns:
          How many are settled, from the first on: stored, known by their id, or dropped by policy. Fewer than all: `full` says why; give
          the rest again later. Durable: see `durable_commits`.
        Raises:
          PayloadError: an entry that would not fit an empty store; nothing was stored.
          StoreError: the disk fails.
        """
        for entry in entries:
            self.refuse_too_large(entry)
        for attempt in (entries, ()):
            try:
                return self._transact(attempt)
            except lmdb.MapFullError:
                self.full = "max_bytes"
            except lmdb.Error as error:
                if not files.is_full(self.path, str(error)):
                    raise self._failed(error) from None
                self.full = "disk"
                self._recover()
        return 0  # not even deleting works: the answers are kept, and written when there is room

    def refuse_too_large(self, entry: record.Entry) -> None:
        """Raises PayloadError for an entry that would not fit an empty store."""
        nbytes = len(entry.payload)
        if nbytes > SMALL_BYTES and room_of(record.LAYOUT.size + nbytes) > self.options.records_bytes_max:
            allowed = f"{self.options.records_bytes_max} for all records; raise max_bytes"
            raise PayloadError(f"store {self.path}: a payload of {nbytes} bytes, it has room for {allowed}")

    def commit(self) -> None:
        """Write what was acknowledged, and give up what is retained no longer."""
        self.append(())

    def _transact(self, entries: Sequence[record.Entry]) -> int:
        with self._environment.begin(write=True) as txn:
            change = Change(txn, self._tables, self._counters, self.options, self._ids, self._clock.wall_ns())
            change.acknowledge(self._acks)
            for settlement in self._settlements:
                change.settle(settlement)
            stored = change.append(entries)
            change.trim()
            change.finish(self._order.next + OFFERED_AHEAD if self._order.next > self._counters.offered_upto else 0)
        self._counters = change.counters
        self._ids.update(change.learned)
        for id16, sequence in change.forgotten:
            if self._ids.get(id16) == sequence:  # else a later record has the id now
                del self._ids[id16]
        self._durable_commits = self._counters.commits - (self.options.sync == "pipelined")
        self._acks, self._settlements = [], []
        self._amended = change.amended
        self._order.settling.clear()
        if entries:
            self.full = "max_bytes" if stored < len(entries) else ""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._readers_checked_ns > READERS_CHECK_NS:
            self._readers_checked_ns = now_ns
            self._environment.reader_check()
        return stored

    def _recover(self) -> None:
        """After a write that failed LMDB may refuse everything until it is opened again."""
        try:
            with self._environment.begin(write=True):
                pass
        except lmdb.Error:
            self._environment.close()
            self._open()

    @property
    def durable_commits(self) -> int:
        """Commits that survive a power cut: all of `counters.commits`, or with `pipelined` all but the last until sync()."""
        return self._durable_commits

    def sync(self) -> None:
        """Make every commit durable. Costs a write to the disk if the last one is not yet."""
        if self._durable_commits < self._counters.commits:
            try:
                self._environment.sync(True)
            except lmdb.Error as error:
                raise self._failed(error) from None
            self._durable_commits = self._counters.commits

    def _failed(self, error: lmdb.Error) -> StoreError:
        """What to raise. A file whose pages make no sense is not used again as it is, though reading all of it has found nothing wrong."""
        if not isinstance(error, _DAMAGE):
            return StoreError(f"store {self.path}: {error}")
        files.condemn(self.path, str(error))
        return StoreError(f"store {self.path}: {error}; the next start moves the file aside and imports what is whole in it")

    # --- out

    def deliver(self, most: int, bytes_max: int = 1 << 62) -> list[Delivery]:
        """Hand out the next records: retries that are due, then in order. Fewer than `most` if there are no more, or at `bytes_max`.

        A damaged record is put into quarantine, said in `findings`, and the rest goes on.
        """
        found: list[Delivery] = []
        damaged: list[tuple[int, str]] = []
        order, oldest, table = self._order, self._order.oldest(), self._tables["records"]
        try:
            with self._environment.begin() as txn:
                for sequence, lane, failures, flags in self._next(txn, most):
                    raw = txn.get(key_of(sequence), b"", table)
                    try:
                        content = record.decode(raw, sequence)
                    except BadRecord as error:
                        damaged.append((sequence, str(error) if raw else f"record {sequence}: it is missing"))
                        continue
                    order.hand_out(sequence, Handed(lane, failures, flags, room_of(len(raw)), content.stored_ns))
                    again = failures > 0 or sequence < self._offered_before or flags & (REPLAYED | RETRIED) > 0
                    turn = turn_of(flags, failures)
                    settled_below = min(oldest.setdefault(lane, sequence), sequence)
                    found.append(Delivery(content, failures + 1, again, flags & REPLAYED > 0, turn, settled_below))
                    bytes_max -= len(raw)
                    if len(found) >= most or bytes_max <= 0:
                        break
        except lmdb.Error as error:
            raise self._failed(error) from None
        for sequence, reason in damaged:
            self._quarantine(sequence, reason)
        if damaged or self._order.next > self._counters.offered_upto:
            self.commit()  # before anything leaves: after a crash it has to be flagged
        if self._order.next > self._counters.offered_upto:  # a full disk
            return self._take_back(found)
        return found

    def _take_back(self, found: list[Delivery]) -> list[Delivery]:
        """Keep what could not be announced for the next time; retries are flagged anyway."""
        unannounced = [item.record.sequence for item in found if not item.redelivered]
        for sequence in unannounced:
            self._order.take_back(sequence)
        return [item for item in found if item.redelivered]

    def _next(self, txn: Any, most: int) -> Iterator[tuple[int, int, int, int]]:
        """(sequence, lane, failures, flags) of what to hand out."""
        order, now_ns = self._order, self._clock.monotonic_ns()
        for _ in range(most):
            due = order.take_due(now_ns)
            if due is None:
                break
            yield due
        cursor = txn.cursor(db=self._tables["waiting"])
        if cursor.set_range(key_of(order.next)):
            for key, row in islice(cursor, SCAN_MAX):
                sequence = sequence_of(key)
                failures, flags, lane = WAITING.unpack(row)
                order.next = sequence + 1
                if order.may_offer(sequence, lane):
                    yield sequence, lane, failures, flags
            if cursor.key():
                return
        order.next = max(order.next, self._counters.next_sequence)

    def ack(self, sequence: int) -> None:
        """It was delivered. An answer to what is not in flight means nothing and is ignored."""
        handed = self._order.acknowledge(sequence)
        if handed is not None:
            self._acks.append((sequence, handed.room))

    def nack(self, sequence: int, delay_s: float = 0.0, reason: str = "", permanent: bool = False) -> None:
        """It failed: hand it out again after `delay_s`, or make it a dead letter if it is `permanent`, too old, or was its last attempt."""
        handed = self._order.in_flight.get(sequence)
        if handed is None:
            return
        failures = handed.failures + 1
        if permanent or self._is_too_old(handed) or 0 < self.options.max_attempts <= failures:
            self._bury(sequence, failures, reason)
            return
        self._order.fail(sequence, self._clock.monotonic_ns() + round(delay_s * 1e9))
        self._settlements.append(Settlement(FAIL, sequence, failures))

    def put_back(self, sequence: int, delay_s: float = 0.0) -> None:
        """It was not tried: hand it out again after `delay_s`, with no attempt counted, or make it a dead letter if it is too old."""
        handed = self._order.in_flight.get(sequence)
        if handed is not None and self._is_too_old(handed):
            self._bury(sequence, handed.failures, f"not tried within {self.options.max_age_s:g} s")
        else:
            self._order.put_back(sequence, self._clock.monotonic_ns() + round(delay_s * 1e9))

    def _is_too_old(self, handed: Handed) -> bool:
        """What was queued again on request is not, however long it was stored."""
        again = handed.flags & (REPLAYED | RETRIED)
        return not again and 0 < self.options.max_age_s * 1e9 <= self._clock.wall_ns() - handed.stored_ns

    def _bury(self, sequence: int, failures: int, reason: str) -> None:
        self._order.acknowledge(sequence)
        self._settlements.append(Settlement(BURY, sequence, failures, reason))

    def replay(self, sequences: Iterable[int]) -> int:
        """Queue acknowledged records that are retained once more, flagged as replayed; how many of these there were."""
        return self._amend(REPLAY, set(sequences))

    def retry(self, sequences: Iterable[int]) -> int:
        """Queue dead letters, and what waits for a retry, at once and with no failures; how many. What is under way is left alone."""
        return self._amend(RETRY, set(sequences) - self._order.in_flight.keys())

    def drop(self, sequences: Iterable[int]) -> int:
        """Give records up for good, whatever their state; how many there were. What is under way may still arrive."""
        return self._amend(DROP, set(sequences))

    def _amend(self, what: int, sequences: set[int]) -> int:
        """Raises StoreError if the disk is too full even for that; the next commit that it takes does it."""
        order = self._order
        if what != REPLAY:
            order.delay_no_longer(sequences)
        for sequence in sorted(sequences):
            self._settlements.append(Settlement(what, sequence))
            if what == DROP:
                order.forget(sequence)
            else:
                order.queue_again(sequence)
        self._amended = 0
        self.commit()
        if self._settlements:
            raise StoreError(f"store {self.path}: no room on the disk; this is done as soon as there is some")
        return self._amended

    def select(self, wanted: Callable[[Record], bool]) -> list[int]:
        """The sequences of all retained, acknowledged records that are `wanted`, in order."""
        with self._environment.begin() as txn:
            keys = [bytes(key) for key, _ in txn.cursor(db=self._tables["acked"])]
        found = []
        for key in keys:  # a transaction each: a long one would keep pages from being used again
            with self._environment.begin() as txn:
                raw = txn.get(key, db=self._tables["records"])
            try:
                if raw is not None and wanted(record.decode(raw, sequence_of(key))):
                    found.append(sequence_of(key))
            except BadRecord as error:
                self._quarantine(sequence_of(key), str(error))
        return found

    def _quarantine(self, sequence: int, reason: str) -> None:
        """Take a damaged record out and keep its bytes in a file; done by the next commit."""
        with self._environment.begin() as txn:
            raw = txn.get(key_of(sequence), db=self._tables["records"])
        where = opening.put_aside(self.path, sequence, raw)
        self.findings.append(f"{reason}; {where}")
        self._order.in_flight.pop(sequence, None)
        self._order.settling.add(sequence)
        self._settlements.append(Settlement(DAMAGED, sequence))
