"""durable.replay: a recording once more, packet by packet as it was, so that a pipeline can be run again on yesterday's frames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import ConfigError, PayloadError, Port, Recording, Source, StreamPacket
from streamcore_nodes.stored_payload import decode_payload

SEQUENCE_BITS = 40  # of a position: the sequence in the recording, and above it the turn
TURNS_MAX = 1 << 23
SEQUENCES = (1 << SEQUENCE_BITS) - 1
NEW_TIME_BASE_NS = 10_000_000_000  # packets of several sources are not so much out of order: the clock is another one
META_KEY = "replay"
NAMES = {"type": "list", "schema": {"type": "string"}, "default": []}


class Replay(Source):
    """Give the packets of a recording again, in the order in which they were recorded, with the same payload, kind, source_id, meta and
    capture time.

    meta.replay has `sequence` (in the recording), `id` (the packet's own), `port` (where it came from), `position` and `turn` (from 0).
    With `pace: original` packets leave with the pauses between their capture times, divided by `speed`; with `none` as fast as they are
    taken. `from` and `to` are times of capture: `2026-11-25T14:00:00Z` or `yesterday 14:00` (in the box's zone unless it says otherwise),
    `1h30m` after the beginning of the recording, `-10m` before its end; `to` itself is not included. A recording that is being written is
    given as it is when a turn begins.
    Damaged records are left out, counted as `damaged` and logged. After a restart it goes on behind the last completed packet.
    """

    outputs = {"out": Port("any", "any", doc="as it was recorded")}
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "the folder of the recording"}},
        "pace": {"allowed": ["original", "none"], "default": "original", "meta": {"doc": "by capture times, or as fast as taken"}},
        "speed": {"type": "number", "min": 0.001, "max": 1e6, "default": 1, "meta": {"doc": "of pace original: 2 is twice as fast"}},
        "from": {"type": "string", "default": "", "meta": {"doc": "a time, 1h30m after the beginning or -10m before the end"}},
        "to": {"type": "string", "default": "", "meta": {"doc": "likewise"}},
        "kinds": {**NAMES, "meta": {"doc": "only packets of these kinds; empty: all"}},
        "sources": {**NAMES, "meta": {"doc": "only those with these source_ids"}},
        "ports": {**NAMES, "meta": {"doc": "only those that came from these ports, e.g. camera.out"}},
        "loop": {"type": "integer", "min": 0, "max": TURNS_MAX, "default": 1, "meta": {"doc": "how many times; 0: without end"}},
        "live_times": {"type": "boolean", "default": False, "meta": {"doc": "true: captured now, instead of when it was recorded"}},
    }

    def setup(self) -> None:
        self.path = Path(self.config["path"]).expanduser()
        self.damaged = self.metrics.counter("damaged")
        self.loaned: tuple[int, Any] = (0, None)  # the sequence of a record, and the slot into which its payload is read
        self._open()

    def _open(self) -> None:
        config = self.config
        self.recording = Recording(self.path)
        filters = {name: tuple(config[name]) for name in ("kinds", "sources", "ports")}
        try:
            self.selection = self.recording.select(config["from"], config["to"], **filters)
        except ConfigError as error:
            raise ConfigError(f"from, to: {error}") from None

    def run(self) -> Iterator[StreamPacket]:
        resume = self.resume_position
        first_turn, after = (0, 0) if resume is None else (resume >> SEQUENCE_BITS, resume & SEQUENCES)
        for turn in range(first_turn, self.config["loop"] or TURNS_MAX):
            if turn > first_turn:
                self._open()  # it may have grown
            given = 0
            for packet in self._turn(turn, after):
                given += 1
                yield packet
                del packet  # or this one's slot would still be ours while the next one is loaned
            if self.recording.gone:
                self.log.warning("%s: %d records were deleted before they could be given", self.path, self.recording.gone)
            if self.stopping:
                return
            if not given and not after:
                self.log.warning("%s: nothing in it is selected", self.path)
                return
            after = 0

    def _turn(self, turn: int, after: int) -> Iterator[StreamPacket]:
        pacer = Pacer(time.monotonic_ns(), self.config["speed"]) if self.config["pace"] == "original" else None
        for record in self.recording.read(self.selection, after, self._room, self._on_damage):
            if self.stopping:
                return
            (sequence, loan), self.loaned = self.loaned, (0, None)
            try:
                payload = loan if sequence == record.sequence else decode_payload(record)
            except (PayloadError, ValueError) as error:
                self._on_damage(1, f"record {record.sequence}: {error}")
                continue
            due_ns = pacer.due_ns(record.wall_ns, record.stored_ns, self.recording.run_of(record.sequence)) if pacer is not None else None
            if due_ns is not None and not self.wait_until(due_ns):
                return
            yield self._packet(record, payload, turn, due_ns)
            del payload, loan

    def _room(self, record: Any, nbytes: int) -> memoryview | None:
        """A slot for the pixels of a raw array, so that they are read from the disk to where they are needed."""
        head = record.head
        self.loaned = (0, None)  # that of a damaged record, perhaps
        try:
            fits = head.codec == "raw" and np.dtype(head.dtype).itemsize * prod(head.shape) == nbytes
        except TypeError:  # the head is damaged, which is found when the record is read
            return None
        if not fits:
            return None
        loan = self.loan("out", head.shape, head.dtype)
        self.loaned = (record.sequence, loan)
        return memoryview(loan).cast("B")

    def _packet(self, record: Any, payload: Any, turn: int, due_ns: int | None) -> StreamPacket:
        head = record.head
        told = {"sequence": record.sequence, "id": record.id16.hex(), "port": head.key, "position": head.position, "turn": turn}
        return StreamPacket.new(
            kind=head.kind,
            source_id=head.source_id,
            payload=payload,
            meta={**(head.meta or {}), META_KEY: told},
            position=turn << SEQUENCE_BITS | record.sequence,
            wall_ns=None if self.config["live_times"] else record.wall_ns,
            capture_ns=due_ns,
        )

    def _on_damage(self, count: int, text: str) -> None:
        self.damaged.add(count)
        self.log.error("%s: left out %d damaged: %s", self.path, count, text)


class Pacer:
    """When packets are due, on the monotonic clock: as far apart as their captures were, in the order in which they were stored.

    Times are counted from an anchor, so that nothing adds up. Where another run begins, the recorder's clock was set back or packets of an
    older time base begin (a replay was recorded), a new anchor is taken, as far from the last packet as the two were stored.
    """

    def __init__(self, start_ns: int, speed: float):
        self.speed = speed
        self.due = self.anchor_due = start_ns
        self.anchor_wall = self.newest_wall = self.stored = 0
        self.run: str | None = None

    def due_ns(self, wall_ns: int, stored_ns: int, run: str) -> int:
        if run != self.run or wall_ns < self.newest_wall - NEW_TIME_BASE_NS:
            pause_ns = 0 if self.run is None else max(0, stored_ns - self.stored)
            self.anchor_wall = self.newest_wall = wall_ns
            self.anchor_due = self.due + round(pause_ns / self.speed)
        self.run, self.stored, self.newest_wall = run, stored_ns, max(wall_ns, self.newest_wall)
        self.due = max(self.due, self.anchor_due + round((wall_ns - self.anchor_wall) / self.speed))
        return self.due
