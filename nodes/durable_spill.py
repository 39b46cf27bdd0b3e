"""durable.spill: what the policy `spill` puts into an edge. Packets that find no room wait on the disk, and nothing overtakes them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from streamcore import DurableStore, Node, PayloadError, Port, StreamPacket
from streamcore_nodes.picture_codec import CODECS
from streamcore_nodes.store_metrics import StoreMetrics
from streamcore_nodes.stored_payload import decode_payload, encode_payload

BATCH_MAX = 32  # inputs of one call; all of them have to be among those that a consumer knows again
CHUNK_BYTES = 16 << 20  # encoded at once, for one commit
READY_MAX = 64  # records read ahead of what the output takes
READY_BYTES = 16 << 20
ANSWERS_NS = 20_000_000  # completions of stored packets are gathered for so long before they are written
# ... and for so many packets at most. A consumer knows again at least its last 64 packets, and those of two windows if that is more; within
# that it drops what comes a second time because a kill took our answers. SYNC: node/inlet.Inlet._ids
ANSWERS_PACKETS = 32
FULL_RETRY_NS = 1_000_000_000  # a full disk says nothing when there is room again
IDS_MAX = 100_000  # of packets that were stored and may come again from a source that was restarted ...
BYTES_PER_ID = 1024  # ... but no more than this allows of max_bytes: they lie in the same file
FOREVER_S = 1e9


class DurableSpill(Node):
    """Give each packet to the consumer at once; store it if there is no room, and deliver what is stored in order before anything newer.

    While nothing is stored, packets are forwarded without a copy and the disk is not touched. They keep their packet id. What is stored
    when the run ends is delivered by the next run. Metrics: `spilled`, packets that were stored in this run, and those of any queue.
    """

    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any", forwards=("in",))}
    batch_max = "batch"  # none is taken while one of the last is held, so that nothing is retained beyond them
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "a folder of its own; made if need be"}},
        "max_bytes": {"type": "size", "min": 4 << 20, "default": 1 << 30, "meta": {"doc": "most room of its file"}},
        "full": {
            "allowed": ["block", "drop_new"],
            "default": "block",
            "meta": {"doc": "when there is no room on the disk either: keep inputs waiting, as an edge of policy block; drop them"},
        },
        "codec": {"allowed": list(CODECS), "default": "raw", "meta": {"doc": "how arrays are stored"}},
        "quality": {"type": "integer", "min": 1, "max": 100, "default": 90, "meta": {"doc": "of codec jpeg"}},
        "batch": {"type": "integer", "min": 2, "max": BATCH_MAX, "default": 16, "meta": {"doc": "most inputs of one commit"}},
        "wait_s": {
            "type": "number",
            "min": 0,
            "max": 60,
            "default": 0.05,
            "meta": {"doc": "an edge that has been full for so long begins to spill; what lasts less is waited for"},
        },
    }

    def setup(self) -> None:
        config = self.config
        options = DurableStore.Options(
            max_bytes=config["max_bytes"],
            full=config["full"],
            dedup_window_s=FOREVER_S,
            dedup_max=min(IDS_MAX, config["max_bytes"] // BYTES_PER_ID),
        )
        self.store = DurableStore(Path(config["path"]).expanduser(), options, step=lambda read, of: self.still_starting())
        self.said = 0
        self.wait_ns = round(config["wait_s"] * 1e9)
        self.held: deque[StreamPacket] = deque()  # taken, neither passed on nor stored
        self.chunk: list[Any] = []  # entries of the first of them
        self.full_since_ns: int | None = None  # since when the consumer has not had room for all that came
        self.retry_ns = 0  # when to try the disk again
        self.ready: deque[Any] = deque()
        self.passing: set[bytes] = set()  # ids that were passed on and are not completed
        self.sent: dict[bytes, list[int]] = {}  # packet id to the records that were emitted with it and are not completed
        self.unasked: set[bytes] | None = None  # completed, of what a predecessor emitted, while its records were not read yet
        self.answers = self.answered_ns = self.emitted = self.emitted_then = 0
        self.spells = 0
        self.spilled = self.metrics.counter("spilled")
        self.published = StoreMetrics(self.metrics, self.store)
        self._look()
        if self.backlog:
            self.unasked = set()
            self.log.info("%d packets wait in %s", self.store.waiting, self.store.path)
        self._plan_next()

    # --- in

    def process_batch(self, packets: list[StreamPacket]) -> Iterator[StreamPacket]:
        """What is passed on is emitted before anything behind it is stored: else a kill between the two would turn them round."""
        packets[:] = [packet for packet in packets if not self._is_repeat(packet)]
        while packets and not self.held and not self.backlog and self.has_room("out"):
            yield self._passed(packets.pop(0))
        if not packets:
            self.full_since_ns = None
            return
        if self.full_since_ns is None:
            self.full_since_ns = time.monotonic_ns()
        self.held.extend(packets)
        packets.clear()
        self._store_held()
        self._plan_next()

    def _is_repeat(self, packet: StreamPacket) -> bool:
        """A source that was restarted begins again at the oldest packet that is not completed, however many have gone by since."""
        return packet.id16 in self.passing or (packet.redelivered and self.store.knows(self._key(packet)))

    def _key(self, packet: StreamPacket) -> bytes:
        """What a packet is stored once by: its id in this run. Another run may give it to a packet that has to be delivered as well."""
        return blake2b(packet.id16 + self.run_id.encode(), digest_size=16).digest()

    def _passed(self, packet: StreamPacket) -> StreamPacket:
        """The packet itself, by its own id: with one of ours it would not be known again when it comes by way of the disk."""
        self._before_emitting()
        self.passing.add(packet.id16)
        return StreamPacket(
            packet.kind,
            packet.source_id,
            packet.payload,
            packet.meta,
            packet.id16,
            packet.wall_ns,
            packet.capture_ns,
            redelivered=packet.redelivered,
            trace=packet.trace,
            lease=packet.lease,
        )

    def _store_held(self) -> None:
        """Append what is held, a chunk at a time, once it has waited long enough; while some finds no room no input is taken.

        Behind a backlog there is nothing to wait for; for a consumer that is gone nothing is stored.
        """
        now_ns = time.monotonic_ns()
        due = self.backlog or self.stopping or now_ns - (self.full_since_ns or 0) >= self.wait_ns
        if not self.held or not due or now_ns < self.retry_ns or not self.has_consumer("out"):
            return
        while self.held and self._fill_chunk():
            counters = self.store.counters
            before = counters.appended
            stored = self.store.append(self.chunk)
            self.answers = 0
            self.spilled.add(self.store.counters.appended - before)
            for _ in range(stored):
                self.held.popleft()
            del self.chunk[:stored]
            if self.chunk:
                break
        self.retry_ns = now_ns + FULL_RETRY_NS if self.held else 0
        began = not self.backlog
        self._look()
        if began and self.backlog:
            self.spells += 1
            if self.spells & (self.spells - 1) == 0:
                self.log.info("no room at the consumer: packets go to %s (for the %d. time)", self.store.path, self.spells)

    def _fill_chunk(self) -> bool:
        """False if there is nothing that can be stored: a packet that cannot be waits for room at the consumer."""
        nbytes = sum(len(entry.payload) for entry in self.chunk)
        for packet in list(self.held)[len(self.chunk) :]:
            if nbytes > CHUNK_BYTES:
                break
            try:
                entry = self._entry(packet)
                self.store.refuse_too_large(entry)
            except PayloadError as error:
                self.log.debug("packet %s cannot be stored: %s", packet.packet_id, error)
                break
            self.chunk.append(entry)
            nbytes += len(entry.payload)
        return bool(self.chunk)

    def _entry(self, packet: StreamPacket) -> Any:
        told = {
            "meta": packet.meta,
            "id": packet.packet_id,
            "run": self.run_id,
            "capture_ns": packet.capture_ns,
            "redelivered": packet.redelivered,
        }
        head = DurableStore.Head(packet.kind, packet.source_id, meta=told)
        raw = encode_payload(packet.payload, head, self.config["codec"], self.config["quality"])
        return DurableStore.Entry(self._key(packet), packet.wall_ns, head, raw)

    # --- out

    def pull(self) -> StreamPacket | None:
        self._write_answers()
        packet = None
        if self.backlog and self.has_consumer("out"):
            packet = self._next_stored()
        if packet is None and self.held and not (self.backlog and self.has_consumer("out")):
            del self.chunk[:1]
            packet = self._passed(self.held.popleft())
        self._store_held()
        self._plan_next()
        return packet

    def blocked(self) -> None:
        self._write_answers()
        self._store_held()
        self._plan_next()

    def _next_stored(self) -> StreamPacket | None:
        """The next of the backlog. What a predecessor emitted and the consumer has completed since is acknowledged instead."""
        while True:
            if not self.ready:
                self.ready.extend(self.store.deliver(READY_MAX, READY_BYTES))
                self._look()
            if not self.ready:
                return None
            delivery = self.ready.popleft()
            record = delivery.record
            told = record.head.meta
            id16 = bytes.fromhex(told["id"])
            if self.unasked is not None and id16 in self.unasked:
                self._answer(record.sequence)
                continue
            self._before_emitting()
            self.sent.setdefault(id16, []).append(record.sequence)
            self._look()
            return StreamPacket(
                record.head.kind,
                record.head.source_id,
                decode_payload(record),
                told["meta"],
                id16,
                record.wall_ns,
                told["capture_ns"] if told["run"] == self.run_id else time.monotonic_ns(),
                redelivered=delivery.redelivered or told["redelivered"],
            )

    def on_completed(self, packet: StreamPacket, outcome: str) -> None:
        self.passing.discard(packet.id16)
        sequences = self.sent.pop(packet.id16, None)
        if sequences is None:
            if self.unasked is not None:
                self.unasked.add(packet.id16)
        elif outcome == "ok" or self.has_consumer("out"):  # what a consumer that is gone has not done waits for the next run
            for sequence in sequences:
                self._answer(sequence)

    def _answer(self, sequence: int) -> None:
        if not self.answers:
            self.answered_ns, self.emitted_then = time.monotonic_ns(), self.emitted
        self.store.ack(sequence)
        self.answers += 1

    def _before_emitting(self) -> None:
        if self.answers and self.emitted - self.emitted_then >= ANSWERS_PACKETS:
            self._commit()
        self.emitted += 1

    def _write_answers(self) -> None:
        if self.answers and time.monotonic_ns() - self.answered_ns >= ANSWERS_NS:
            self._commit()

    def _commit(self) -> None:
        self.store.commit()
        self.answers = self.retry_ns = 0  # there may be room again
        self._look()

    # --- where it stands

    def _look(self) -> None:
        """`backlog`: something is stored that was not emitted yet."""
        waiting = self.store.waiting
        self.backlog = bool(self.ready) or waiting > self.store.in_flight
        if not self.backlog:
            self.unasked = None
        self.published.publish()
        for finding in self.store.findings[self.said :]:
            self.log.error("%s", finding)
        self.said = len(self.store.findings)

    def _plan_next(self) -> None:
        self.taking = not self.held
        times = [self.answered_ns + ANSWERS_NS] if self.answers else []
        if self.held:
            times.append(self.retry_ns or (self.full_since_ns or 0) + self.wait_ns)
        self.pull_at_ns = min(times, default=None)

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """The stream ends when everything is delivered; what a stop leaves on the disk is delivered by the next run."""
        return bool(self.held or (self.backlog and not self.stopping and self.has_consumer("out")))

    def flush(self) -> None:
        self._commit()

    def close(self) -> None:
        self._commit()
        self.store.close()
