"""One write transaction of a store: what it appends, settles, retains and forgets, and the counters that go with it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from streamcore.durable import dead, files, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, ID, ID_ORDER, REPLAYED, RETRIED, WAITING, flags_of, key_of, sequence_of
from streamcore.durable.options import Options, room_of

TRIM_MAX = 1024  # records given up by one transaction beyond what it settles: none may take long
KEY_CHARS_MAX = 256

ACK, FAIL, BURY, DAMAGED, REPLAY, RETRY, DROP = range(7)


class Settlement(NamedTuple):
    """What becomes of one record. `failures` and `reason` say more of FAIL and BURY (make it a dead letter).

    REPLAY queues one that is retained once more; RETRY a dead letter, or one that failed, with no failures; DROP gives up any.
    """

    what: int
    sequence: int
    failures: int = 0
    reason: str = ""


def lane_of(key: str) -> int:
    """The number of a key's lane; records without a key share lane 0."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little") | 1 if key else 0


class Change:
    """What one transaction does. `counters` are a copy: the store takes it over once the transaction is committed.

    amended: how many records REPLAY, RETRY and DROP have found and changed.
    """

    def __init__(self, txn: Any, tables: dict[str, Any], counters: Counters, options: Options, now_ns: int):
        self.counters = msgspec.structs.replace(counters)
        self.amended = 0
        self._txn, self._tables, self._options, self._now_ns = txn, tables, options, now_ns

    def append(self, entry: record.Entry) -> bool:
        """Store it, unless its id is known or the policy drops it. False: there is no room."""
        counters, put = self.counters, self._txn.put
        known = self._txn.get(entry.id16, db=self._tables["ids"])
        if known is not None and self._now_ns - ID.unpack(known)[1] <= self._options.dedup_window_s * 1e9:
            counters.duplicates += 1
            return True
        sequence = counters.next_sequence
        raw = record.encode(entry, sequence, self._now_ns)
        room = room_of(len(raw))
        if counters.used_bytes + room > self._options.records_bytes_max and not self._make_room(room):
            if self._options.full == "drop_new":
                counters.dropped += 1
                return True
            return False
        key = key_of(sequence)
        put(key, raw, db=self._tables["records"], append=True)
        put(key, WAITING.pack(0, 0, lane_of(entry.head.key)), db=self._tables["waiting"], append=True)
        if self._options.dedup_max:
            put(entry.id16, ID.pack(sequence, self._now_ns), db=self._tables["ids"])
            put(key, ID_ORDER.pack(self._now_ns, entry.id16), db=self._tables["id_order"], append=True)
        counters.next_sequence = sequence + 1
        counters.used_bytes += room
        counters.appended += 1
        return True

    def _make_room(self, room: int) -> bool:
        """Give up what is retained, by policy. True if that is enough."""
        if self._options.full != "drop_oldest_acked":
            return False
        wanted = self.counters.used_bytes + room - self._options.records_bytes_max
        if self.counters.retained_bytes < wanted:
            return False
        while wanted > 0 and (freed := self._drop_oldest_acked()):
            wanted -= freed
        return wanted <= 0

    def settle(self, settlement: Settlement) -> None:
        """Of a record that is not there (any more) nothing is done: an answer may come twice."""
        key, tables = key_of(settlement.sequence), self._tables
        if settlement.what in (REPLAY, RETRY, DROP):
            self.amended += self._amend(settlement.what, key)
            return
        waiting = self._txn.get(key, db=tables["waiting"])
        if settlement.what == DAMAGED:
            self._take_out(key)
            self.counters.quarantined += 1
        elif waiting is None:
            return
        elif settlement.what == FAIL:
            _, flags, lane = WAITING.unpack(waiting)
            self._txn.put(key, WAITING.pack(settlement.failures, flags, lane), db=tables["waiting"])
            self.counters.failed += 1
        else:
            self._txn.delete(key, db=tables["waiting"])
            if settlement.what == ACK:
                room = self._room(key)
                self._txn.put(key, ACKED.pack(self._now_ns), db=tables["acked"])
                self.counters.acknowledged += 1
                self.counters.retained_bytes += room
            else:
                flags = WAITING.unpack(waiting)[1] & REPLAYED
                death = dead.Death(settlement.sequence, self._now_ns, settlement.failures, settlement.reason, flags)
                self._txn.put(key, dead.encode(death), db=tables["dead"])
                self.counters.failed += 1
                self.counters.dead += 1
                self.counters.dead_bytes += self._room(key)

    def _room(self, key: bytes) -> int:
        raw = self._txn.get(key, db=self._tables["records"])
        return room_of(len(raw)) if raw is not None else 0

    def _amend(self, what: int, key: bytes) -> bool:
        """False if there is nothing of that kind under this key."""
        state = next((name for name in ("waiting", "acked", "dead") if self._txn.get(key, db=self._tables[name]) is not None), "")
        if what == DROP:
            if state:
                self._take_out(key)
                self.counters.removed += 1
            return bool(state)
        if what == REPLAY:
            return state == "acked" and self._queue_again(key, state, REPLAYED)
        value = self._txn.get(key, db=self._tables[state]) if state in ("waiting", "dead") else None
        if value is None:
            return False
        failures, flags = WAITING.unpack(value)[:2] if state == "waiting" else dead.decode(value)[2:5:2]
        return failures > 0 and self._queue_again(key, state, RETRIED | flags & REPLAYED)

    def _queue_again(self, key: bytes, state: str, flag: int) -> bool:
        """False for a damaged record: it stays where it is, for the next check to find."""
        raw = self._txn.get(key, db=self._tables["records"])
        try:
            lane = lane_of(record.decode(raw or b"", sequence_of(key)).head.key)
        except record.BadRecord:
            return False
        self._release(key, len(raw))
        self._txn.delete(key, db=self._tables[state])
        self._txn.put(key, WAITING.pack(0, flags_of(flag, self.counters.commits), lane), db=self._tables["waiting"])
        self.counters.replayed += state != "waiting"
        return True

    def _release(self, key: bytes, nbytes: int) -> None:
        """It is retained, or a dead letter, no longer."""
        if self._txn.get(key, db=self._tables["acked"]) is not None:
            self.counters.retained_bytes -= room_of(nbytes)
        if self._txn.get(key, db=self._tables["dead"]) is not None:
            self.counters.dead_bytes -= room_of(nbytes)

    def _take_out(self, key: bytes) -> None:
        raw = self._txn.get(key, db=self._tables["records"])
        if raw is not None:
            self._release(key, len(raw))
            self.counters.used_bytes -= room_of(len(raw))
        for table in ("waiting", "acked", "dead", "records"):
            self._txn.delete(key, db=self._tables[table])

    # --- what is given up

    def trim(self) -> None:
        """Give up acknowledged records that are retained no longer, dead letters beyond their bounds, and ids whose window is over."""
        options, counters = self._options, self.counters
        oldest_ns = self._now_ns - round(options.retain_s * 1e9) if options.retain_s else None
        for _ in range(TRIM_MAX):
            if counters.retained_bytes <= options.retain_bytes and not (oldest_ns and self._oldest_acked_ns() < oldest_ns):
                break
            if not self._drop_oldest_acked():
                break
        self._trim_dead()
        self._forget_ids()

    def _trim_dead(self) -> None:
        options, counters = self._options, self.counters
        if not (options.dead_max_bytes or options.dead_max_s):
            return
        cursor = self._txn.cursor(db=self._tables["dead"])
        oldest_ns = self._now_ns - round(options.dead_max_s * 1e9) if options.dead_max_s else None
        for _ in range(TRIM_MAX):
            if not cursor.first():
                break
            crowded = 0 < options.dead_max_bytes < counters.dead_bytes
            if not crowded and (oldest_ns is None or dead.decode(cursor.value()).since_ns >= oldest_ns):
                break
            self._take_out(bytes(cursor.key()))
            counters.removed += 1

    def _oldest_acked_ns(self) -> int:
        cursor = self._txn.cursor(db=self._tables["acked"])
        return int(ACKED.unpack(cursor.value())[0]) if cursor.first() else self._now_ns

    def _drop_oldest_acked(self) -> int:
        """Its room; 0 if nothing is retained."""
        cursor = self._txn.cursor(db=self._tables["acked"])
        if not cursor.first():
            return 0
        key = bytes(cursor.key())
        room = self._room(key)
        cursor.delete()
        self._txn.delete(key, db=self._tables["records"])
        self.counters.used_bytes -= room
        self.counters.retained_bytes -= room
        return room

    def _forget_ids(self) -> None:
        order, ids = self._tables["id_order"], self._tables["ids"]
        surplus = self._txn.stat(db=order)["entries"] - self._options.dedup_max
        oldest_ns = self._now_ns - round(self._options.dedup_window_s * 1e9)
        cursor = self._txn.cursor(db=order)
        for _ in range(TRIM_MAX):
            if not cursor.first():
                break
            stored_ns, id16 = ID_ORDER.unpack(cursor.value())
            if surplus <= 0 and stored_ns >= oldest_ns:
                break
            known = self._txn.get(id16, db=ids)
            if known is not None and ID.unpack(known)[0] == sequence_of(cursor.key()):  # else a later record has the id now
                self._txn.delete(id16, db=ids)
            cursor.delete()
            surplus -= 1

    def finish(self, offered_upto: int) -> None:
        """Write the counters; the last thing before the commit."""
        cursor = self._txn.cursor(db=self._tables["waiting"])
        counters = self.counters
        counters.commits += 1
        counters.first_waiting = sequence_of(cursor.key()) if cursor.first() else counters.next_sequence
        counters.offered_upto = max(counters.offered_upto, offered_upto)
        self._txn.put(files.COUNTERS_KEY, counters.encode(), db=self._tables["state"])
