"""What nodes agree on in a packet's meta: `frame`, its number at its source, and `pts_ms`, its time in the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore import StreamPacket


def frame_number(packet: StreamPacket) -> int:
    """The number of the frame that a packet is or was made from; without one in meta, its position, else its sequence."""
    number = (packet.meta or {}).get("frame")
    if isinstance(number, int):
        return number
    return packet.sequence if packet.position is None else packet.position


def stream_time_s(packet: StreamPacket) -> float:
    """Seconds on the stream's own clock, the same in a repeated run of a file; without `pts_ms` the monotonic time of capture."""
    pts_ms = (packet.meta or {}).get("pts_ms")
    return float(pts_ms) / 1e3 if isinstance(pts_ms, (int, float)) else packet.capture_ns / 1e9


def with_frame(packet: StreamPacket) -> dict[str, Any]:
    """The packet's meta with `frame` in it, so that outputs on several ports can be joined again."""
    meta: Mapping[str, Any] = packet.meta or {}
    return dict(meta) if "frame" in meta else {**meta, "frame": frame_number(packet)}
