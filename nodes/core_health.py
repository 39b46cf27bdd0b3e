"""core.health: what happens in the run itself, as packets: nodes that start, stall and crash, edges that drop, disks that fill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

from streamcore import Port, Source, StreamPacket

LEVELS = ("info", "warning", "error")  # rising
NUMBER_BITS = 32  # of a position: the number of the event, and above it what stands for the run


class CoreHealth(Source):
    """Give every event of this run as a packet, from the first process on; the table of events is in operations.md.

    The payload is {"number", "ts", "monotonic_ns", "event", "severity", "node", "edge", "path", "detail", "value", "run", "lost"};
    `source_id` is the name of the run, the time of capture that of the event. `lost` says how many events before this one were forgotten,
    because they were too many while nobody took them. After a restart it goes on where it stopped, with the same packet ids.
    It does not keep a run up: it ends when all nodes that it does not feed are done, with the last that happened to them.
    """

    outputs = {"out": Port("health", "json", doc="one event")}
    config = {
        "level": {"allowed": list(LEVELS), "default": "info", "meta": {"doc": "only events of this severity or a higher one"}},
        "nodes": {
            "type": "list",
            "schema": {"type": "string"},
            "default": [],
            "meta": {"doc": "only events of these nodes, and of edges from or to them; empty: all, also of run and disks"},
        },
    }

    def setup(self) -> None:
        self.levels = LEVELS[LEVELS.index(self.config["level"]) :]
        self.nodes = frozenset(self.config["nodes"])
        # Ids are made of positions, and this run's are to be no other's: whoever remembers those of yesterday would drop today's.
        run = int.from_bytes(blake2b(self.run_id.encode(), digest_size=4).digest(), "big") >> 1
        self.base = run << NUMBER_BITS
        self.last = 0 if self.resume_position is None else self.resume_position - self.base
        self.lost = 0
        self.unseen = set(self.nodes) if self.last == 0 else set()

    def run(self) -> Iterator[StreamPacket]:
        return self._follow()

    def flush(self) -> Iterator[StreamPacket]:
        """The run was asked to end: what happens until it has."""
        return self._follow()

    def _follow(self) -> Iterator[StreamPacket]:
        while events := self.next_events(self.last):
            for event in events:
                self.last = event["number"]
                self.lost += event["lost"]
                self._look_for_unknown(event)
                if self._is_wanted(event):
                    lost, self.lost = self.lost, 0
                    yield self._packet(event, lost)

    def _is_wanted(self, event: dict[str, Any]) -> bool:
        if event["severity"] not in self.levels:
            return False
        return not self.nodes or not self.nodes.isdisjoint(_nodes_of(event))

    def _look_for_unknown(self, event: dict[str, Any]) -> None:
        """By the time that a run is up, each of its nodes has been named."""
        self.unseen.discard(event["node"])
        if event["event"] == "run_up" and self.unseen:
            self.log.warning("nodes: found %s, expected nodes of this run", ", ".join(sorted(self.unseen)))
            self.unseen.clear()

    def _packet(self, event: dict[str, Any], lost: int) -> StreamPacket:
        return StreamPacket.new(
            kind="health",
            source_id=event["run"],
            payload={**event, "lost": lost},
            position=self.base + event["number"],
            wall_ns=_wall_ns(event["ts"]),
            capture_ns=event["monotonic_ns"],
        )


def _wall_ns(ts: str) -> int:
    moment = datetime.strptime(ts, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return round(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _nodes_of(event: dict[str, Any]) -> list[str]:
    """The nodes that it is about: none, one, or the two of an edge."""
    if event["edge"]:
        return [end.rpartition(".")[0] for end in event["edge"].split("->")]
    return [event["node"]] if event["node"] else []
