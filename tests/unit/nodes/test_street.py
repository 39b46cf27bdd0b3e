"""synthetic.street: the same street for the same seed, at any frame, with the truth beside it."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest

from streamcore import ConfigError
from streamcore.testing import OLD_BYTE, Outputs, run_node
from streamcore_nodes.street import CAR_TRACKS, PEOPLE_TRACKS, Scene, Street, Track, Traffic
from streamcore_nodes.street_canvas import Sprite, smooth

SMALL = {"width": 320, "height": 180, "pace": "none"}


def hashes(out: Outputs) -> list[str]:
    return [blake2b(packet.payload.tobytes()).hexdigest() for packet in out]


def test_the_same_seed_draws_the_same_frames_and_another_seed_others() -> None:
    # A demo or a test that fails must fail again.
    once, again = run_node(Street, config=SMALL, limit=4), run_node(Street, config=SMALL, limit=4)
    other = run_node(Street, config={**SMALL, "seed": 8}, limit=4)
    assert hashes(once) == hashes(again)
    assert [p.meta for p in once] == [p.meta for p in again]
    assert not set(hashes(once)) & set(hashes(other))


def test_a_resumed_street_goes_on_with_the_next_frame_exactly() -> None:
    whole, rest = run_node(Street, config=SMALL, limit=7), run_node(Street, config=SMALL, limit=3, resume_position=3)
    assert [p.position for p in rest] == [4, 5, 6]
    assert hashes(rest) == hashes(whole)[4:]
    assert [p.packet_id for p in rest] == [p.packet_id for p in whole][4:]


def test_every_pixel_of_the_loan_is_overwritten() -> None:
    # A slot still holds an earlier frame; a gap would show it. Nothing in the scene has the test's filling in three channels at once.
    frame = run_node(Street, config={**SMALL, "width": 333, "height": 187}, limit=1)[0].payload
    assert frame.shape == (187, 333, 3) and not (frame == OLD_BYTE).all(axis=2).any()


def test_it_ends_after_the_frames_asked_for() -> None:
    out = run_node(Street, config={**SMALL, "frames": 5})
    assert [p.position for p in out] == [0, 1, 2, 3, 4]
    assert [p.meta["pts_ms"] for p in out if p.meta] == pytest.approx([n * 1000 / 30 for n in range(5)])
    assert {p.meta["fps"] for p in out if p.meta} == {30.0}


def test_in_real_time_a_frame_is_captured_when_it_is_due() -> None:
    out = run_node(Street, config={**SMALL, "pace": "realtime", "fps": 20}, limit=4)
    assert np.diff(out.deadlines_ns).tolist() == [50_000_000] * 3
    assert [p.capture_ns for p in out] == out.deadlines_ns[:4]
    assert not run_node(Street, config=SMALL, limit=2).deadlines_ns


def test_the_truth_lies_where_the_picture_differs_from_the_empty_street() -> None:
    full, empty = Scene(640, 360, 30.0, 7, 8, 8), Scene(640, 360, 30.0, 7, 0, 0)
    drawn, ground = np.empty((2, 360, 640, 3), np.uint8)
    seen = 0
    for number in range(0, 900, 90):
        truth = full.draw(number, drawn)
        assert empty.draw(number, ground) == []
        differs = (np.abs(drawn.astype(int) - ground) > 40).any(axis=2)
        inside = np.zeros_like(differs)
        for box in truth:
            x, y, w, h = (box[key] for key in ("x", "y", "w", "h"))
            assert x >= 0 <= y and x + w <= 640 and y + h <= 360 and box["label"] in ("car", "person")
            inside[y : y + h + 5, max(0, x - 4) : x + w + 4] = True  # with its shadow
            seen += differs[y : y + h, x : x + w].mean() > 0.1
        assert (differs & ~inside).sum() <= differs.sum() * 0.01
    assert seen > 60


def test_cars_of_one_lane_never_touch_and_move_both_ways() -> None:
    scene = Scene(640, 360, 30.0, 3, 12, 0)
    places: dict[str, list[int]] = {}
    frame = np.empty((360, 640, 3), np.uint8)
    for number in range(0, 300, 10):
        boxes = sorted((box["id"].rsplit("-", 2)[0], box["x"], box["x"] + box["w"]) for box in scene.draw(number, frame))
        assert all(a[2] < b[1] for a, b in pairwise(boxes) if a[0] == b[0])
        for box in scene.draw(number, frame):
            if box["x"] > 0 and box["x"] + box["w"] < 640:
                places.setdefault(box["id"], []).append(box["x"])
    steps = [set(np.sign(np.diff(xs)).tolist()) for xs in places.values() if len(xs) > 1]
    assert {1} in steps and {-1} in steps and all(len(step) == 1 for step in steps)


@pytest.mark.parametrize("track", CAR_TRACKS + PEOPLE_TRACKS)
def test_nobody_appears_or_vanishes_within_sight(track: Track) -> None:
    traffic = Traffic(track, 3, 1280.0, 0.25, np.random.default_rng(1))
    before: dict[str, tuple[int, int]] = {}
    for tick in range(600):
        now = {}
        for name, sprite, x, _ in traffic.where(tick / 10):
            left, right = x + sprite.box[0], x + sprite.box[0] + sprite.box[2]
            if right > 0 and left < 320:
                now[name] = (left, right)
        reach = abs(track.speed) * 0.25 / 10 + 2
        for name in now.keys() ^ before.keys():
            left, right = (now | before)[name]
            assert right <= 2 * reach or left >= 320 - 2 * reach or tick == 0
        before = now


def test_as_many_as_asked_for_are_on_the_loop() -> None:
    scene = Scene(320, 180, 30.0, 1, 5, 7)
    counts = {label: sum(t.count for t in scene.traffic if t.track.label == label) for label in ("car", "person")}
    assert counts == {"car": 5, "person": 7}


def test_a_sprite_is_cut_at_the_frame_s_edge_and_blends_its_soft_edge() -> None:
    ink = np.zeros((4, 6, 4), np.uint8)
    ink[:, 1:5] = (10, 20, 30, 255)
    ink[:, 5] = (5, 10, 15, 128)
    sprite = Sprite(ink, (3, 4))
    assert sprite.box == (-2, -4, 5, 4)
    for x in range(-5, 16):
        frame = np.full((8, 10, 3), 100, np.uint8)
        sprite.blend(frame, x, 6)
        solid = [c for c in range(x - 2, x + 2) if 0 <= c < 10]
        assert (frame[2:6, solid] == (10, 20, 30)).all() and (frame[:2] == 100).all() and (frame[6:] == 100).all()
        if 0 <= x + 2 < 10:
            assert np.abs(frame[3, x + 2].astype(int) - (55, 60, 65)).max() <= 1


def test_a_smoothed_outline_never_overshoots_its_corners() -> None:
    square = [(0.0, 0.0), (100.0, 0.0), (100.0, 3.0), (0.0, 3.0)]
    points = np.array(smooth(square))
    assert points.min() >= -1.5 and points[:, 0].max() <= 101.5 and points[:, 1].max() <= 4.5
    assert all(any(np.allclose(point, corner) for point in points) for corner in square)


@pytest.mark.parametrize("config", [{"width": 10}, {"fps": 0}, {"pace": "fast"}, {"cars": -1}, {"seed": "x"}, {"speed": 3}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(Street, config=config, limit=1)
