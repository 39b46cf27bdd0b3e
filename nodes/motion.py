"""vision.motion: what moves, by background subtraction (Gaussian mixtures, MOG2) on a reduced picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from streamcore import Node, PayloadError, Port, StreamPacket, array
from streamcore_nodes.stream_time import frame_number, with_frame

FOREGROUND = 255  # in MOG2's mask; 127 is shadow
SHADOW_LIGHT = 0.75  # what keeps at least this share of the background's light may be a shadow
CLOSE_PIXELS = 5  # reduced pixels that a gap inside one object may have


class Motion(Node):
    """Find moving things; emit their boxes as JSON on `detections`, then pass the frame on by `frames` without a copy.

    One detections packet per frame: {"frame": n, "size": [w, h], "boxes": [{x, y, w, h, area, score, label: "motion"}, ...]}, in pixels of
    the frame, largest area first. `score` is the share of its box that moves, 0 to 1. The first `warmup` frames, in which the
    background is learned, have no boxes. Frames of one source must keep their size; the background starts anew when it changes.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3), doc="BGR or grey frames")}
    outputs = {
        "detections": Port("detections", "json", doc="one per frame"),
        "frames": Port("frame", array("uint8", ndim=3), doc="the input frames, forwarded"),
    }
    config = {
        "min_area": {"type": "integer", "min": 1, "default": 600, "meta": {"doc": "least moving pixels of a box, in pixels of the frame"}},
        "history": {"type": "integer", "min": 2, "max": 100000, "default": 300, "meta": {"doc": "frames that the background remembers"}},
        "threshold": {"type": "number", "min": 1, "max": 1000, "default": 16, "meta": {"doc": "squared distance from the background"}},
        "ignore_shadows": {"type": "boolean", "default": False, "meta": {"doc": "darker ground is not motion; may lose dark things"}},
        "downscale": {"type": "integer", "min": 1, "max": 16, "default": 4, "meta": {"doc": "look at every n-th pixel's mean: speed"}},
        "warmup": {"type": "integer", "min": 0, "default": 30, "meta": {"doc": "frames that teach the background first, without boxes"}},
        "boxes_max": {"type": "integer", "min": 1, "max": 64, "default": 32, "meta": {"doc": "most boxes per frame, the largest"}},
    }

    def setup(self) -> None:
        self.backgrounds: dict[str, tuple[tuple[int, ...], Any]] = {}
        self.seen: dict[str, int] = {}
        self.kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSE_PIXELS, CLOSE_PIXELS))

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        frame = packet.payload
        if frame.shape[2] not in (1, 3):
            raise PayloadError(f"{self.id}: found a frame of {frame.shape[2]} channels, expected 1 or 3")
        boxes = self.boxes(packet.source_id, frame)
        meta = with_frame(packet)
        found = {"frame": frame_number(packet), "size": [frame.shape[1], frame.shape[0]], "boxes": boxes}
        yield packet.derive(payload=found, port="detections", meta=meta)
        yield packet.derive(payload=frame, port="frames", meta=meta)

    def boxes(self, source_id: str, frame: np.ndarray) -> list[dict[str, Any]]:
        """Take one more frame of a source into account; return what moves in it."""
        step = self.config["downscale"]
        small = cv2.resize(frame, (max(1, frame.shape[1] // step), max(1, frame.shape[0] // step)), interpolation=cv2.INTER_AREA)
        background = self._background(source_id, frame.shape)
        self.seen[source_id] += 1
        if self.seen[source_id] <= self.config["warmup"]:
            background.apply(small)
            return []
        # OpenCV's own rate is higher while frames are few: what is large and of one colour would become background while it passes.
        mask = background.apply(small, learningRate=1 / self.config["history"])
        mask = cv2.threshold(mask, FOREGROUND - 1, FOREGROUND, cv2.THRESH_BINARY)[1]
        mask = cv2.medianBlur(mask, 3)  # single pixels are noise
        whole = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self.kernel)
        return self._measure(mask, whole, frame.shape[1] / small.shape[1], frame.shape[0] / small.shape[0])

    def _background(self, source_id: str, shape: tuple[int, ...]) -> Any:
        known, subtractor = self.backgrounds.get(source_id, ((), None))
        if known != shape:
            shadows = self.config["ignore_shadows"]
            subtractor = cv2.createBackgroundSubtractorMOG2(self.config["history"], float(self.config["threshold"]), shadows)
            subtractor.setShadowThreshold(SHADOW_LIGHT)
            self.backgrounds[source_id] = (shape, subtractor)
            self.seen[source_id] = 0
        return subtractor

    def _measure(self, mask: np.ndarray, whole: np.ndarray, step_x: float, step_y: float) -> list[dict[str, Any]]:
        """Boxes around the connected parts of `whole`, their areas counted in `mask`."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(whole, connectivity=8)
        moving = np.bincount(labels.reshape(-1), weights=mask.reshape(-1) > 0, minlength=count)
        found = []
        for left, top, width, height, _, inside in zip(*stats.T, moving, strict=True):
            area = round(inside * step_x * step_y)
            found.append((area, round(left * step_x), round(top * step_y), round(width * step_x), round(height * step_y)))
        found = sorted((box for box in found[1:] if box[0] >= self.config["min_area"]), reverse=True)  # the first is the background
        return [
            {"x": x, "y": y, "w": w, "h": h, "area": area, "score": round(min(1.0, area / (w * h)), 3), "label": "motion"}
            for area, x, y, w, h in found[: self.config["boxes_max"]]
        ]
