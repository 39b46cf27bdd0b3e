"""vision.resize writes into its own slot, vision.crop passes on a view."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.crop import Crop
from streamcore_nodes.resize import Resize


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"width": 20, "height": 10}, (10, 20, 3)),
        ({"width": 32}, (24, 32, 3)),
        ({"height": 96}, (96, 128, 3)),
        ({"scale": 0.5}, (24, 32, 3)),
        ({"scale": 0.01}, (1, 1, 3)),
    ],
)
def test_frames_get_the_size_asked_for(frame_packet: Callable[..., StreamPacket], config: dict[str, float], shape: tuple[int, ...]) -> None:
    given = frame_packet(3)
    out = run_node(Resize, [given], config)
    expected = cv2.resize(given.payload, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    assert np.array_equal(out[0].payload, expected)
    assert out[0].meta == given.meta


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_number_of_channels_is_kept(
    frame_packet: Callable[..., StreamPacket], picture: Callable[..., np.ndarray], channels: int
) -> None:
    frame = picture(1, channels=channels)
    out = run_node(Resize, [frame_packet(1, frame)], {"scale": 0.5})[0].payload
    assert np.array_equal(out, cv2.resize(frame, (32, 24), interpolation=cv2.INTER_AREA).reshape(24, 32, channels))


@pytest.mark.parametrize("name", ["area", "linear", "cubic", "nearest", "lanczos"])
def test_the_interpolation_is_opencv_s(frame_packet: Callable[..., StreamPacket], name: str) -> None:
    given = frame_packet(5)
    out = run_node(Resize, [given], {"scale": 1.5, "interpolation": name})[0].payload
    flag = cv2.INTER_LANCZOS4 if name == "lanczos" else getattr(cv2, f"INTER_{name.upper()}")
    assert np.array_equal(out, cv2.resize(given.payload, (96, 72), interpolation=flag))


def test_a_frame_that_fits_already_is_forwarded(frame_packet: Callable[..., StreamPacket]) -> None:
    given = frame_packet()
    assert np.shares_memory(run_node(Resize, [given], {"width": 64, "height": 48})[0].payload, given.payload)


def test_a_size_has_to_be_given_one_way_or_the_other() -> None:
    with pytest.raises(ConfigError, match="none of width, height and scale"):
        run_node(Resize)
    with pytest.raises(ConfigError, match="config of Resize"):
        run_node(Resize, config={"width": 10, "scale": 2})
    with pytest.raises(ConfigError, match="interpolation"):
        run_node(Resize, config={"width": 10, "interpolation": "best"})


def test_frames_that_are_no_uint8_pictures_are_refused(frame_packet: Callable[..., StreamPacket]) -> None:
    for payload in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), {"a": 1}):
        with pytest.raises(PayloadError, match=r"port node\.in"):
            run_node(Resize, [frame_packet(0, payload)], {"width": 2})


def test_a_crop_is_a_view_and_says_where_it_was(frame_packet: Callable[..., StreamPacket]) -> None:
    given = frame_packet()
    out = run_node(Crop, [given], {"x": 10, "y": 4, "width": 20, "height": 30})[0]
    assert np.shares_memory(out.payload, given.payload)
    assert np.array_equal(out.payload, given.payload[4:34, 10:30]) and out.payload.strides == given.payload.strides
    assert out.meta == {**(given.meta or {}), "crop": [10, 4, 20, 30]}


def test_a_crop_that_does_not_fit_fails_and_names_both_sizes(frame_packet: Callable[..., StreamPacket]) -> None:
    # Slicing past the edge would silently give a smaller picture.
    with pytest.raises(PayloadError, match=r"found a frame of 64x48, expected one that holds the crop 60x10 at \(5, 0\)"):
        run_node(Crop, [frame_packet()], {"x": 5, "width": 60, "height": 10})


@pytest.mark.parametrize("config", [{}, {"width": 5}, {"width": 0, "height": 5}, {"width": 5, "height": 5, "x": -1}])
def test_bad_crop_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="config of Crop"):
        run_node(Crop, config=config)
