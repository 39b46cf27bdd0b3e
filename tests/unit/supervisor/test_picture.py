"""A frame as a PNG picture: what another program reads back is what was in the frame."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from streamcore.supervisor import picture

RNG = np.random.default_rng(3)


def drawn(array: np.ndarray) -> np.ndarray:
    """Encode, then read back with cv2 as anybody would; BGR as it was."""
    cv2 = pytest.importorskip("cv2")
    flat = np.lib.stride_tricks.as_strided(array, (sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + 1,), (1,))
    strides = () if array.flags.c_contiguous else array.strides
    assert picture.can_show("uint8", array.shape, strides)
    raw = picture.png(array.shape, strides, lambda offset, count: flat[offset : offset + count].tobytes())
    return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (480, 480, 3), (9, 4), (480, 1)])
def test_a_small_frame_is_shown_pixel_by_pixel(shape):
    frame = RNG.integers(0, 256, shape, np.uint8)
    assert np.array_equal(drawn(frame), frame)


def test_a_crop_is_shown_without_what_lies_beside_it():
    frame = RNG.integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(drawn(frame[10:30, 5:25]), frame[10:30, 5:25])
    assert np.array_equal(drawn(frame[::2]), frame[::2])


def test_a_large_frame_is_thinned_out():
    frame = RNG.integers(0, 256, (1080, 1920, 3), np.uint8)
    assert np.array_equal(drawn(frame), frame[::4, ::4])


@pytest.mark.parametrize(
    ("dtype", "shape", "strides"),
    [
        ("float32", (4, 4, 3), ()),
        ("uint8", (4, 4, 4), ()),
        ("uint8", (4,), ()),
        ("uint8", (0, 4, 3), ()),
        ("uint8", (4, 4, 3), (12, 6, 1)),
        ("uint8", (4, 4, 3), (-12, 3, 1)),
        ("uint8", (4, 4, 3), (12, 3, -1)),
        ("uint8", (1 << 20, 4, 3), ()),
        ("", (5,), ()),
    ],
)
def test_what_is_no_picture_is_not_shown(dtype, shape, strides):
    assert not picture.can_show(dtype, shape, strides)


def test_what_cannot_be_read_is_black():
    raw = picture.png((2, 2), (), lambda offset, count: b"")
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    length = struct.unpack(">I", raw[33:37])[0]
    assert zlib.decompress(raw[41 : 41 + length]) == bytes(6)
