"""What of a tap becomes which file, and how a picture looks as text."""

from __future__ import annotations

import base64
import re
import resource
import signal

import cv2
import numpy as np
import pytest

from streamcore.cli.tap_lines import facts, line
from streamcore.cli.tap_pictures import CannotSave, Saver, half_blocks, kitty, offers_kitty
from streamcore.control.tapping import Tapped
from streamcore.errors import ConfigError
from streamcore.packet import Meta, SlotRef

RAMP = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)
ENDINGS = [
    (RAMP, "png", "png"),
    (RAMP, "jpeg", "jpg"),
    (RAMP[:, :, 0], "png", "png"),
    (RAMP[:, :, :1], "jpeg", "jpg"),
    (np.zeros((4, 5, 4), np.uint8), "jpeg", "png"),  # JPEG has no alpha
    (np.full((4, 5), 40_000, np.uint16), "jpeg", "png"),  # nor 16 bits
    (np.zeros((4, 5, 2), np.uint8), "png", "npy"),
    (np.zeros((4, 5), np.float32), "png", "npy"),
    (np.zeros((4, 5), bool), "png", "npy"),
    (np.zeros((0, 5, 3), np.uint8), "png", "npy"),
    (np.zeros((2, 3, 4, 5), np.uint8), "png", "npy"),
    (np.array(7), "png", "npy"),
    (b"abc", "png", "bin"),
    ({"a": 1}, "png", "json"),
    (None, "png", "json"),
]


def tapped(payload=RAMP, sequence: int = 3, **fields) -> Tapped:
    is_array = isinstance(payload, np.ndarray)
    ref = SlotRef(0, 0, 0, payload.nbytes, payload.dtype.name, payload.shape, ()) if is_array else None
    meta = Meta(b"i" * 16, "frame", "cam/1", 10**18, 5, ref, None if is_array else payload, {"n": 1})
    return Tapped(meta, sequence, 1, False, 0, 2_500_000, payload, **fields)


@pytest.mark.parametrize(("payload", "form", "ending"), ENDINGS, ids=lambda value: str(getattr(value, "shape", value)))
def test_a_payload_is_saved_as_what_it_is(payload, form, ending, tmp_path):
    path = Saver(tmp_path / "a" / "b", "camera.out", form).save(tapped(payload))
    assert path == tmp_path / "a" / "b" / f"camera.out-cam_1-00000003.{ending}"
    if ending == "png":
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(found, payload.squeeze() if payload.shape[-1] == 1 else payload)
    elif ending == "npy":
        assert np.array_equal(np.load(path), payload)


def test_nothing_is_written_over(tmp_path):
    saver = Saver(tmp_path, "p", "png")
    names = [saver.save(tapped(b"1")).name, saver.save(tapped(b"2")).name, saver.save(tapped(b"3", sequence=-1)).name]
    assert names == ["p-cam_1-00000003.bin", "p-cam_1-00000003-2.bin", f"p-cam_1-{(b'i' * 16).hex()}.bin"]
    assert (tmp_path / names[0]).read_bytes() == b"1"
    tmp_path.joinpath("p-cam_1-00000009.bin").symlink_to("/dev/full")
    assert saver.save(tapped(b"4", sequence=9)).name == "p-cam_1-00000009-2.bin"
    with pytest.raises(ConfigError, match="cannot be made"):
        Saver(tmp_path / names[0], "p", "png")


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path):
    limits_before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits_before[1]))
    try:
        with pytest.raises(CannotSave, match="File too large"):
            Saver(tmp_path, "p", "png").save(tapped(b"x" * 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits_before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())


def test_a_picture_as_text_has_its_colours():
    blue_over_red = np.zeros((2, 1, 3), np.uint8)
    blue_over_red[0, 0], blue_over_red[1, 0] = (255, 0, 0), (0, 0, 255)
    assert half_blocks(blue_over_red, 80, 24) == "\x1b[38;2;0;0;255;48;2;255;0;0m▀\x1b[0m"
    text = half_blocks(np.zeros((1080, 1920, 3), np.uint8), 80, 24)
    rows = text.split("\n")
    assert len(rows) <= 24
    assert {row.count("▀") for row in rows} == {80}
    assert text.count("\x1b[38") == len(rows), "a colour is said once for all that have it"
    for other in (
        np.zeros((7, 5), np.uint8),
        np.full((1, 9, 4), 9, np.uint8),
        np.full((4, 4), 65535, np.uint16),
        np.zeros((1, 1), np.uint8),
    ):
        assert "▀" in half_blocks(other, 80, 24)


def test_a_picture_in_kitty_s_protocol_is_the_picture():
    noise = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(noise, 40, 20))
    assert [head[-1] for head, _ in chunks] == ["1"] * (len(chunks) - 1) + ["0"]
    assert all(len(chunk) <= 4096 for _, chunk in chunks)
    raw = base64.b64decode("".join(chunk for _, chunk in chunks))
    assert np.array_equal(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR), noise)


@pytest.mark.parametrize(
    ("environ", "offered"),
    [
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM_PROGRAM": "WezTerm"}, True),
        ({"TERM": "xterm"}, False),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, False),
    ],
)
def test_kitty_is_used_where_the_terminal_says_so(environ, offered):
    assert offers_kitty(environ) == offered


def test_lines_and_objects():
    assert line(tapped(), 0) == '#3  2.5 ms  frame  cam/1  uint8 6x10x3, 180 B  meta {"n": 1}'
    assert line(tapped({"a": [1, 2]}, sequence=-1), 0).startswith('dropped  2.5 ms  frame  cam/1  {"a": [1, 2]}')
    assert line(tapped("x" * 500), 60)[-1] == "…"
    assert len(line(tapped("x" * 500), 60)) == 60
    assert "\x1b" not in line(tapped("\x1b[2J\x9b31m"), 0)
    found = facts(tapped(), "camera.out")
    assert (found["payload"], found["dtype"], found["shape"], found["bytes"]) == ("array", "uint8", [6, 10, 3], 180)
    assert facts(tapped(b"abc"), "p")["bytes"] == 3
    assert facts(tapped({"a": None}), "p")["value"] == {"a": None}
    assert facts(tapped(sequence=-1), "p")["sequence"] is None
