"""vision.follow: where the crop is, and that it is a view."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.follow import Follow

FRAME = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
SIZE = {"width": 20, "height": 10}


def frame(number, source="s"):
    made = StreamPacket.new(kind="frame", source_id=source, payload=FRAME, meta={"frame": number})
    made.in_port = "in"
    return made


def boxes(number, *found, source="s"):
    payload = {"frame": number, "boxes": [dict(zip("xywh", box, strict=True)) for box in found]}
    made = StreamPacket.new(kind="detections", source_id=source, payload=payload)
    made.in_port = "detections"
    return made


def regions(out):
    return [(packet.payload["crop"], packet.payload["of"]) for packet in out.on("regions")]


def test_the_middle_is_cropped_until_something_was_detected():
    out = run_node(Follow, [frame(0), boxes(0), frame(1)], SIZE)
    assert regions(out) == [([30, 25, 20, 10], None)] * 2


def test_the_crop_is_around_the_first_box_and_stays_there_while_nothing_is_seen():
    out = run_node(Follow, [frame(0), boxes(0, (50, 30, 10, 4), (0, 0, 1, 1)), frame(1), boxes(1), frame(2)], SIZE)
    assert regions(out)[1:] == [([45, 27, 20, 10], 0)] * 2
    crop = out.on("out")[1]
    assert crop.meta == {"frame": 1, "crop": [45, 27, 20, 10]}
    assert np.array_equal(crop.payload, FRAME[27:37, 45:65])
    assert np.shares_memory(crop.payload, FRAME)
    assert out.on("frames")[1].payload.shape == FRAME.shape


@pytest.mark.parametrize(("box", "crop"), [((0, 0, 2, 2), [0, 0]), ((78, 58, 2, 2), [60, 50]), ((-90, 500, 2, 2), [0, 50])])
def test_a_crop_is_moved_into_the_frame(box, crop):
    out = run_node(Follow, [boxes(0, box), frame(1)], SIZE)
    assert regions(out) == [([*crop, 20, 10], 0)]


def test_each_source_is_followed_by_itself():
    out = run_node(Follow, [boxes(0, (0, 0, 2, 2), source="a"), frame(1, "b"), frame(1, "a")], SIZE)
    assert [of for _, of in regions(out)] == [None, 0]


def test_a_frame_too_small_and_other_json_are_refused():
    with pytest.raises(PayloadError, match="found a frame of 80x60, expected one that holds a crop of 100x10"):
        run_node(Follow, [frame(0)], {**SIZE, "width": 100})
    for payload in ([], {"boxes": [1]}, {"boxes": [{"x": "?"}]}, {}):
        bad = StreamPacket.new(kind="detections", source_id="s", payload=payload)
        bad.in_port = "detections"
        with pytest.raises(PayloadError, match="found other detections of s"):
            run_node(Follow, [bad], SIZE)
