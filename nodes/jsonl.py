"""file.jsonl: one JSON line per packet, complete lines only, each packet once."""

from __future__ import annotations

import json
import threading
from collections import deque
from pathlib import Path

from streamcore import Port, Sink, StreamPacket
from streamcore_nodes.line_file import LineFile, line_of

FIELDS = ["packet_id", "ts", "kind", "source_id", "payload", "meta"]
MORE_FIELDS = ["position", "sequence", "redelivered", "capture_ns", "in_port"]
IDS_REMEMBERED = 8192  # more than any window: a packet that is delivered again is looked up among so many


class JsonLines(Sink):
    """Append each packet as one JSON line: {"packet_id", "ts", "kind", "source_id", "payload", "meta"}, or the `fields` named.

    After a kill the file holds complete lines only: a line of up to 4 KiB is never torn (blanks at the end of some lines see to that); a
    longer one, or what a power cut tears, is cut off at the next start. A packet that is delivered again is written once: its id is
    looked for in the end of the file (this needs `packet_id` among the fields).
    `flush: line` writes each at once; `interval` gathers up to `interval_s` or `held` packets; `end` writes after `held` packets and at
    the end. Packets gathered are kept, not completed, until they are written: a kill loses none of them.
    """

    inputs = {"in": Port("any", "json")}
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "the file; its folder is made"}},
        "fields": {
            "type": "list",
            "minlength": 1,
            "allowed": FIELDS + MORE_FIELDS,
            "default": FIELDS,
            "meta": {"doc": "what a line holds, in this order"},
        },
        "flush": {"allowed": ["line", "interval", "end"], "default": "line", "meta": {"doc": "when lines are written"}},
        "interval_s": {"type": "number", "min": 0.01, "max": 3600, "default": 1, "meta": {"doc": "for flush: interval"}},
        "held": {"type": "integer", "min": 1, "max": 1000, "default": 32, "meta": {"doc": "most packets gathered, for interval and end"}},
        "fsync": {"type": "boolean", "default": False, "meta": {"doc": "wait for the disk after each write: survives a power cut"}},
    }
    retention = "held"

    def setup(self) -> None:
        self.file = LineFile(Path(self.config["path"]).expanduser())
        if self.file.cut_bytes:
            self.log.warning("%s: cut off a torn last line of %d bytes", self.file.path, self.file.cut_bytes)
        self.fields = self.config["fields"]
        self.written_ids: set[str] = set()
        self.id_order: deque[str] = deque()
        if "packet_id" in self.fields:
            self._recall()
        self.lock = threading.Lock()  # the timer of flush: interval writes too
        self.gathered: list[tuple[StreamPacket, bytes]] = []
        self.timer: threading.Timer | None = None

    def _recall(self) -> None:
        foreign = 0
        for line in self.file.last_lines():
            try:
                packet_id = json.loads(line)["packet_id"]
            except (ValueError, TypeError, KeyError):
                foreign += 1
                continue
            self._remember(str(packet_id))
        if foreign:
            self.log.warning("%s: %d of its last lines are not of this node; they are left as they are", self.file.path, foreign)

    def _remember(self, packet_id: str) -> None:
        self.written_ids.add(packet_id)
        self.id_order.append(packet_id)
        if len(self.id_order) > IDS_REMEMBERED:
            self.written_ids.discard(self.id_order.popleft())

    def process(self, packet: StreamPacket) -> None:
        if packet.redelivered and packet.packet_id in self.written_ids:
            return
        line = line_of({field: getattr(packet, field) for field in self.fields})
        with self.lock:
            self.gathered.append((packet, line))
            if self.config["flush"] == "line" or len(self.gathered) >= self.config["held"]:
                try:
                    self._write()
                except OSError:
                    self.gathered.pop()  # this packet fails; those before it are tried again
                    raise
            elif self.config["flush"] == "interval" and self.timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self.timer = threading.Timer(self.config["interval_s"], self._on_timer)
        self.timer.daemon = True
        self.timer.start()

    def _on_timer(self) -> None:
        with self.lock:
            self.timer = None
            try:
                self._write()
            except OSError as error:
                self.log.warning("%s: %d lines cannot be written yet: %s", self.file.path, len(self.gathered), error)
                self._start_timer()

    def _write(self) -> None:
        """Write what was gathered, then let go of it. The caller holds the lock."""
        if not self.gathered:
            return
        self.file.append(line for _, line in self.gathered)
        if self.config["fsync"]:
            self.file.sync()
        for packet, _ in self.gathered:
            self._remember(packet.packet_id)
        self.gathered.clear()

    def flush(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            self._write()

    def close(self) -> None:
        self.file.close()
