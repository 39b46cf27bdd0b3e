"""One write transaction of a store: what it appends, settles, retains and forgets, and the counters that go with it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from streamcore.durable import files, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, DEAD, ID, ID_ORDER, REPLAYED, WAITING, key_of, sequence_of
from streamcore.durable.options import Options, room_of

TRIM_MAX = 1024  # records given up by one transaction beyond what it settles: none may take long
KEY_CHARS_MAX = 256
REASON_CHARS_MAX = 500

ACK, FAIL, BURY, DAMAGED, REPLAY = range(5)


class Settlement(NamedTuple):
    """What becomes of one record. `failures` and `reason` say more of FAIL and BURY (make it a dead letter)."""

    what: int
    sequence: int
    failures: int = 0
    reason: str = ""


def lane_of(key: str) -> int:
    """The number of a key's lane; records without a key share lane 0."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little") | 1 if key else 0


class Change:
    """What one transaction does. `counters` are a copy: the store takes it over once the transaction is committed."""

    def __init__(self, txn: Any, tables: dict[str, Any], counters: Counters, options: Options, now_ns: int):
        self.counters = msgspec.structs.replace(counters)
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
        if settlement.what == REPLAY:
            self._replay(key)
            return
        waiting = self._txn.get(key, db=tables["waiting"])
        if settlement.what == DAMAGED:
            self._take_out(key)
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
                reason = settlement.reason[:REASON_CHARS_MAX].encode("utf-8", "replace")
                self._txn.put(key, DEAD.pack(self._now_ns, settlement.failures) + reason, db=tables["dead"])
                self.counters.failed += 1
                self.counters.dead += 1

    def _room(self, key: bytes) -> int:
        raw = self._txn.get(key, db=self._tables["records"])
        return room_of(len(raw)) if raw is not None else 0

    def _replay(self, key: bytes) -> None:
        acked = self._txn.get(key, db=self._tables["acked"])
        raw = self._txn.get(key, db=self._tables["records"])
        if acked is None or raw is None:
            return
        lane = lane_of(record.decode(bytes(raw), sequence_of(key)).head.key)
        self._txn.delete(key, db=self._tables["acked"])
        self._txn.put(key, WAITING.pack(0, REPLAYED, lane), db=self._tables["waiting"])
        self.counters.retained_bytes -= room_of(len(raw))
        self.counters.replayed += 1

    def _take_out(self, key: bytes) -> None:
        room = self._room(key)
        if self._txn.get(key, db=self._tables["acked"]) is not None:
            self.counters.retained_bytes -= room
        self.counters.used_bytes -= room
        for table in ("waiting", "acked", "dead", "records"):
            self._txn.delete(key, db=self._tables[table])
        self.counters.quarantined += 1

    # --- what is given up

    def trim(self) -> None:
        """Give up acknowledged records that are retained no longer, and ids whose window is over."""
        options, counters = self._options, self.counters
        oldest_ns = self._now_ns - round(options.retain_s * 1e9) if options.retain_s else None
        for _ in range(TRIM_MAX):
            if counters.retained_bytes <= options.retain_bytes and not (oldest_ns and self._oldest_acked_ns() < oldest_ns):
                break
            if not self._drop_oldest_acked():
                break
        self._forget_ids()

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
