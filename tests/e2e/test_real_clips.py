"""Real clips through real processes: every decoded frame arrives once, in order, with the hash that a plain OpenCV loop computes."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import cv2
import pytest
from boxes import SPECS, Box, clip, jsonl

CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


def plain_hashes(path: Path, size: int) -> list[str]:
    capture, hashes = cv2.VideoCapture(str(path)), []
    while True:
        ok, frame = capture.read()
        if not ok:
            return hashes
        hashes.append(blake2b(frame.tobytes(), digest_size=size).hexdigest())


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_a_clip_reaches_the_witness_once_in_order_and_unchanged(box: Box, name: str) -> None:
    done = box.run("up", SPECS / "video_file.yaml", "--set", f"video={clip(name)}", "--report", "r.json")
    assert done.returncode == 0, done.stdout + done.stderr
    witness = [json.loads(line) for line in find_witness(box).read_text().splitlines()]
    expected = plain_hashes(clip(name), len(witness[0]["hash"]) // 2)
    assert [row["hash"] for row in witness] == expected
    assert [row["sequence"] for row in witness] == list(range(len(expected)))
    assert len({row["packet_id"] for row in witness}) == len(expected)

    report = json.loads((box.folder / "r.json").read_text())
    sink = next(name for name, node in report["nodes"].items() if node["role"] == "sink")
    assert report["status"] == "ok"
    assert report["metrics"]["packets.source_emitted_total"] == len(expected)
    assert report["metrics"][f"node.{sink}.consumed"] == len(expected)
    assert report["account"]["balanced"] and not report["account"]["lost"]
    box.assert_nothing_left()


def find_witness(box: Box) -> Path:
    found = [path for path in box.folder.rglob("*.jsonl") if path.stat().st_size]
    assert len(found) == 1, found
    return found[0]


def test_the_demo_leaves_events_and_a_playable_annotated_video(box: Box) -> None:
    done = box.run("up", SPECS / "demo.yaml", "--for", "6s", "--report", "r.json")
    assert done.returncode == 0, done.stdout + done.stderr
    events = jsonl(next(box.folder.rglob("*events*.jsonl")))
    assert events and all(event["kind"] == "event" for event in events)
    assert len({event["packet_id"] for event in events}) == len(events)
    capture = cv2.VideoCapture(str(next(box.folder.rglob("*.mp4"))))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count >= 30, f"{count} frames in the annotated video"
    assert json.loads((box.folder / "r.json").read_text())["status"] == "ok"
    box.assert_nothing_left()
