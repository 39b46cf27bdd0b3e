"""durable.queue: what it has taken survives kill -9, power cuts and full disks, and is delivered in order when it can be."""

from __future__ import annotations

import time
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import DurableStore, Node, PayloadError, Port, StreamPacket
from streamcore_nodes.picker import Picker
from streamcore_nodes.picture_codec import CODECS, decode_picture, encode_picture

READY_MAX = 64  # records read ahead of what the output takes
READY_BYTES = 16 << 20
ANSWERS_MAX = 256  # acknowledgements gathered before they are written: with the next inputs, at the latest after ANSWERS_NS
ANSWERS_NS = 20_000_000  # a commit of its own for each few would wait for the disk all the time
FULL_RETRY_NS = 200_000_000  # a full disk says nothing when there is room again
PIPELINED_NS = 5_000_000  # a last commit is made durable after so long without a further one
ATTEMPT_SHIFT = 40  # an output's position: sequence, and above it the attempt, so that a retry has an id of its own
SEQUENCES = (1 << ATTEMPT_SHIFT) - 1
META_KEY = "durable"


class DurableQueue(Node):
    """Store each packet on the disk, then deliver it; go on after a restart with what was not delivered.

    An input is completed once it is durable. An output is acknowledged once everything behind it has delivered it: the edges from here to
    the sinks are planned `completion: delivered`. One that fails is delivered again after `retry_s`, doubled each time up to `retry_max_s`;
    it holds up the records of its `key`, or all of them if there is no key. `meta.durable` of an output has `sequence`, `id`, `attempt` and
    `replayed`; sinks that must do a thing once use the `id`.
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
        "dedup_max": {"type": "integer", "min": 0, "max": 10**9, "default": 100_000, "meta": {"doc": "most ids remembered"}},
        "retain_bytes": {"type": "size", "min": 0, "default": 0, "meta": {"doc": "room for records that were acknowledged"}},
        "retain_s": {"type": "number", "min": 0, "max": 1e9, "default": 0, "meta": {"doc": "and how long they stay at most; 0: any time"}},
        "max_attempts": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "then a record becomes a dead letter; 0: never"}},
        "retry_s": {"type": "number", "min": 0.001, "max": 86400, "default": 1, "meta": {"doc": "until the second attempt"}},
        "retry_max_s": {"type": "number", "min": 0.001, "max": 86400, "default": 60, "meta": {"doc": "most of it"}},
    }

    def setup(self) -> None:
        config = self.config
        self.key, self.unique = Picker(config["key"]), Picker(config["id"])
        names = ("max_bytes", "full", "sync", "dedup_window_s", "dedup_max", "retain_bytes", "retain_s", "max_attempts")
        self.store = DurableStore(Path(config["path"]).expanduser(), DurableStore.Options(**{name: config[name] for name in names}))
        self.said = 0
        self._say_findings()
        self.ready: deque[Any] = deque()
        self.untaken: list[tuple[StreamPacket, Any]] = []  # for want of room; their packets are not completed
        self.unsynced: deque[tuple[int, list[StreamPacket]]] = deque()  # commit, packets that it stored
        self.unsynced_ns = 0
        self.answers = self.answered_ns = 0
        self.retry_full_ns: int | None = None
        self.attempts: dict[int, int] = {}
        self.waiting_gauge, self.refused = self.metrics.gauge("waiting"), self.metrics.counter("refused")

    # --- in

    def process_batch(self, packets: list[StreamPacket]) -> None:
        entries = []
        for packet in packets:
            try:
                entries.append((packet, self._entry(packet)))
            except PayloadError:
                if len(packets) == 1:
                    raise
                self.refused.add()
                self.log.exception("packet %s cannot be stored", packet.packet_id)
        packets.clear()
        self._store(entries)

    def _entry(self, packet: StreamPacket) -> Any:
        head = DurableStore.Head(packet.kind, packet.source_id, "json", self.key.text(packet), packet.meta, packet.position)
        payload = packet.payload
        if isinstance(payload, np.ndarray):
            head.codec, head.dtype, head.shape = self.config["codec"], str(payload.dtype), payload.shape
            raw = encode_picture(payload, head.codec, self.config["quality"])
        elif isinstance(payload, (bytes, bytearray, memoryview)):
            head.codec, raw = "bytes", bytes(payload)
        else:
            raw = DurableStore.pack_json(payload)
        text = self.unique.text(packet)
        id16 = blake2b(text.encode(), digest_size=16).digest() if text else packet.id16
        entry = DurableStore.Entry(id16, packet.wall_ns, head, raw)
        self.store.refuse_too_large(entry)
        return entry

    def _store(self, entries: list[tuple[StreamPacket, Any]]) -> None:
        """Append; what finds no room is kept, and no input is taken until it has found some."""
        stored = self.store.append([entry for _, entry in entries])
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
        now_ns = time.monotonic_ns()
        self._catch_up(now_ns)
        limit = self.config["in_flight"]
        if limit and self.store.in_flight - len(self.ready) >= limit:
            return None
        if not self.ready:
            self.ready.extend(self.store.deliver(min(READY_MAX, limit or READY_MAX), READY_BYTES))
            self._say_findings()
        if not self.ready:
            self.waiting_gauge.set(self.store.waiting)
            return None
        return self._packet(self.ready.popleft())

    def _catch_up(self, now_ns: int) -> None:
        if self.untaken and (self.answers or self.retry_full_ns is None or now_ns >= self.retry_full_ns):
            self._store(self.untaken)
        elif self.answers >= ANSWERS_MAX or (self.answers and now_ns - self.answered_ns >= ANSWERS_NS):
            self._commit()
        if self.unsynced and now_ns - self.unsynced_ns >= PIPELINED_NS:
            self.store.sync()
            self.unsynced.clear()
        self.retry_full_ns = now_ns + FULL_RETRY_NS if self.untaken else None
        times = (
            self.store.due_ns,
            self.retry_full_ns,
            self.unsynced_ns + PIPELINED_NS if self.unsynced else None,
            self.answered_ns + ANSWERS_NS if self.answers else None,
        )
        self.pull_at_ns = min((at_ns for at_ns in times if at_ns is not None), default=None)

    def _commit(self) -> None:
        self.store.commit()
        self.answers = 0

    def _packet(self, delivery: Any) -> StreamPacket:
        record, head = delivery.record, delivery.record.head
        self.attempts[record.sequence] = delivery.attempt
        told = {"sequence": record.sequence, "id": record.id16.hex(), "attempt": delivery.attempt, "replayed": delivery.replayed}
        packet = StreamPacket.new(
            kind=head.kind,
            source_id=head.source_id,
            payload=_payload(record),
            meta={**(head.meta or {}), META_KEY: told},
            position=delivery.attempt - 1 << ATTEMPT_SHIFT | record.sequence,
            wall_ns=record.wall_ns,
        )
        packet.redelivered = delivery.redelivered
        return packet

    def on_completed(self, packet: StreamPacket, outcome: str) -> None:
        sequence = (packet.position or 0) & SEQUENCES
        attempt = self.attempts.pop(sequence, 1)
        if outcome == "ok":
            self.store.ack(sequence)
        else:
            delay_s = min(self.config["retry_max_s"], self.config["retry_s"] * 2 ** min(attempt - 1, 30))
            self.store.nack(sequence, delay_s, outcome)
        self.answered_ns = self.answered_ns if self.answers else time.monotonic_ns()
        self.answers += 1

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """The stream ends when everything is delivered; what a stop leaves is delivered by the next run."""
        return bool(self.untaken or self.store.in_flight or (self.store.waiting and not self.stopping))

    def flush(self) -> None:
        self._commit()

    def close(self) -> None:
        self.store.close()
        self.unsynced.clear()

    def _say_findings(self) -> None:
        for finding in self.store.findings[self.said :]:
            self.log.error("%s", finding)
        self.said = len(self.store.findings)


def _payload(record: Any) -> Any:
    head = record.head
    if head.codec == "json":
        return DurableStore.unpack_json(record.payload)
    return record.payload if head.codec == "bytes" else decode_picture(record.payload, head.codec, head.dtype, head.shape)
