"""vision.annotate: frames with their detections drawn on, joined by where both came from."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from streamcore import Node, PayloadError, Port, StreamPacket, array
from streamcore_nodes.stream_time import frame_number

Key = tuple[str, int]  # source id and frame number: what a frame and its detections share

COLORS = ((80, 220, 90), (60, 170, 255), (255, 160, 60), (210, 110, 255), (70, 230, 230), (255, 110, 140))
DARK, LIGHT = (30, 30, 30), (245, 245, 245)
SIDES = ("x", "y", "w", "h")
COORDINATE_MAX = 1 << 16
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Annotate(Node):
    """Draw the boxes of `detections` on a copy of the frames; the copy is made and drawn in a slot of the ring.

    A frame and its detections belong together if they have the same source_id and the same `frame` in their meta. Frames leave in the
    order they came. One waits until its detections, or those of a later frame of the same source, are here, but at most until
    `retention` frames wait; then it leaves with the latest boxes of its source.
    """

    inputs = {
        "frames": Port("frame", array("uint8", ndim=3), doc="BGR frames"),
        "detections": Port("detections", "json", doc='{"boxes": [{x, y, w, h, label, score}, ...]}'),
    }
    outputs = {"out": Port("frame", array("uint8", ndim=3), forwards=(), doc="annotated frames")}
    config = {
        "retention": {"type": "integer", "min": 1, "max": 256, "default": 8, "meta": {"doc": "most frames that wait for detections"}},
        "thickness": {"type": "integer", "min": 1, "max": 16, "default": 2, "meta": {"doc": "of a box's lines, pixels"}},
        "labels": {"type": "boolean", "default": True, "meta": {"doc": "write label and score at each box"}},
        "caption": {"type": "boolean", "default": True, "meta": {"doc": "write source, frame number and stream time into the corner"}},
    }
    retention = "retention"

    def setup(self) -> None:
        self.frames: OrderedDict[Key, StreamPacket] = OrderedDict()
        self.detections: OrderedDict[Key, StreamPacket] = OrderedDict()  # came before their frame
        self.latest: dict[str, list[dict[str, Any]]] = {}

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        key = packet.source_id, frame_number(packet)
        if packet.in_port == "frames":
            self.frames[key] = packet
        else:
            boxes_of(packet)  # a broken one fails now, not with a frame
            self.detections[key] = packet
            if len(self.detections) > self.config["retention"]:
                self._forget_oldest_detections()
        yield from self._release()

    def flush(self) -> Iterator[StreamPacket]:
        while self.frames:
            yield self._pop_oldest()

    def _forget_oldest_detections(self) -> None:
        (source_id, _), packet = self.detections.popitem(last=False)
        self.latest[source_id] = boxes_of(packet)

    def _release(self) -> Iterator[StreamPacket]:
        """Frames leave from the front while the front one has its detections, is overtaken by later ones, or too many wait."""
        while self.frames:
            source_id, number = next(iter(self.frames))
            here = any(source == source_id and at >= number for source, at in self.detections)
            if not here and len(self.frames) <= self.config["retention"]:
                return
            yield self._pop_oldest()

    def _pop_oldest(self) -> StreamPacket:
        key, packet = self.frames.popitem(last=False)
        found = self.detections.pop(key, None)
        if found is not None:
            self.latest[key[0]] = boxes_of(found)
        for passed in [other for other in self.detections if other[0] == key[0] and other[1] < key[1]]:
            del self.detections[passed]  # their frames were dropped on the way
        return self._draw(packet, key, self.latest.get(key[0], []))

    def _draw(self, packet: StreamPacket, key: Key, boxes: list[dict[str, Any]]) -> StreamPacket:
        frame = packet.payload
        out = self.loan("out", (*frame.shape[:2], 3))
        if frame.shape[2] == 3:
            np.copyto(out, frame)
        else:
            np.copyto(out, cv2.cvtColor(frame, {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}[frame.shape[2]]))
        for box in boxes:
            draw_box(out, box, self.config["thickness"], self.config["labels"])
        if self.config["caption"]:
            pts_ms = (packet.meta or {}).get("pts_ms")
            moment = f"  {pts_ms / 1e3:.2f} s" if isinstance(pts_ms, (int, float)) else ""
            write(out, f"{key[0]}  #{key[1]}{moment}  {len(boxes)} boxes", (8, out.shape[0] - 10), LIGHT, DARK)
        return packet.derive(payload=out)


def boxes_of(packet: StreamPacket) -> list[dict[str, Any]]:
    """The boxes of a detections payload. Raises PayloadError if it has none of the agreed shape."""
    payload = packet.payload
    boxes = payload.get("boxes") if isinstance(payload, dict) else None
    if not isinstance(boxes, list) or not all(isinstance(box, dict) and all(_in_bounds(box.get(side)) for side in SIDES) for box in boxes):
        raise PayloadError(f'detections of {packet.source_id}: expected {{"boxes": [{{x, y, w, h, ...}}, ...]}} with numbers in pixels')
    return boxes


def _in_bounds(pixels: Any) -> bool:
    """OpenCV takes 32-bit coordinates and draws for ever near their end."""
    return isinstance(pixels, (int, float)) and abs(pixels) < COORDINATE_MAX


def draw_box(image: np.ndarray, box: dict[str, Any], thickness: int, labels: bool) -> None:
    x, y, w, h = (round(box[side]) for side in SIDES)
    label = str(box.get("label", ""))
    color = COLORS[zlib.crc32(label.encode()) % len(COLORS)]
    cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), color, thickness, cv2.LINE_AA)
    if labels and label:
        score = box.get("score")
        text = f"{label} {score:.2f}" if isinstance(score, (int, float)) else label
        write(image, text, (x + 3, max(y - 5, 14)), DARK, color)


def write(image: np.ndarray, text: str, at: tuple[int, int], color: tuple[int, ...], ground: tuple[int, ...]) -> None:
    """One line of text on a filled strip; `at` is its lower left corner."""
    size = max(0.4, image.shape[0] / 1600)
    (width, height), below = cv2.getTextSize(text, FONT, size, 1)
    cv2.rectangle(image, (at[0] - 3, at[1] - height - 4), (at[0] + width + 3, at[1] + below), ground, cv2.FILLED)
    cv2.putText(image, text, at, FONT, size, color, 1, cv2.LINE_AA)
