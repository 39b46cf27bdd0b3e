"""durable.record and durable.replay in real runs: every frame comes again bit for bit, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal

import pytest
from boxes import SPECS, Box, jsonl, wait_until

RECORD = """
version: 2
name: endless
params: {count: 120, rate: 0.0, codec: raw}
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 320, height: 240, count: "${count}", rate: "${rate}"}}
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: "${count}", rate: "${rate}", bytes: 300}}
  - {id: live, plugin: debug.hash, config: {path: live.jsonl}}
  - {id: recorder, plugin: durable.record, config: {path: rec, codec: "${codec}", segment_bytes: 8MiB}, restart: {max_restarts: 99}}
edges:
  - {from: camera, to: live}
  - {from: events, to: live}
  - {from: camera, to: recorder}
  - {from: events, to: recorder}
"""
REPLAY = """
version: 2
name: endless
params: {loop: 1, work_ms: 0.0}
nodes:
  - {id: again, plugin: durable.replay, config: {path: rec, pace: none, loop: "${loop}"}, restart: {max_restarts: 99}}
  - {id: slow, plugin: debug.slow, config: {work_ms: "${work_ms}"}}
  - {id: seen, plugin: debug.hash, config: {path: seen.jsonl}}
edges:
  - {from: again, to: slow}
  - {from: slow, to: seen}
"""


def hashes(box: Box, name: str, source: str) -> list[str]:
    """What a hash sink saw of a source, in order, repeats after a crash left out."""
    lines = {line["packet_id"]: line["hash"] for line in jsonl(box.folder / name) if line["source_id"] == source}
    return list(lines.values())


def up(box: Box, spec, *more: str):
    done = box.run("up", spec, "--report", "report.json", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((box.folder / "report.json").read_text())
    assert report["account"]["balanced"] and report["status"] == "ok"
    return report


def assert_same(box: Box, count: int, turns: int = 1) -> None:
    for source in ("camera", "events"):
        live = hashes(box, "live.jsonl", source)
        assert len(live) == count
        assert hashes(box, "seen.jsonl", source) == live * turns, source


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_every_frame_and_event_comes_again_bit_for_bit_and_in_order(box, codec):
    up(box, box.write_spec(RECORD), "--set", f"codec={codec}")
    up(box, box.write_spec(REPLAY, "replay.yaml"), "--set", "loop=2")
    assert_same(box, 120, turns=2)
    facts = json.loads(box.run("recording", "info", "rec", "--json").stdout)
    assert {(port["port"], port["kind"], port["records"]) for port in facts["ports"]} == {
        ("camera.out", "frame", 120),
        ("events.out", "data", 120),
    }
    assert box.run("recording", "check", "rec").returncode == 0


def pid_of(box: Box, node: str, restarts: int) -> int | None:
    found = box.ps()
    states = {item["id"]: item for item in found["nodes"]} if found else {}
    item = states.get(node)
    return item["pid"] if item and item["state"] == "READY" and item["restarts"] == restarts else None


def records(box: Box) -> int:
    found = box.look("recording", "ls", "rec")
    return found["recordings"][0]["records"] if found else 0


def end(box: Box, process) -> None:
    """An endless run, in order: what was sent is delivered."""
    assert box.run("down", "endless").returncode == 0
    assert process.wait(60) == 0, box.output()


def test_a_recorder_that_is_killed_loses_and_repeats_nothing(box):
    process = box.start("up", box.write_spec(RECORD), "--set", "count=0", "--set", "rate=50")
    for kills in range(4):
        pid = wait_until("the recorder to be ready", lambda: pid_of(box, "recorder", kills))  # noqa: B023
        before = records(box)
        wait_until("it to record more", lambda: records(box) > before + 20)  # noqa: B023
        os.kill(pid, signal.SIGKILL)
    wait_until("the last one to be ready", lambda: pid_of(box, "recorder", 4))
    end(box, process)
    count = len(hashes(box, "live.jsonl", "camera")) + len(hashes(box, "live.jsonl", "events"))
    assert records(box) == count > 100
    up(box, box.write_spec(REPLAY, "replay.yaml"))
    for source in ("camera", "events"):
        assert hashes(box, "seen.jsonl", source) == hashes(box, "live.jsonl", source)


def test_a_replay_that_is_killed_goes_on_where_it_was(box):
    up(box, box.write_spec(RECORD), "--set", "count=40")
    process = box.start("up", box.write_spec(REPLAY, "replay.yaml"), "--set", "loop=0", "--set", "work_ms=5")
    for kills in range(3):
        pid = wait_until("the replay to be ready", lambda: pid_of(box, "again", kills))  # noqa: B023
        before = len(jsonl(box.folder / "seen.jsonl"))
        wait_until("some more to come", lambda: len(jsonl(box.folder / "seen.jsonl")) > before + 100)  # noqa: B023
        os.kill(pid, signal.SIGKILL)
    wait_until("the last one to be ready", lambda: pid_of(box, "again", 3))
    end(box, process)
    for source in ("camera", "events"):
        seen, live = hashes(box, "seen.jsonl", source), hashes(box, "live.jsonl", source)
        assert len(seen) > 150 and seen == (live * len(seen))[: len(seen)]


def test_what_was_completed_is_there_after_everything_was_killed(box):
    box.start("up", box.write_spec(RECORD), "--set", "count=0", "--set", "rate=200")
    wait_until("some records", lambda: records(box) > 200)
    box.kill_all()
    kept = records(box)
    assert kept > 200
    checked = json.loads(box.run("recording", "check", "rec", "--json").stdout)
    assert (checked["records"], checked["damaged"]) == (kept, 0)
    up(box, box.write_spec(RECORD), "--set", "count=50")
    assert records(box) == kept + 100  # another run: the same ids are other packets


def test_the_examples_give_the_same_detections_again(box):
    up(box, SPECS / "record.yaml", "--set", "pace=none", "--set", "frames=60")
    up(box, SPECS / "replay.yaml")
    done = box.run("recording", "export", "data/recording", "--to", "all.jsonl", "--port", "motion.detections")
    assert done.returncode == 0, done.stderr
    then = [line["payload"] for line in jsonl(box.folder / "all.jsonl")]
    assert len(then) == 60 and [line["payload"] for line in jsonl(box.folder / "data/detections.jsonl")] == then
