"""vision.annotate: boxes are drawn on the frame that they were found in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import Outputs, run_node
from streamcore_nodes.annotate import Annotate

PLAIN = {"labels": False, "caption": False}


@pytest.fixture
def frame(frame_packet: Callable[..., StreamPacket]) -> Callable[..., StreamPacket]:
    """A black frame for the port `frames`."""
    return lambda number, source_id="cam": frame_packet(number, np.zeros((60, 80, 3), np.uint8), source_id, "frames")


@pytest.fixture
def found(json_packet: Callable[..., StreamPacket]) -> Callable[..., StreamPacket]:
    """Detections for the port `detections`: one box whose left edge tells the frame number."""

    def make(number: int, source_id: str = "cam", **more: Any) -> StreamPacket:
        box = {"x": number * 5, "y": 20, "w": 4, "h": 8, "label": "thing", "score": 0.5, **more}
        return json_packet({"frame": number, "boxes": [box]}, number, source_id, "detections", "detections")

    return make


def drawn(out: Outputs) -> list[tuple[int, int | None]]:
    """(frame number, the number told by the box drawn on it) of each output."""
    rows = []
    for packet in out:
        columns = np.flatnonzero(packet.payload.any(axis=(0, 2)))
        rows.append((packet.meta["frame"] if packet.meta else -1, round(columns[0] / 5) if len(columns) else None))
    return rows


def test_each_frame_gets_its_own_boxes_whichever_comes_first(frame: Any, found: Any) -> None:
    assert drawn(run_node(Annotate, [found(1), frame(1), found(2), frame(2)], PLAIN)) == [(1, 1), (2, 2)]
    assert drawn(run_node(Annotate, [frame(1), found(1), frame(2), found(2)], PLAIN)) == [(1, 1), (2, 2)]
    assert drawn(run_node(Annotate, [frame(1), frame(2), frame(3), found(1), found(2), found(3)], PLAIN)) == [(1, 1), (2, 2), (3, 3)]


def test_the_frame_itself_is_not_drawn_on_and_the_copy_is_whole(
    found: Any, frame_packet: Callable[..., StreamPacket], picture: Callable[..., np.ndarray]
) -> None:
    # The frame is the producer's memory, which other consumers read at the same time.
    given = frame_packet(3, picture(3, 60, 80), "cam", "frames")
    before = given.payload.copy()
    out = run_node(Annotate, [given, found(3)], PLAIN)[0]
    assert np.array_equal(given.payload, before) and not np.shares_memory(out.payload, given.payload)
    assert np.array_equal(out.payload[40:], before[40:]) and not np.array_equal(out.payload, before)
    assert out.meta == given.meta


def test_frames_whose_detections_were_dropped_get_the_latest_boxes(frame: Any, found: Any) -> None:
    # The edge into a slow detector is `latest`: it saw frames 1 and 4 only.
    packets = [frame(1), found(1), frame(2), frame(3), frame(4), found(4), frame(5)]
    assert drawn(run_node(Annotate, packets, PLAIN)) == [(1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]


def test_detections_of_frames_that_were_dropped_are_passed_over(frame: Any, found: Any) -> None:
    packets = [found(1), found(2), found(3), frame(3), found(4), frame(5), found(5)]
    assert drawn(run_node(Annotate, packets, PLAIN)) == [(3, 3), (5, 5)]


def test_no_more_frames_wait_than_the_retention_says(frame: Any) -> None:
    # Each one keeps a slot of its producer's ring, and the plan has counted so many.
    class Watched(Annotate):
        most = 0

        def process(self, packet: StreamPacket) -> Any:
            yield from super().process(packet)
            Watched.most = max(Watched.most, len(self.frames), len(self.detections))

    out = run_node(Watched, [frame(n) for n in range(10)], {**PLAIN, "retention": 3})
    assert Watched.most == 3
    assert drawn(out) == [(n, None) for n in range(10)]


def test_no_more_detections_wait_than_the_retention_says(frame: Any, found: Any) -> None:
    out = run_node(Annotate, [*(found(n) for n in range(9)), frame(8)], {**PLAIN, "retention": 2})
    assert drawn(out) == [(8, 8)]
    late = run_node(Annotate, [*(found(n) for n in range(9)), frame(2)], {**PLAIN, "retention": 2})
    assert drawn(late)[0][0] == 2  # its own are gone; it leaves with later ones and does not wait for ever


def test_sources_do_not_get_each_other_s_boxes(frame: Any, found: Any) -> None:
    packets = [frame(1, "a"), frame(1, "b"), found(1, "b", x=50), found(1, "a"), frame(2, "b")]
    assert drawn(run_node(Annotate, packets, PLAIN)) == [(1, 1), (1, 10), (2, 10)]


def test_what_still_waits_at_the_end_goes_out(frame: Any) -> None:
    assert len(run_node(Annotate, [frame(1), frame(2)])) == 2


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_frames_become_bgr(
    frame_packet: Callable[..., StreamPacket], picture: Callable[..., np.ndarray], channels: int
) -> None:
    out = run_node(Annotate, [frame_packet(0, picture(0, channels=channels), "cam", "frames")], PLAIN)
    assert out[0].payload.shape == (48, 64, 3)


def test_labels_and_caption_can_be_switched_off(frame: Any, found: Any) -> None:
    def ink(**config: bool) -> int:
        return int(run_node(Annotate, [frame(6), found(6)], {**PLAIN, **config})[0].payload.any(axis=2).sum())

    assert ink() < ink(labels=True) and ink() < ink(caption=True)


def test_boxes_out_of_the_picture_are_cut_and_those_out_of_the_world_refused(frame: Any, found: Any) -> None:
    assert len(run_node(Annotate, [frame(1), found(1, x=-30, w=500, y=-10)])) == 1
    for x in (1e12, float("nan"), "left", None):
        with pytest.raises(PayloadError, match="with numbers in pixels"):
            run_node(Annotate, [frame(1), found(1, x=x)])


@pytest.mark.parametrize("payload", [[], {"boxes": 3}, {"objects": []}, {"boxes": [[1, 2, 3, 4]]}])
def test_detections_of_another_shape_fail_at_once(json_packet: Callable[..., StreamPacket], payload: Any) -> None:
    with pytest.raises(PayloadError, match='expected {"boxes"'):
        run_node(Annotate, [json_packet(payload, in_port="detections")])


@pytest.mark.parametrize("config", [{"retention": 0}, {"retention": 1000}, {"thickness": 0}, {"labels": "no"}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(Annotate, config=config)
