"""events.build: detections become events: one per thing and place, with an id that a repeat gets again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from streamcore import Node, PayloadError, Port, StreamPacket
from streamcore_nodes.stream_time import frame_number, stream_time_s

REMEMBERED_MAX = 65_536  # places in cool-down; past that the longest quiet ones are forgotten
ID_BYTES = 16
SIDES = ("x", "y", "w", "h")

Place = tuple[str, str, int, int]  # source id, label, column and row of the cell


def score_of(box: dict[str, Any]) -> float:
    """A detector that gives no score is sure."""
    score = box.get("score")
    return float(score) if isinstance(score, (int, float)) else 1.0


class Build(Node):
    """Emit an event for every detected box that is not in cool-down.

    The frame is divided into `cells` x `cells` places; a box belongs to the one that holds its centre. After an event, the same source,
    label and place stay quiet for `cooldown_s` of stream time (`pts_ms` of meta, else capture time). The event id is a hash of source,
    label, frame number and place, so a packet that is processed again makes the same events; `idempotency_key` says the same in words.

    An event: {"event_id", "idempotency_key", "event", "ts", "source_id", "frame", "pts_ms", "label", "score", "zone": [column, row],
    "box": {x, y, w, h}, "size": [w, h]}.
    """

    inputs = {"in": Port("detections", "json", doc='{"frame", "size": [w, h], "boxes": [{x, y, w, h, score, label}, ...]}')}
    outputs = {"out": Port("event", "json", doc="one packet per event")}
    config = {
        "event": {"type": "string", "empty": False, "default": "motion", "meta": {"doc": "what the events are called"}},
        "labels": {"type": "list", "schema": {"type": "string"}, "default": [], "meta": {"doc": "only these labels; none named: all"}},
        "min_score": {"type": "number", "min": 0, "max": 1, "default": 0, "meta": {"doc": "boxes with less make no event"}},
        "cooldown_s": {"type": "number", "min": 0, "max": 86400, "default": 2, "meta": {"doc": "quiet time per source, label and place"}},
        "cells": {"type": "integer", "min": 1, "max": 64, "default": 8, "meta": {"doc": "columns and rows of places"}},
    }

    def setup(self) -> None:
        self.last_s: OrderedDict[Place, float] = OrderedDict()

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        now_s, number = stream_time_s(packet), frame_number(packet)
        size, boxes = self._checked(packet)
        chosen: dict[Place, dict[str, Any]] = {}  # the best box of each place in this frame
        for box in boxes:
            place = self._place(packet.source_id, box, size)
            if self._wanted(box) and (place not in chosen or score_of(box) > score_of(chosen[place])):
                chosen[place] = box
        meta = {key: value for key, value in (packet.meta or {}).items() if key in ("frame", "pts_ms")}
        for place, box in chosen.items():
            if not self._cooling(place, now_s):
                yield packet.derive(payload=self._event(packet, number, place, box, size), meta=meta)

    def _checked(self, packet: StreamPacket) -> tuple[list[int], list[dict[str, Any]]]:
        payload = packet.payload
        try:
            size, boxes = payload["size"], payload["boxes"]
            numbers = [*size, *(box[side] for box in boxes for side in SIDES)]
            ok = len(size) == 2 and min(size) > 0 and all(isinstance(number, (int, float)) for number in numbers)
        except (TypeError, KeyError, ValueError):
            ok = False
        if not ok:
            raise PayloadError(f'detections of {packet.source_id}: expected {{"size": [w, h], "boxes": [{{x, y, w, h, ...}}, ...]}}')
        return size, boxes

    def _wanted(self, box: dict[str, Any]) -> bool:
        labels = self.config["labels"]
        return score_of(box) >= self.config["min_score"] and (not labels or box.get("label", "") in labels)

    def _place(self, source_id: str, box: dict[str, Any], size: list[int]) -> Place:
        cells = self.config["cells"]
        column = int((box["x"] + box["w"] / 2) * cells / size[0])
        row = int((box["y"] + box["h"] / 2) * cells / size[1])
        return source_id, str(box.get("label", "")), min(max(column, 0), cells - 1), min(max(row, 0), cells - 1)

    def _cooling(self, place: Place, now_s: float) -> bool:
        """Is this place quiet at `now_s`? If not, its quiet time begins. Time that runs backwards begins a new stream."""
        last_s = self.last_s.get(place)
        if last_s is not None and 0 <= now_s - last_s < self.config["cooldown_s"]:
            self.metrics.counter("suppressed").add()
            return True
        self.last_s[place] = now_s
        self.last_s.move_to_end(place)
        if len(self.last_s) > REMEMBERED_MAX:
            self.last_s.popitem(last=False)
        return False

    def _event(self, packet: StreamPacket, number: int, place: Place, box: dict[str, Any], size: list[int]) -> dict[str, Any]:
        source_id, label, column, row = place
        key = f"{source_id}/{label}/{number}/{column}-{row}"
        return {
            "event_id": blake2b(key.encode(), digest_size=ID_BYTES).hexdigest(),
            "idempotency_key": key,
            "event": self.config["event"],
            "ts": packet.ts,
            "source_id": source_id,
            "frame": number,
            "pts_ms": (packet.meta or {}).get("pts_ms"),
            "label": label,
            "score": box.get("score"),
            "zone": [column, row],
            "box": {side: box[side] for side in SIDES},
            "size": size,
        }
