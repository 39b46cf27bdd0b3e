"""vision.motion: what moves on the synthetic street is found, and what stands still is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.motion import Motion
from streamcore_nodes.street import Scene

Box = dict[str, Any]


def overlap(one: Box, other: Box) -> int:
    width = min(one["x"] + one["w"], other["x"] + other["w"]) - max(one["x"], other["x"])
    height = min(one["y"] + one["h"], other["y"] + other["h"]) - max(one["y"], other["y"])
    return max(0, width) * max(0, height)


def test_cars_and_people_of_the_street_are_found_and_little_else() -> None:
    # The demo's detector. Recall: half of a truth box lies in one box; precision: half of a box is covered by truth.
    scene, frame, truth = Scene(1280, 720, 30.0, 7, 8, 8), np.empty((720, 1280, 3), np.uint8), []

    def packets() -> Any:
        for number in range(150):
            truth.append(scene.draw(number, frame))
            yield StreamPacket.new(kind="frame", source_id="street", payload=frame, meta={"frame": number})

    out = run_node(Motion, packets()).on("detections")
    assert [packet.payload["frame"] for packet in out] == list(range(150))
    found = wanted = right = boxes = 0
    for number in range(60, 150):
        detected = out[number].payload["boxes"]
        for real in truth[number]:
            wanted += 1
            found += any(overlap(real, box) >= 0.5 * real["w"] * real["h"] for box in detected)
        for box in detected:
            boxes += 1
            right += sum(overlap(real, box) for real in truth[number]) >= 0.5 * box["w"] * box["h"]
    assert wanted > 900 and boxes > 500
    assert found / wanted > 0.9, f"recall {found / wanted:.3f}"
    assert right / boxes > 0.9, f"precision {right / boxes:.3f}"


def square(number: int, noise: np.random.Generator) -> np.ndarray:
    """A grey scene with sensor noise; from frame 20 on a bright square of 40x30 moves to the right."""
    frame = noise.normal(110, 2, (120, 200, 3)).clip(0, 255).astype(np.uint8)
    if number >= 20:
        x = (number - 20) * 4
        frame[50:80, x : x + 40] = 220
    return frame


def moving(frame_packet: Callable[..., StreamPacket], count: int) -> list[StreamPacket]:
    noise = np.random.default_rng(1)
    return [frame_packet(number, square(number, noise)) for number in range(count)]


def test_a_box_lies_where_the_thing_is_with_area_and_score(frame_packet: Callable[..., StreamPacket]) -> None:
    out = run_node(Motion, moving(frame_packet, 30), {"downscale": 2, "min_area": 300, "warmup": 10}).on("detections")
    assert all(packet.payload["boxes"] == [] for packet in out[:20])
    payload = out[25].payload
    (box,) = payload["boxes"]
    assert payload["size"] == [200, 120] and payload["frame"] == 25 and box["label"] == "motion"
    assert abs(box["x"] - 20) <= 4 and abs(box["y"] - 50) <= 4 and abs(box["w"] - 40) <= 8 and abs(box["h"] - 30) <= 8
    assert abs(box["area"] - 1200) < 400 and 0.6 < box["score"] <= 1.0


def test_nothing_is_reported_during_warm_up_and_small_things_never(frame_packet: Callable[..., StreamPacket]) -> None:
    packets = moving(frame_packet, 30)
    late = run_node(Motion, packets, {"downscale": 2, "warmup": 22}).on("detections")
    assert [bool(packet.payload["boxes"]) for packet in late] == [False] * 22 + [True] * 8
    large = run_node(Motion, packets, {"downscale": 2, "min_area": 5000, "warmup": 10}).on("detections")
    assert not any(packet.payload["boxes"] for packet in large)


def test_the_largest_boxes_are_kept_in_order(frame_packet: Callable[..., StreamPacket]) -> None:
    ground = np.full((120, 200, 3), 90, np.uint8)
    busy = ground.copy()
    for n, (x, side) in enumerate([(5, 12), (40, 30), (90, 20), (130, 25)]):
        busy[40 : 40 + side, x : x + side] = 160 + n
    packets = [frame_packet(n, ground) for n in range(20)] + [frame_packet(20, busy)]
    config = {"downscale": 1, "min_area": 50, "warmup": 10}
    areas = [box["area"] for box in run_node(Motion, packets, config).on("detections")[-1].payload["boxes"]]
    assert len(areas) == 4 and areas == sorted(areas, reverse=True)
    few = run_node(Motion, packets, {**config, "boxes_max": 2}).on("detections")[-1].payload["boxes"]
    assert [box["area"] for box in few] == areas[:2]


def test_every_frame_is_forwarded_after_its_detections_and_both_can_be_joined(frame_packet: Callable[..., StreamPacket]) -> None:
    packets = moving(frame_packet, 5)
    out = run_node(Motion, packets)
    assert [packet.port for packet in out] == ["detections", "frames"] * 5
    for given, found, frame in zip(packets, out.on("detections"), out.on("frames"), strict=True):
        assert np.shares_memory(frame.payload, given.payload) and frame.meta == found.meta == given.meta
        assert (found.kind, frame.kind) == ("detections", "frame")


def test_frames_without_a_number_get_one_for_the_join(picture: Callable[..., np.ndarray]) -> None:
    packets = [StreamPacket.new(kind="frame", source_id="cam", payload=picture(n)) for n in range(3)]
    out = run_node(Motion, packets)
    for port in ("frames", "detections"):
        assert [packet.meta for packet in out.on(port)] == [{"frame": n} for n in range(3)]


def test_sources_have_backgrounds_of_their_own_and_a_new_size_starts_anew(frame_packet: Callable[..., StreamPacket]) -> None:
    dark, light = np.full((60, 80, 3), 40, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    mixed = [frame_packet(n, frame, source_id=name) for n in range(30) for name, frame in (("a", dark), ("b", light))]
    assert not any(packet.payload["boxes"] for packet in run_node(Motion, mixed, {"warmup": 3}).on("detections"))
    larger = [frame_packet(n, dark) for n in range(20)] + [frame_packet(n, np.full((90, 80, 3), 200, np.uint8)) for n in range(20, 22)]
    assert not any(packet.payload["boxes"] for packet in run_node(Motion, larger, {"warmup": 3}).on("detections"))


def test_grey_frames_are_taken_and_other_channels_refused(
    frame_packet: Callable[..., StreamPacket], picture: Callable[..., np.ndarray]
) -> None:
    assert len(run_node(Motion, [frame_packet(0, picture(0, channels=1))])) == 2
    with pytest.raises(PayloadError, match="found a frame of 4 channels, expected 1 or 3"):
        run_node(Motion, [frame_packet(0, picture(0, channels=4))])


@pytest.mark.parametrize("config", [{"min_area": 0}, {"history": 1}, {"threshold": 0}, {"downscale": 0}, {"boxes_max": 1000}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(Motion, config=config)
