"""durable.record: what passes by, kept on the disk in segments of which the oldest are deleted; durable.replay plays it again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import PayloadError, Port, Recorder, Sink, StreamPacket
from streamcore_nodes.picture_codec import CODECS
from streamcore_nodes.stored_payload import encode_payload

FULL_RETRY_NS = 200_000_000  # a full disk says nothing when there is room again


class Record(Sink):
    """Record every packet of all edges into this node: payload, kind, source, capture time, id, meta, position, and the port it came from.

    An input is completed once it is on the disk: what waits is written and synced at once. PATH is a folder of segments; a segment is
    closed at `segment_bytes` or `segment_s`, and the oldest are deleted at `max_bytes` and `max_age_s`. After a kill or a power cut it goes
    on behind the last whole record; a packet that is delivered again is recorded once. A later run goes on in the same folder.
    `streamctl recording` looks at it, also while it is written, and exports it.
    """

    inputs = {"in": Port("any", "any", transport="durable", doc="any number of edges")}
    batch_max = "batch"
    retention = "batch"
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "a folder of its own; made if need be"}},
        "codec": {"allowed": list(CODECS), "default": "raw", "meta": {"doc": "how arrays are stored; raw and png are exact"}},
        "quality": {"type": "integer", "min": 1, "max": 100, "default": 90, "meta": {"doc": "of codec jpeg"}},
        "segment_bytes": {"type": "size", "min": 65536, "default": 64 << 20, "meta": {"doc": "size of a segment; what is deleted at once"}},
        "segment_s": {"type": "number", "min": 1, "max": 1e9, "default": 600, "meta": {"doc": "and how much time it may span"}},
        "max_bytes": {"type": "size", "min": 131072, "default": 10 << 30, "meta": {"doc": "most room of all segments"}},
        "max_age_s": {"type": "number", "min": 0, "max": 1e9, "default": 0, "meta": {"doc": "older segments are deleted; 0: none is"}},
        "full": {
            "allowed": ["block", "drop_oldest", "drop_new"],
            "default": "drop_oldest",
            "meta": {"doc": "at max_bytes, or on a full disk: keep inputs waiting; delete the oldest segment; drop inputs"},
        },
        "batch": {"type": "integer", "min": 2, "max": 1024, "default": 32, "meta": {"doc": "most inputs of one write"}},
    }

    def setup(self) -> None:
        names = ("segment_bytes", "segment_s", "max_bytes", "max_age_s", "full")
        options = Recorder.Options(**{name: self.config[name] for name in names})
        self.recorder = Recorder(Path(self.config["path"]).expanduser(), options, run=self.run_id)
        for finding in self.recorder.findings:
            self.log.warning("%s: %s", self.recorder.path, finding)
        self.untaken: list[tuple[StreamPacket, Any]] = []  # for want of room; their packets are not completed
        self.counters = {name: self.metrics.counter(name) for name in ("recorded", "repeats", "refused", "dropped", "deleted")}
        self.bytes_gauge = self.metrics.gauge("recording_bytes")
        self.bytes_gauge.set(self.recorder.nbytes)
        self.told: dict[str, int] = {}

    def process_batch(self, packets: list[StreamPacket]) -> None:
        entries = []
        for packet in packets:
            if self.recorder.knows(packet.id16):
                self.counters["repeats"].add()
                continue
            try:
                entries.append((packet, self._entry(packet)))
            except PayloadError as error:
                self.counters["refused"].add()
                self.fail(packet, error)
        packets.clear()
        self._record(entries)

    def _entry(self, packet: StreamPacket) -> Any:
        head = Recorder.Head(packet.kind, packet.source_id, "json", packet.from_port, packet.meta, packet.position)
        payload, codec = packet.payload, self.config["codec"]
        raw: Any
        if codec == "raw" and isinstance(payload, np.ndarray) and payload.flags.c_contiguous and payload.size:
            head.codec, head.dtype, head.shape = codec, str(payload.dtype), payload.shape
            raw = memoryview(payload).cast("B")  # written where it lies
        else:
            raw = encode_payload(payload, head, codec, self.config["quality"])
        entry = Recorder.Entry(packet.id16, packet.wall_ns, head, raw)
        self.recorder.refuse_too_large(entry)
        return entry

    def _record(self, entries: list[tuple[StreamPacket, Any]]) -> None:
        """What finds no room is kept, and no input is taken until it has found some."""
        recorder, first = self.recorder, self.recorder.next_sequence
        stored = recorder.append([entry for _, entry in entries])
        self.counters["recorded"].add(recorder.next_sequence - first)
        self.untaken = entries[stored:]
        if self.taking and self.untaken:
            self.log.warning("full (%s): inputs wait", recorder.full)
        self.taking = not self.untaken
        self._plan()

    def pull(self) -> StreamPacket | None:
        """Gives nothing: called for what is to be done by time."""
        if self.pull_at_ns is not None and time.monotonic_ns() >= self.pull_at_ns:
            if self.untaken:
                self._record(self.untaken)
            else:
                self.recorder.tend()
                self._plan()
        return None

    def _plan(self) -> None:
        for name, count in (("dropped", self.recorder.dropped), ("deleted", self.recorder.deleted)):
            self.counters[name].add(count - self.told.get(name, 0))  # the recorder counts anew in each process, a metric goes on
            self.told[name] = count
        self.bytes_gauge.set(self.recorder.nbytes)
        due_s = self.recorder.due_s
        due_ns = FULL_RETRY_NS if self.untaken else None if due_s is None else max(1_000_000_000, round(due_s * 1e9))
        self.pull_at_ns = None if due_ns is None else time.monotonic_ns() + due_ns

    @property
    def pending(self) -> bool:  # type: ignore[override]
        return bool(self.untaken)

    def close(self) -> None:
        self.recorder.close()
