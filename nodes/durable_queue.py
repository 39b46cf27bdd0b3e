"""durable.queue: what it has taken survives kill -9, power cuts and full disks, and is delivered in order when it can be."""

from __future__ import annotations

import random
import time
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import Any

from streamcore import DurableStore, Node, PayloadError, Port, StreamPacket
from streamcore_nodes.picker import Picker
from streamcore_nodes.picture_codec import CODECS
from streamcore_nodes.store_metrics import StoreMetrics
from streamcore_nodes.stored_payload import decode_payload, encode_payload

READY_MAX = 64  # records read ahead of what the output takes
READY_BYTES = 16 << 20
ANSWERS_MAX = 256  # acknowledgements gathered before they are written: with the next inputs, at the latest after ANSWERS_NS
ANSWERS_NS = 20_000_000  # a commit of its own for each few would wait for the disk all the time
FULL_RETRY_NS = 200_000_000  # a full disk says nothing when there is room again
JITTER = (0.8, 1.2)  # many boxes that lost the same server at the same moment must not come back to it at the same moment
PIPELINED_NS = 5_000_000  # a last commit is made durable after so long without a further one
TURN_SHIFT = 40  # an output's position: sequence, and above it the turn, so that a retry or a replay has an id of its own
SEQUENCES = (1 << TURN_SHIFT) - 1
META_KEY = "durable"


