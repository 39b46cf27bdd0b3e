"""image.folder: pictures in the order in which a person counts, and a name for each that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamcore import ConfigError
from streamcore.testing import Outputs, run_node
from streamcore_nodes.image_folder import ImageFolder, natural_key


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Path:
    """p1.png to p11.png and one JPEG, of two sizes."""
    for number in range(1, 12):
        cv2.imwrite(str(tmp_path / f"p{number}.png"), picture(number, height=40 + number % 2))
    cv2.imwrite(str(tmp_path / "Q1.JPG"), picture(99))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def names(out: Outputs) -> list[str]:
    return [packet.meta["file"] for packet in out if packet.meta]


def test_pictures_come_in_natural_order_with_their_pixels(folder: Path, picture: Callable[..., np.ndarray]) -> None:
    out = run_node(ImageFolder, config={"path": str(folder)})
    assert names(out) == [*(f"p{number}.png" for number in range(1, 12)), "Q1.JPG"]
    assert [packet.position for packet in out] == list(range(12))
    for number in range(1, 12):
        assert np.array_equal(out[number - 1].payload, picture(number, height=40 + number % 2))


def test_grey_and_transparent_pictures_become_bgr(tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(1, channels=1))
    cv2.imwrite(str(tmp_path / "b.png"), picture(1, channels=4))
    assert {packet.payload.shape for packet in run_node(ImageFolder, config={"path": str(tmp_path)})} == {(48, 64, 3)}


def test_patterns_choose_and_may_look_into_sub_folders(folder: Path, picture: Callable[..., np.ndarray]) -> None:
    (folder / "sub").mkdir()
    cv2.imwrite(str(folder / "sub" / "p3.png"), picture(3))
    assert names(run_node(ImageFolder, config={"path": str(folder), "patterns": ["p1*.png"]})) == ["p1.png", "p10.png", "p11.png"]
    assert "sub/p3.png" in names(run_node(ImageFolder, config={"path": str(folder), "patterns": ["**/p3.png"]}))


def test_fps_paces_and_gives_the_stream_a_time(folder: Path) -> None:
    out = run_node(ImageFolder, config={"path": str(folder), "fps": 4}, limit=3)
    assert np.diff(out.deadlines_ns).tolist() == [250_000_000] * 2
    assert [packet.meta["pts_ms"] for packet in out if packet.meta] == [0.0, 250.0, 500.0]


def test_a_loop_counts_on_and_a_restart_goes_on_in_it(folder: Path) -> None:
    out = run_node(ImageFolder, config={"path": str(folder), "loop": True}, limit=3, resume_position=22)
    assert [packet.position for packet in out] == [23, 24, 25]
    assert names(out) == ["Q1.JPG", "p1.png", "p2.png"]


def test_a_picture_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "p2.png").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"p2\.png: 6 bytes that OpenCV cannot decode"):
        run_node(ImageFolder, config={"path": str(folder)})


def test_bad_pictures_can_be_skipped_and_are_counted(folder: Path) -> None:
    (folder / "p2.png").write_bytes(b"broken")
    (folder / "p3.png").write_bytes(b"")
    out = run_node(ImageFolder, config={"path": str(folder), "on_bad": "skip"})
    assert names(out)[:3] == ["p1.png", "p4.png", "p5.png"] and len(out) == 10
    assert [packet.position for packet in out][:3] == [0, 3, 4]  # its place in the list, so that going on is exact
    assert out.metrics["unreadable"] == 2


def test_a_loop_over_nothing_but_bad_pictures_ends(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ConfigError, match="none of its 12 pictures can be read"):
        run_node(ImageFolder, config={"path": str(folder), "on_bad": "skip", "loop": True})


def test_a_folder_that_is_missing_no_folder_or_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/no/such: no such folder"):
        run_node(ImageFolder, config={"path": "/no/such"})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        run_node(ImageFolder, config={"path": str(tmp_path / "file")})
    with pytest.raises(ConfigError, match=r"no file matches \*\.jpg"):
        run_node(ImageFolder, config={"path": str(tmp_path)})


def test_a_pattern_that_leaves_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be listed"):
        run_node(ImageFolder, config={"path": str(folder), "patterns": ["/etc/*"]})


def test_numbers_in_names_count_as_numbers() -> None:
    given = ["b2", "a10", "a9", "A9b", "a09x", "10", "9"]
    assert sorted(given, key=natural_key) == ["9", "10", "a9", "A9b", "a09x", "a10", "b2"]


@pytest.mark.parametrize("config", [{}, {"path": "x", "patterns": []}, {"path": "x", "fps": -1}, {"path": "x", "on_bad": "ignore"}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="config of ImageFolder"):
        run_node(ImageFolder, config=config)
