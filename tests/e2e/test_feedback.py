"""Cycles as whole runs: the example does what it says, ends in order, and lives through kills; what goes round for ever ends too."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from boxes import DEADLINE_S, SPECS, Box, jsonl, wait_until

WIDTH, HEIGHT, CROP = 1280, 720, (320, 240)
ROUND = """
version: 2
name: round
nodes:
  - {id: frames, plugin: synthetic.frames, config: {payload: PAYLOAD, width: 320, height: 240, count: COUNT, rate: 200}}
  - {id: merge, plugin: flow.forward}
  - {id: later, plugin: flow.delay, config: {packets: 2}}
  - {id: sink, plugin: debug.null}
edges:
  - {from: frames, to: merge}
  - {from: merge, to: later}
  - {from: later, to: merge, policy: POLICY}
  - {from: merge, to: sink}
"""


def report_of(box: Box) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((box.folder / "report.json").read_text())
    assert report["account"]["balanced"], report["account"]["unbalanced"]
    assert report["account"]["lost"] == {}
    return report


def expected_crop(found: dict[str, Any]) -> list[int]:
    middle_x, middle_y = found["x"] + found["w"] / 2, found["y"] + found["h"] / 2
    x = min(max(0, round(middle_x - CROP[0] / 2)), WIDTH - CROP[0])
    return [x, min(max(0, round(middle_y - CROP[1] / 2)), HEIGHT - CROP[1]), *CROP]


def assert_crops_follow(box: Box) -> list[dict[str, Any]]:
    """Each region is that of the largest box of an earlier frame, and later frames follow later detections."""
    boxes = {line["payload"]["frame"]: line["payload"]["boxes"] for line in jsonl(box.folder / "out/feedback/boxes.jsonl")}
    regions = [line["payload"] for line in jsonl(box.folder / "out/feedback/regions.jsonl")]
    followed = [region for region in regions if region["of"] is not None]
    assert followed
    for region in followed:
        assert region["of"] < region["frame"]
        assert region["crop"] == expected_crop(boxes[region["of"]][0])
    assert len({tuple(region["crop"]) for region in followed}) > 3  # it moves
    return regions


def test_crops_follow_the_detections_of_earlier_frames(box: Box) -> None:
    done = box.run("up", SPECS / "feedback.yaml", "--set", "frames=150", "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report_of(box)["status"] == "ok"
    regions = assert_crops_follow(box)
    assert regions[0]["of"] is None
    of = [region["of"] for region in regions if region["of"] is not None]
    assert of == sorted(of)
    box.assert_nothing_left()


@pytest.mark.parametrize("victim", ["follow", "motion", "again"])
def test_a_cycle_lives_through_the_kill_of_any_of_its_nodes(box: Box, victim: str) -> None:
    box.start("up", SPECS / "feedback.yaml", "--report", "report.json")
    pids = {node["id"]: node["pid"] for node in box.wait_running("feedback")["nodes"]}
    path = box.folder / "out/feedback/regions.jsonl"

    def last_followed() -> int:
        found = [line["payload"]["of"] for line in jsonl(path)] if path.exists() else []
        return max((of for of in found if of is not None), default=-1)

    wait_until("a crop that follows a detection", lambda: last_followed() >= 0)
    os.kill(pids[victim], signal.SIGKILL)

    def back() -> bool:
        found = box.ps("feedback")
        node = next((node for node in found["nodes"] if node["id"] == victim), None) if found else None
        return node is not None and node["restarts"] == 1 and node["state"] == "READY"

    wait_until(f"the successor of {victim}", back)
    before = last_followed()
    wait_until("crops that follow what was detected since", lambda: last_followed() > before + 5)
    down = box.run("down", "feedback")
    assert down.returncode == 0, down.stdout + down.stderr
    assert box.started[0].wait(DEADLINE_S) == 0, box.output()
    assert "not drained" not in box.output()
    report_of(box)
    assert_crops_follow(box)
    box.assert_nothing_left()


@pytest.mark.parametrize("payload", ["frame", "json"])
@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "drop_new"])
def test_what_goes_round_for_ever_ends_with_its_source(box: Box, payload: str, policy: str) -> None:
    # Every packet comes back to `merge`: at the end something always waits there, and nobody may wait for it.
    text = ROUND.replace("PAYLOAD", payload).replace("COUNT", "100").replace("POLICY", policy)
    done = box.run("up", box.write_spec(text), "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not drained" not in done.stdout + done.stderr
    report = report_of(box)
    edges = {edge["edge"]: edge for edge in report["account"]["edges"]}
    assert edges["frames.out->merge.in"]["completed"] == 100
    assert edges["merge.out->sink.in"]["dropped"] == 0
    assert edges["merge.out->sink.in"]["completed"] == 100 + edges["later.out->merge.in"]["completed"]
    box.assert_nothing_left()


def test_a_loop_that_goes_round_for_ever_is_drained_when_it_is_asked(box: Box) -> None:
    box.start("up", box.write_spec(ROUND.replace("PAYLOAD", "frame").replace("COUNT", "0").replace("POLICY", "latest")))
    pids = {node["id"]: node["pid"] for node in box.wait_running("round")["nodes"]}
    for victim in ("merge", "later"):
        os.kill(pids[victim], signal.SIGKILL)
    wait_until("both successors", lambda: sum(node["restarts"] for node in (box.ps("round") or {"nodes": []})["nodes"]) == 2)
    box.wait_running("round")
    account = json.loads(box.run("account", "round", "--json").stdout)
    assert all(edge["sent"] > 0 for edge in account["edges"])
    assert box.run("down", "round").returncode == 0
    assert box.started[0].wait(DEADLINE_S) == 0, box.output()
    assert "not drained" not in box.output()
    box.assert_nothing_left()