class DurableQueue(Node):
    """Store each packet on the disk, then deliver it; go on after a restart with what was not delivered.

    An input is completed once it is durable. An output is acknowledged once everything behind it has delivered it: the edges from here to
    the sinks are planned `completion: delivered`. One that fails is delivered again after `retry_s`, doubled each time up to `retry_max_s`;
    it holds up the records of its `key`, or all of them if there is no key. One that is refused, or too old, becomes a dead letter. While
    the destination is away everything waits, and no attempt is counted.

    `meta.durable` of an output has `sequence`, `id`, `attempt`, `replayed`, `key` if there is one, and `settled_below`: no record of its
    key with a lower sequence will come any more. Sinks that must do a thing once use the `id`; delivery_order.py is for those that must
    keep the order.
    """

    inputs = {"in": Port("any", "any", transport="durable")}
    outputs = {"out": Port("any", "any", forwards=())}
    batch_max = "batch"
    retention = "batch"
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "a folder of its own; made if need be"}},
        "max_bytes": {"type": "size", "min": 4 << 20, "default": 1 << 30, "meta": {"doc": "most room of its file"}},
        "full": {
            "allowed": ["block", "drop_oldest_acked", "drop_new"],
            "default": "block",
            "meta": {"doc": "when there is no room: keep inputs waiting; give up retained records, then block; drop inputs"},
        },
        "sync": {"allowed": ["commit", "pipelined"], "default": "commit", "meta": {"doc": "pipelined: complete inputs one commit later"}},
        "batch": {"type": "integer", "min": 2, "max": 1024, "default": 128, "meta": {"doc": "most inputs of one commit"}},
        "in_flight": {
            "type": "integer",
            "min": 0,
            "max": 1024,
            "default": 0,
            "meta": {"doc": "most outputs not acknowledged; 1: strict order through failures; 0: as many as the edge takes"},
        },
        "codec": {"allowed": ["", *CODECS], "default": "", "meta": {"doc": "how arrays are stored; without it none may enter"}},
        "quality": {"type": "integer", "min": 1, "max": 100, "default": 90, "meta": {"doc": "of codec jpeg"}},
        "key": {
            "type": "string",
            "default": "",
            "meta": {"doc": "source_id, kind, payload.NAME or meta.NAME: order is kept per value"},
        },
        "id": {"type": "string", "default": "", "meta": {"doc": "likewise: what a packet is stored once by; else its packet_id"}},
        "dedup_window_s": {"type": "number", "min": 0, "max": 1e9, "default": 3600, "meta": {"doc": "how long an id is remembered"}},
        "dedup_max": {
            "type": "integer",
            "min": 0,
            "max": 10**7,
            "default": 100_000,
            "meta": {"doc": "most ids remembered, at 0.1 KB of memory each"},
        },
        "retain_bytes": {"type": "size", "min": 0, "default": 0, "meta": {"doc": "room for records that were acknowledged"}},
        "retain_s": {"type": "number", "min": 0, "max": 1e9, "default": 0, "meta": {"doc": "and how long they stay at most; 0: any time"}},
        "dead_max_bytes": {"type": "size", "min": 0, "default": 0, "meta": {"doc": "most room of dead letters; 0: as much as there is"}},
        "dead_max_s": {"type": "number", "min": 0, "max": 1e9, "default": 0, "meta": {"doc": "how long they stay at most; 0: any time"}},
        "max_age_s": {
            "type": "number",
            "min": 0,
            "max": 1e9,
            "default": 0,
            "meta": {"doc": "how long one that fails is tried again; 0: any time"},
        },
        "max_attempts": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "then a record becomes a dead letter; 0: never"}},
        "retry_s": {
            "type": "number",
            "min": 0.001,
            "max": 86400,
            "default": 1,
            "meta": {"doc": "until the second attempt, a fifth more or less"},
        },
        "retry_max_s": {"type": "number", "min": 0.001, "max": 86400, "default": 60, "meta": {"doc": "most of it"}},
    }

    def setup(self) -> None:
        config = self.config
        self.key, self.unique = Picker(config["key"]), Picker(config["id"])
        options = DurableStore.Options(**{name: config[name] for name in DurableStore.Options.__struct_fields__})
        self.store = DurableStore(Path(config["path"]).expanduser(), options, step=lambda read, of: self.still_starting())
        self.said = 0
        self._say_findings()
        self.ready: deque[Any] = deque()
        self.untaken: list[tuple[StreamPacket, Any]] = []  # for want of room; their packets are not completed
        self.unsynced: deque[tuple[int, list[StreamPacket]]] = deque()  # commit, packets that it stored
        self.unsynced_ns = 0
        self.answers = self.answered_ns = 0
        self.retry_full_ns: int | None = None
        self.away_s, self.away_until_ns = 0.0, 0  # the delay while the destination takes nothing
        self.published = StoreMetrics(self.metrics, self.store)

    # --- in

    def process_batch(self, packets: list[StreamPacket]) -> None:
        entries = []
        for packet in packets:
            try:
                entries.append((packet, self._entry(packet)))
            except PayloadError as error:
                self.fail(packet, error)
        packets.clear()
        self._store(entries)

    def _entry(self, packet: StreamPacket) -> Any:
        head = DurableStore.Head(packet.kind, packet.source_id, "json", self.key.text(packet), packet.meta, packet.position)
        raw = encode_payload(packet.payload, head, self.config["codec"], self.config["quality"])
        text = self.unique.text(packet)
        id16 = blake2b(text.encode(), digest_size=16).digest() if text else packet.id16
        entry = DurableStore.Entry(id16, packet.wall_ns, head, raw)
        self.store.refuse_too_large(entry)
        return entry

    def _store(self, entries: list[tuple[StreamPacket, Any]]) -> None:
        """Append; what finds no room is kept, and no input is taken until it has found some."""
        stored = self.store.append([entry for _, entry in entries])
        self.published.publish()
        self.answers = 0
        if self.store.durable_commits < self.store.counters.commits and stored:
            self.unsynced.append((self.store.counters.commits, [packet for packet, _ in entries[:stored]]))
            self.unsynced_ns = time.monotonic_ns()
        while self.unsynced and self.unsynced[0][0] <= self.store.durable_commits:
            self.unsynced.popleft()
        self.untaken = entries[stored:]
        if self.taking and self.untaken:
            self.log.warning("full (%s): inputs wait", self.store.full)
        self.taking = not self.untaken

    # --- out

    def pull(self) -> StreamPacket | None:
        if not self.ready or self.untaken or self.answers >= ANSWERS_MAX or self.stopping:
            self._catch_up(time.monotonic_ns())
        limit = self.config["in_flight"]
        self.pressing = 0 < limit <= self._under_way
        if self.pressing or self.stopping:
            return None
        if not self.ready:
            self.ready.extend(self.store.deliver(min(READY_MAX, limit or READY_MAX), READY_BYTES))
            self._say_findings()
            self._plan_next_pull()
            if not self.ready:
                self.published.publish()
                return None
        return self._packet(self.ready.popleft())

    def blocked(self) -> None:
        self._catch_up(time.monotonic_ns())

    def _catch_up(self, now_ns: int) -> None:
        """Write what is due: inputs that found no room, answers, the sync of a last commit."""
        if self.untaken and (self.answers or self.retry_full_ns is None or now_ns >= self.retry_full_ns):
            self._store(self.untaken)
        elif self.answers >= ANSWERS_MAX or (self.answers and now_ns - self.answered_ns >= ANSWERS_NS):
            self._commit()
        if self.unsynced and now_ns - self.unsynced_ns >= PIPELINED_NS:
            self.store.sync()
            self.unsynced.clear()
        self.retry_full_ns = now_ns + FULL_RETRY_NS if self.untaken else None
        self._plan_next_pull()

    def _plan_next_pull(self) -> None:
        times = (
            self.store.due_ns,
            self.retry_full_ns,
            self.unsynced_ns + PIPELINED_NS if self.unsynced else None,
            self.answered_ns + ANSWERS_NS if self.answers else None,
        )
        self.pull_at_ns = min((at_ns for at_ns in times if at_ns is not None), default=None)

    def _commit(self) -> None:
        self.store.commit()
        self.published.publish()
        self.answers = 0

    def _packet(self, delivery: Any) -> StreamPacket:
        record, head = delivery.record, delivery.record.head
        told = {
            "sequence": record.sequence,
            "id": record.id16.hex(),
            "attempt": delivery.attempt,
            "replayed": delivery.replayed,
            "settled_below": delivery.settled_below,
        }
        if head.key:
            told["key"] = head.key
        packet = StreamPacket.new(
            kind=head.kind,
            source_id=head.source_id,
            payload=decode_payload(record),
            meta={**head.meta, META_KEY: told} if head.meta else {META_KEY: told},
            position=delivery.turn << TURN_SHIFT | record.sequence,
            wall_ns=record.wall_ns,
        )
        packet.redelivered = delivery.redelivered
        return packet

    def on_completed(self, packet: StreamPacket, outcome: str) -> None:
        sequence = (packet.position or 0) & SEQUENCES
        if outcome == "ok":
            self.store.ack(sequence)
            self.away_s = 0.0
        else:
            self._failed(sequence, outcome, packet.meta[META_KEY]["attempt"])
        if not self.answers:
            self.answered_ns = time.monotonic_ns()
            self._plan_next_pull()
        self.answers += 1

    def _failed(self, sequence: int, outcome: str, attempt: int) -> None:
        if outcome == "refused":
            self.store.nack(sequence, reason="the destination refuses it; the log of its node says why", permanent=True)
        elif outcome == "away":
            self.store.put_back(sequence, self._away_for_s())
        else:
            delay_s = min(self.config["retry_max_s"], self.config["retry_s"] * 2 ** min(attempt - 1, 30))
            self.store.nack(sequence, delay_s * random.uniform(*JITTER), outcome)

    def _away_for_s(self) -> float:
        """The same for all that come back before it is over."""
        now_ns = time.monotonic_ns()
        if now_ns >= self.away_until_ns:
            self.away_s = min(self.config["retry_max_s"], self.away_s * 2 or self.config["retry_s"])
            self.away_until_ns = now_ns + round(self.away_s * random.uniform(*JITTER) * 1e9)
        return (self.away_until_ns - now_ns) / 1e9

    def on_order(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        done = DurableStore.carry_out(self.store, name, arguments)
        self.published.publish()
        self.ready = deque(delivery for delivery in self.ready if self.store.is_in_flight(delivery.record.sequence))
        return done

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """The stream ends when everything is delivered; what a stop leaves is delivered by the next run."""
        return bool(self.untaken or self._under_way or (self.store.waiting and not self.stopping))

    @property
    def _under_way(self) -> int:
        """Packets that have left and are not answered."""
        return self.store.in_flight - len(self.ready)

    def flush(self) -> None:
        self._commit()

    def close(self) -> None:
        self.store.close()
        self.unsynced.clear()

    def _say_findings(self) -> None:
        for finding in self.store.findings[self.said :]:
            self.log.error("%s", finding)
        self.said = len(self.store.findings)
