"""video.writer: a file that bears its final name can be played and holds every frame."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.video_writer import VideoWriter


def grey(level: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.full((height, width, channels), level, np.uint8)


def levels(path: Path) -> list[int]:
    """The mean grey of each frame of a video."""
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        ok, frame = capture.read()
        if not ok:
            return found
        found.append(round(float(frame.mean())))


def rate(path: Path) -> float:
    return cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)


@pytest.fixture
def frames(frame_packet: Callable[..., StreamPacket]) -> list[StreamPacket]:
    """Ten frames at 25 fps, 20 levels of grey apart."""
    return [frame_packet(number, grey(number * 20)) for number in range(10)]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v")])
def test_every_frame_is_in_the_video_in_order_at_the_stream_s_rate(
    tmp_path: Path, frames: list[StreamPacket], name: str, codec: str
) -> None:
    path = tmp_path / "new" / "folder" / name
    run_node(VideoWriter, frames, {"path": str(path), "codec": codec})
    assert levels(path) == pytest.approx([number * 20 for number in range(10)], abs=4)
    assert rate(path) == pytest.approx(25)
    assert [found.name for found in path.parent.iterdir()] == [name]


def test_the_rate_can_be_given_and_is_thirty_where_nothing_says_it(tmp_path: Path, frames: list[StreamPacket]) -> None:
    run_node(VideoWriter, frames, {"path": str(tmp_path / "a.mp4"), "fps": 10, "keep_time": False})
    assert rate(tmp_path / "a.mp4") == pytest.approx(10) and len(levels(tmp_path / "a.mp4")) == 10
    for packet in frames:
        packet.meta = None
    run_node(VideoWriter, frames, {"path": str(tmp_path / "b.mp4")})
    assert rate(tmp_path / "b.mp4") == pytest.approx(30)


def test_gaps_in_the_stream_are_filled_so_that_the_video_lasts_as_long(tmp_path: Path, frames: list[StreamPacket]) -> None:
    # An edge that drops would otherwise make everything run faster than it was.
    few = [frames[0], frames[1], frames[5], frames[9]]
    run_node(VideoWriter, few, {"path": str(tmp_path / "a.mp4")})
    assert levels(tmp_path / "a.mp4") == pytest.approx([0, 20, 100, 100, 100, 100, 180, 180, 180, 180], abs=4)
    run_node(VideoWriter, few, {"path": str(tmp_path / "b.mp4"), "keep_time": False})
    assert levels(tmp_path / "b.mp4") == pytest.approx([0, 20, 100, 180], abs=4)


def test_a_long_pause_is_not_filled_and_no_frame_is_ever_left_out(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    numbers = [0, 1, 100_000, 100_001, 5, 6, 6, 6]
    run_node(VideoWriter, [frame_packet(n, grey(20 * i)) for i, n in enumerate(numbers)], {"path": str(tmp_path / "a.mp4")})
    assert levels(tmp_path / "a.mp4") == pytest.approx([20 * i for i in range(8)], abs=4)


def test_grey_frames_are_written(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    run_node(VideoWriter, [frame_packet(n, grey(100, channels=1)) for n in range(3)], {"path": str(tmp_path / "a.mp4")})
    assert levels(tmp_path / "a.mp4") == pytest.approx([100] * 3, abs=4)


def test_crops_whose_rows_are_not_adjacent_are_written(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    whole = grey(0, 100, 100)
    whole[10:58, 20:84] = 200
    run_node(VideoWriter, [frame_packet(0, whole[10:58, 20:84])], {"path": str(tmp_path / "a.mp4")})
    assert levels(tmp_path / "a.mp4") == pytest.approx([200], abs=4)


def test_a_frame_of_another_size_fails_and_names_what_helps(tmp_path: Path, frames: list[StreamPacket], frame_packet: Any) -> None:
    with pytest.raises(PayloadError, match=r"found a frame of 32x48, expected 64x48 as at the start; put vision\.resize"):
        run_node(VideoWriter, [*frames, frame_packet(10, grey(0, 48, 32))], {"path": str(tmp_path / "a.mp4")})
    assert not (tmp_path / "a.mp4").exists()


def test_four_channels_fail(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    with pytest.raises(PayloadError, match="4 channels"):
        run_node(VideoWriter, [frame_packet(0, grey(0, channels=4))], {"path": str(tmp_path / "a.mp4")})


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    run_node(VideoWriter, [], {"path": str(tmp_path / "a.mp4")})
    assert list(tmp_path.iterdir()) == []


def test_an_older_video_is_replaced_only_at_the_end(tmp_path: Path, frames: list[StreamPacket]) -> None:
    path = tmp_path / "a.mp4"
    run_node(VideoWriter, frames[:3], {"path": str(path)})
    seen: list[int] = []

    class Watched(VideoWriter):
        def process(self, packet: StreamPacket) -> None:
            super().process(packet)
            seen.append(len(levels(path)))

    run_node(Watched, frames, {"path": str(path)})
    assert seen == [3] * 10 and len(levels(path)) == 10


KILLED = """
import os, signal, sys
import numpy as np
from streamcore import StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.video_writer import VideoWriter

def packets():
    for number in range(60):
        frame = np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8)
        yield StreamPacket.new(kind="frame", source_id="cam", payload=frame)
    os.kill(os.getpid(), signal.SIGKILL)

run_node(VideoWriter, packets(), {"path": sys.argv[1], "codec": sys.argv[2]})
"""


@pytest.mark.parametrize(("name", "codec", "kept"), [("a.avi", "MJPG", True), ("a.mkv", "mp4v", True), ("a.mp4", "mp4v", False)])
def test_after_a_kill_no_broken_file_bears_the_name_and_what_can_be_played_is_kept(
    tmp_path: Path, frames: list[StreamPacket], name: str, codec: str, kept: bool
) -> None:
    path = tmp_path / name
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), codec], check=False)
    assert done.returncode == -signal.SIGKILL and not path.exists()
    run_node(VideoWriter, frames, {"path": str(path), "codec": codec})
    assert len(levels(path)) == 10
    cut = tmp_path / f"a.cut-1{path.suffix}"
    assert {found.name for found in tmp_path.iterdir()} == ({name, cut.name} if kept else {name})
    assert not kept or len(levels(cut)) > 20


def test_bad_places_and_codecs_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir.mp4").mkdir()
    for path, codec, said in [
        (tmp_path / "file" / "a.mp4", "mp4v", "cannot be written"),
        (Path("/proc/a.mp4"), "mp4v", "cannot be written"),
        (tmp_path / "dir.mp4", "mp4v", "is a directory"),
        (tmp_path / "noending", "mp4v", "found no file ending"),
        (tmp_path / "a.mp4", "QQQQ", "cannot write codec 'QQQQ'"),
        (tmp_path / "a.txt", "mp4v", "cannot write codec"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run_node(VideoWriter, config={"path": str(path), "codec": codec})
    assert sorted(found.name for found in tmp_path.iterdir() if found.is_file()) == ["file"]


@pytest.mark.parametrize("config", [{}, {"path": "a.mp4", "fps": -1}, {"path": "a.mp4", "codec": "h"}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="config of VideoWriter"):
        run_node(VideoWriter, config=config)
