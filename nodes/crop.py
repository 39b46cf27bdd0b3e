"""vision.crop: a part of each frame, as a view of the same memory."""

from __future__ import annotations

from streamcore import Node, PayloadError, Port, StreamPacket, array


class Crop(Node):
    """Pass on the rectangle `x`, `y`, `width`, `height` of each frame by reference: no pixel is copied.

    meta gets `crop`: [x, y, width, height]. A frame that does not hold the rectangle fails.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3))}
    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="a view with the frame's strides")}
    config = {
        "x": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "left edge, pixels"}},
        "y": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "upper edge, pixels"}},
        "width": {"type": "integer", "min": 1, "required": True, "meta": {"doc": "pixels"}},
        "height": {"type": "integer", "min": 1, "required": True, "meta": {"doc": "pixels"}},
    }

    def process(self, packet: StreamPacket) -> StreamPacket:
        x, y, width, height = (self.config[key] for key in ("x", "y", "width", "height"))
        frame = packet.payload
        if x + width > frame.shape[1] or y + height > frame.shape[0]:
            found, asked = f"{frame.shape[1]}x{frame.shape[0]}", f"{width}x{height} at ({x}, {y})"
            raise PayloadError(f"{self.id}: found a frame of {found}, expected one that holds the crop {asked}")
        meta = {**(packet.meta or {}), "crop": [x, y, width, height]}
        return packet.derive(payload=frame[y : y + height, x : x + width], meta=meta)
