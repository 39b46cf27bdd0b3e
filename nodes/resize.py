"""vision.resize: frames in another size, written straight into the ring."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from streamcore import ConfigError, Node, Port, StreamPacket, array

INTERPOLATIONS = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
    "lanczos": cv2.INTER_LANCZOS4,
}


class Resize(Node):
    """Scale frames to `width` x `height`, or by `scale`. With only one of width and height, the other follows from the frame's shape.

    A frame that has the size already passes on by reference. meta is kept.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3))}
    outputs = {"out": Port("frame", array("uint8", ndim=3))}
    config = {
        "width": {"type": "integer", "min": 1, "max": 16384, "excludes": "scale", "meta": {"doc": "pixels"}},
        "height": {"type": "integer", "min": 1, "max": 16384, "excludes": "scale", "meta": {"doc": "pixels"}},
        "scale": {"type": "number", "min": 0.01, "max": 16, "meta": {"doc": "factor, in place of width and height"}},
        "interpolation": {
            "allowed": [*INTERPOLATIONS],
            "default": "area",
            "meta": {"doc": "area is best for smaller, cubic or lanczos for larger"},
        },
    }

    def setup(self) -> None:
        if not any(key in self.config for key in ("width", "height", "scale")):
            raise ConfigError("vision.resize: found none of width, height and scale, expected at least one")
        self.interpolation = INTERPOLATIONS[self.config["interpolation"]]

    def process(self, packet: StreamPacket) -> StreamPacket:
        frame = packet.payload
        width, height = self.target(frame.shape[1], frame.shape[0])
        if (width, height) == (frame.shape[1], frame.shape[0]):
            return packet.derive(payload=frame)
        out = self.loan("out", (height, width, frame.shape[2]), frame.dtype)
        made = cv2.resize(frame, (width, height), dst=out, interpolation=self.interpolation)
        if made is not out:  # OpenCV drops the last axis of one-channel pictures
            np.copyto(out, made.reshape(out.shape))
        return packet.derive(payload=out)

    def target(self, width: int, height: int) -> tuple[int, int]:
        """The size that a frame of width x height gets."""
        config: dict[str, Any] = self.config
        if "scale" in config:
            return max(1, round(width * config["scale"])), max(1, round(height * config["scale"]))
        wanted_width: Any = config.get("width")
        wanted_height: Any = config.get("height")
        if wanted_height is None:
            return wanted_width, max(1, round(height * wanted_width / width))
        if wanted_width is None:
            return max(1, round(width * wanted_height / height)), wanted_height
        return wanted_width, wanted_height
