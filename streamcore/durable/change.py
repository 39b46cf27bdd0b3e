"""One write transaction of a store: what it appends, settles, retains and forgets, and the counters that go with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from streamcore.durable import dead, files, record
from streamcore.durable.counters import Counters
from streamcore.durable.files import ACKED, ID, REPLAYED, RETRIED, WAITING, flags_of, key_of, sequence_of
from streamcore.durable.options import Options, room_of

TRIM_MAX = 1024  # records given up by one transaction beyond what it settles: none may take long
LANES_KNOWN_MAX = 4096  # keys whose lane is not worked out again

FAIL, BURY, DAMAGED, REPLAY, RETRY, DROP = range(6)


class Settlement(NamedTuple):
    """What becomes of one record. `failures` and `reason` say more of FAIL and BURY (make it a dead letter).

    REPLAY queues one that is retained once more; RETRY a dead letter, or one that failed, with no failures; DROP gives up any.
    """

    what: int
    sequence: int
    failures: int = 0
    reason: str = ""


@lru_cache(LANES_KNOWN_MAX)
def lane_of(key: str) -> int:
    """The number of a key's lane; records without a key share lane 0."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little") | 1 if key else 0


class Change:
    """What one transaction does. `counters`, `learned` and `forgotten` are for the store to take over once it is committed.

    Attributes:
      counters: a copy, as they are after it.
      amended: how many records REPLAY, RETRY and DROP have found and changed.
      learned, forgotten: ids, with the sequence of their record, that belong to the index now, and that do not any more.
    """

    def __init__(self, txn: Any, tables: Mapping[str, Any], counters: Counters, options: Options, ids: Mapping[bytes, int], now_ns: int):
        self.counters = msgspec.structs.replace(counters)
        self.amended = 0
        self.learned: dict[bytes, int] = {}
        self.forgotten: list[tuple[bytes, int]] = []
        self._txn, self._tables, self._options, self._ids, self._now_ns = txn, tables, options, ids, now_ns

    def append(self, entries: Sequence[record.Entry]) -> int:
        """Store them in order, but those whose id is known or that the policy drops. How many are settled; fewer: there is no room."""
        counters, options, now_ns = self.counters, self._options, self._now_ns
        sequence, room_max, learns = counters.next_sequence, options.records_bytes_max, options.dedup_max > 0
        rows: list[tuple[bytes, bytes]] = []
        lanes: list[int] = []
        settled = 0
        for entry in entries:
            if learns and self._is_known(entry.id16):
                counters.duplicates += 1
            else:
                raw = record.encode(entry, sequence, now_ns)
                room = room_of(len(raw))
                if counters.used_bytes + room <= room_max or self._make_room(room):
                    counters.used_bytes += room
                    rows.append((key_of(sequence), raw))
                    lanes.append(lane_of(entry.head.key))
                    if learns:
                        self.learned[entry.id16] = sequence
                    sequence += 1
                elif options.full == "drop_new":
                    counters.dropped += 1
                else:
                    break
            settled += 1
        if rows:
            self._put("records", rows)
            self._put("waiting", [(key, WAITING.pack(0, 0, lane)) for (key, _), lane in zip(rows, lanes, strict=True)])
            if learns:
                self._put("ids", [(row[0], ID.pack(now_ns, id16)) for row, id16 in zip(rows, self.learned, strict=True)])
            counters.next_sequence = sequence
            counters.appended += len(rows)
        return settled

    def _put(self, table: str, rows: list[tuple[bytes, bytes]]) -> None:
        """Behind all that is there: sequences only grow."""
        self._txn.cursor(self._tables[table]).putmulti(rows, append=True)

    def _is_known(self, id16: bytes) -> bool:
        if id16 in self.learned:
            return True
        sequence = self._ids.get(id16)
        if sequence is None:
            return False
        row = self._txn.get(key_of(sequence), db=self._tables["ids"])
        return row is not None and self._now_ns - ID.unpack(row)[0] <= self._options.dedup_window_s * 1e9

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

    def acknowledge(self, acks: Iterable[tuple[int, int]]) -> None:
        """(sequence, room) of records that were delivered. One that does not wait (any more) is passed over: an answer may come twice."""
        counters, delete = self.counters, self._txn.delete
        waiting, records = self._tables["waiting"], self._tables["records"]
        keeps = self._options.retain_bytes > 0
        kept = []
        for sequence, room in acks:
            key = key_of(sequence)
            if not delete(key, b"", waiting):
                continue
            counters.acknowledged += 1
            if keeps:
                kept.append((key, ACKED.pack(self._now_ns, room)))
                counters.retained_bytes += room
            else:
                delete(key, b"", records)
                counters.used_bytes -= room
        if kept:
            self._txn.cursor(self._tables["acked"]).putmulti(kept)

    def settle(self, settlement: Settlement) -> None:
        """Of a record that is not there (any more) nothing is done."""
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
            flags = WAITING.unpack(waiting)[1] & REPLAYED
            death = dead.Death(settlement.sequence, self._now_ns, settlement.failures, settlement.reason, flags)
            self._txn.put(key, dead.encode(death), db=tables["dead"])
            self.counters.failed += 1
            self.counters.dead += 1
            self.counters.dead_bytes += room_of(len(self._txn.get(key, b"", tables["records"])))

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
        acked = self._txn.get(key, db=self._tables["acked"])
        if acked is not None:
            self.counters.retained_bytes -= ACKED.unpack(acked)[1]
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
        key, room = cursor.key(), int(ACKED.unpack(cursor.value())[1])
        cursor.delete()
        self._txn.delete(key, db=self._tables["records"])
        self.counters.used_bytes -= room
        self.counters.retained_bytes -= room
        return room

    def _forget_ids(self) -> None:
        """The oldest, when they are too many or their window is over."""
        ids = self._tables["ids"]
        surplus = self._txn.stat(db=ids)["entries"] - self._options.dedup_max
        oldest_ns = self._now_ns - round(self._options.dedup_window_s * 1e9)
        cursor = self._txn.cursor(ids)
        cursor.first()
        while (row := cursor.value()) and len(self.forgotten) < TRIM_MAX:
            stored_ns, id16 = ID.unpack(row)
            if surplus <= 0 and stored_ns >= oldest_ns:
                break
            self.forgotten.append((id16, sequence_of(cursor.key())))
            cursor.delete()  # and stand on the next
            surplus -= 1

    def finish(self, offered_upto: int) -> None:
        """Write the counters; the last thing before the commit."""
        cursor = self._txn.cursor(db=self._tables["waiting"])
        counters = self.counters
        counters.commits += 1
        counters.first_waiting = sequence_of(cursor.key()) if cursor.first() else counters.next_sequence
        counters.offered_upto = max(counters.offered_upto, offered_upto)
        self._txn.put(files.COUNTERS_KEY, counters.encode(), db=self._tables["state"])
