"""vision.follow: a crop that follows what was detected, given back to it by a cycle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from streamcore import Node, PayloadError, Port, StreamPacket, array
from streamcore_nodes.stream_time import frame_number, with_frame

BGR = array("uint8", ndim=3)
SOURCES_MAX = 1024  # whose last detections are remembered; past that those heard of longest ago are forgotten
SIDES = ("x", "y", "w", "h")


class Follow(Node):
    """Crop each frame to `width` x `height` around the largest box of the latest detections of its source; around its middle before.

    Frames never wait for detections: these may come from frames that have left by `frames`, and so steer the crops of later ones. The
    crop is a view of the frame, moved inwards where the box is at its edge. Its meta has `crop`: [x, y, width, height]. `regions` says
    the same as JSON: {"frame", "crop", "of"}, `of` being the frame whose detections were followed, or null.
    """

    inputs = {
        "in": Port("frame", BGR, doc="BGR or grey frames"),
        "detections": Port("any", "json", required=False, doc='{"frame", "boxes": [{x, y, w, h, ...}, ...]}, the largest box first'),
    }
    outputs = {
        "out": Port("frame", BGR, forwards=("in",), doc="the crop, a view with the frame's strides"),
        "frames": Port("frame", BGR, forwards=("in",), doc="the input frames, forwarded"),
        "regions": Port("region", "json", doc="one per frame"),
    }
    config = {
        "width": {"type": "integer", "min": 1, "required": True, "meta": {"doc": "pixels of the crop"}},
        "height": {"type": "integer", "min": 1, "required": True, "meta": {"doc": "pixels of the crop"}},
    }

    def setup(self) -> None:
        self.latest: OrderedDict[str, tuple[Any, float, float]] = OrderedDict()  # source id: frame, middle of the box

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        if packet.in_port == "detections":
            self._remember(packet)
            return
        frame, width, height = packet.payload, self.config["width"], self.config["height"]
        if width > frame.shape[1] or height > frame.shape[0]:
            found = f"{frame.shape[1]}x{frame.shape[0]}"
            raise PayloadError(f"{self.id}: found a frame of {found}, expected one that holds a crop of {width}x{height}")
        of, middle_x, middle_y = self.latest.get(packet.source_id, (None, frame.shape[1] / 2, frame.shape[0] / 2))
        x = min(max(0, round(middle_x - width / 2)), frame.shape[1] - width)
        y = min(max(0, round(middle_y - height / 2)), frame.shape[0] - height)
        meta, region = with_frame(packet), [x, y, width, height]
        yield packet.derive(payload={"frame": frame_number(packet), "crop": region, "of": of}, port="regions", meta=meta)
        yield packet.derive(payload=frame[y : y + height, x : x + width], port="out", meta={**meta, "crop": region})
        yield packet.derive(payload=frame, port="frames", meta=meta)

    def _remember(self, packet: StreamPacket) -> None:
        """Detections without a box change nothing: what was followed may be hidden for a moment."""
        try:
            boxes = packet.payload["boxes"]
            if not boxes:
                return
            x, y, w, h = (float(boxes[0][side]) for side in SIDES)
            self.latest[packet.source_id] = (packet.payload.get("frame"), x + w / 2, y + h / 2)
        except (TypeError, KeyError, ValueError, AttributeError):
            expected = '{"boxes": [{x, y, w, h, ...}, ...]}'
            raise PayloadError(f"{self.id}: found other detections of {packet.source_id}, expected {expected}") from None
        self.latest.move_to_end(packet.source_id)
        while len(self.latest) > SOURCES_MAX:
            self.latest.popitem(last=False)
