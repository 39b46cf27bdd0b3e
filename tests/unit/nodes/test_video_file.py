"""video.file: every decoded frame, once, in order, with the pixels that a plain OpenCV loop gives."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamcore import ConfigError
from streamcore.testing import Outputs, run_node
from streamcore_nodes.video_file import VideoFile

FRAMES = {"bikes.mp4": 250, "bigbuckbunny.mp4": 132, "carphone_pristine.mp4": 120}
CARPHONE = 120


def hash_of(frame: np.ndarray) -> str:
    return blake2b(frame.tobytes(), digest_size=16).hexdigest()


def plain_loop(path: Path) -> list[str]:
    capture, hashes = cv2.VideoCapture(str(path)), []
    while True:
        ok, frame = capture.read()
        if not ok:
            return hashes
        hashes.append(hash_of(frame))


def read(path: Path, limit: int | None = None, resume: int | None = None, **config: Any) -> Outputs:
    return run_node(VideoFile, config={"path": str(path), "pace": "none", **config}, limit=limit, resume_position=resume)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Twelve frames of 64x48, each of another grey, in a format whose index is at the end."""
    path = tmp_path / "small.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_of_a_clip_arrives_once_in_order_with_the_hash_of_a_plain_loop(clip: Callable[[str], Path], name: str) -> None:
    expected = plain_loop(clip(name))
    hashes, positions = [], []
    while len(hashes) < FRAMES[name]:  # in parts of 50 frames, which shows as well that going on is exact
        part = read(clip(name), limit=50, resume=len(hashes) - 1 if hashes else None)
        hashes += [hash_of(packet.payload) for packet in part]
        positions += [packet.position for packet in part]
    assert hashes == expected and len(expected) == FRAMES[name]
    assert positions == list(range(FRAMES[name]))


def test_meta_tells_frame_number_and_the_file_s_own_time(clip: Callable[[str], Path]) -> None:
    out = read(clip("carphone_pristine.mp4"))
    assert [packet.meta["frame"] for packet in out if packet.meta] == list(range(CARPHONE))
    assert [packet.meta["pts_ms"] for packet in out if packet.meta] == pytest.approx([n * 1001 / 30 for n in range(CARPHONE)], abs=0.01)
    assert {packet.source_id for packet in out} == {"node"}


def test_frames_are_decoded_into_the_loan_and_not_copied(small: Path) -> None:
    # One memcpy per frame less; 6 MB of them at 1080p.
    loans: list[np.ndarray] = []

    class Watched(VideoFile):
        def loan(self, *args: Any, **more: Any) -> np.ndarray:
            loans.append(super().loan(*args, **more))
            return loans[-1]

    out = run_node(Watched, config={"path": str(small), "pace": "none"})
    assert len(out) == len(loans) == 12  # one loan each, also for the first, whose size was not known
    assert all(packet.payload is loan for packet, loan in zip(out, loans, strict=True))


def test_in_real_time_frames_are_due_and_captured_by_their_time_stamps(small: Path) -> None:
    out = read(small, pace="realtime")
    assert np.diff(out.deadlines_ns).tolist() == [100_000_000] * 11
    assert [packet.capture_ns for packet in out] == out.deadlines_ns


def test_after_a_restart_real_time_begins_with_the_frame_it_goes_on_with(small: Path) -> None:
    assert np.diff(read(small, resume=7, pace="realtime").deadlines_ns).tolist() == [100_000_000] * 3


def test_a_loop_counts_frames_and_time_on(small: Path) -> None:
    out = read(small, limit=30, loop=True)
    assert [packet.position for packet in out] == list(range(30))
    assert [packet.meta["pts_ms"] for packet in out if packet.meta] == [n * 100.0 for n in range(30)]
    assert hash_of(out[25].payload) == hash_of(out[13].payload) == hash_of(out[1].payload)
    assert len({packet.packet_id for packet in out}) == 30


@pytest.mark.parametrize("done", [0, 10, 11, 12, 40, 12_000_000])
def test_going_on_in_a_loop_is_exact_without_decoding_the_loops_before(small: Path, done: int) -> None:
    packet = read(small, limit=1, resume=done, loop=True)[0]
    assert packet.position == done + 1
    assert abs(int(packet.payload[0, 0, 0]) - (done + 1) % 12 * 20) < 6
    assert packet.meta is not None and packet.meta["pts_ms"] == pytest.approx((done + 1) * 100.0)


def test_going_on_behind_the_last_frame_ends_at_once(small: Path) -> None:
    assert read(small, resume=11) == [] and read(small, resume=500) == []


# --- bad files


def test_a_missing_file_names_path_and_reason() -> None:
    with pytest.raises(ConfigError, match=r"/no/such/clip\.mp4: no such file"):
        read(Path("/no/such/clip.mp4"))


def test_a_folder_is_refused_and_the_node_for_folders_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory.*image\.folder"):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(small: Path) -> None:
    small.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        read(small)


@pytest.mark.parametrize("content", [b"", b"no video\n" * 200, random.Random(1).randbytes(50_000)], ids=["empty", "text", "noise"])
def test_what_is_no_video_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.mp4: (the file is empty|no video stream)"):
        read(path)


def test_a_file_cut_before_its_index_is_refused(small: Path) -> None:
    small.write_bytes(small.read_bytes()[:-400])
    with pytest.raises(ConfigError, match="no video stream that OpenCV can decode"):
        read(small)


def test_a_container_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48)).release()
    with pytest.raises(ConfigError, match=r"none\.mp4: (no video stream|has no frame|the file is empty)"):
        read(path)


@pytest.fixture
def damaged(clip: Callable[[str], Path], tmp_path: Path) -> Path:
    """bikes.mp4 with noise in the middle: frames before and behind it can be decoded."""
    raw = bytearray(clip("bikes.mp4").read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 20_000] = random.Random(2).randbytes(20_000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(raw)
    return path


class Collects(VideoFile):
    """Remembers what has left, also when the end is an error."""

    def setup(self) -> None:
        super().setup()
        self.left: list[int | None] = []

    def on_completed(self, packet: Any, outcome: str) -> None:
        self.left.append(packet.position)


def test_a_damaged_file_gives_all_that_decodes_and_then_says_what_is_missing(damaged: Path) -> None:
    node = Collects()
    said = r"damaged\.mp4: \d+ damaged frames; \d+ frames could be decoded, its header promises 250"
    with pytest.raises(ConfigError, match=said) as caught:
        run_node(node, config={"path": str(damaged), "pace": "none"})
    assert 150 < len(node.left) < 250 and f" {len(node.left)} frames could be decoded" in str(caught.value)
    assert node.left == list(range(len(node.left)))


def test_a_damaged_file_can_be_accepted(damaged: Path) -> None:
    assert 150 < len(read(damaged, on_damage="warn")) < 250


def test_a_file_that_breaks_off_says_so_after_its_last_frame(tmp_path: Path) -> None:
    # An AVI is read up to the cut; its header still promises all frames.
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(100):
        writer.write(np.full((48, 64, 3), number * 2, np.uint8))
    writer.release()
    assert len(read(path)) == 100
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    node = Collects()
    with pytest.raises(ConfigError, match=r"cut\.avi: .*frames could be decoded, its header promises 100"):
        run_node(node, config={"path": str(path), "pace": "none"})
    assert 30 < len(node.left) < 70


@pytest.mark.parametrize("config", [{}, {"path": ""}, {"path": "a.mp4", "pace": "slow"}, {"path": "a.mp4", "loop": "yes"}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="config of VideoFile"):
        run_node(VideoFile, config=config)
