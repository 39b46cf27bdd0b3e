"""core.health in real runs: what happens to nodes that are killed arrives in a file, in order and once; the branch keeps no run up."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from boxes import SPECS, Box, wait_until
from small_file_system import SMALL_BYTES, small_file_system

from streamcore.control.client import connect

SPEC = """
version: 2
name: watched
drain_s: 20
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 64, height: 48, rate: 100, count: %(count)d}}
  - {id: pass, plugin: flow.forward, restart: {max_restarts: 100, backoff_s: 0.01}}
  - {id: sink, plugin: debug.null}
  - {id: health, plugin: core.health, restart: {max_restarts: 100, backoff_s: 0.01}}
  - {id: file, plugin: file.jsonl, config: {path: health.jsonl}, restart: {max_restarts: 100, backoff_s: 0.01}}
edges:
  - {from: camera, to: pass}
  - {from: pass, to: sink}
  - {from: health, to: file}
"""
FOR_EVER, SHORT = 10**9, 100
KILLS = 3


def lines(box: Box) -> list[dict[str, Any]]:
    path = box.folder / "health.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told(box: Box, node: str = "") -> list[str]:
    """Names of the events that arrived, of one node or of the run."""
    return [line["payload"]["event"] for line in lines(box) if line["payload"]["node"] == node and not line["payload"]["edge"]]


def kill(box: Box, node: str) -> None:
    """kill -9 of its process, once it is ready."""

    def pid() -> int | None:
        row = next(row for row in box.ps("watched")["nodes"] if row["id"] == node)  # type: ignore[index]
        return row["pid"] if row["state"] == "READY" else None

    os.kill(wait_until(f"{node} to be ready", pid), signal.SIGKILL)


def assert_whole(box: Box) -> list[dict[str, Any]]:
    """Every event from the first one on, in order, once, none forgotten."""
    found = lines(box)
    assert [line["payload"]["number"] for line in found] == list(range(1, len(found) + 1))
    assert len({line["packet_id"] for line in found}) == len(found)
    assert all(line["kind"] == "health" and line["payload"]["lost"] == 0 and line["source_id"] == "watched" for line in found)
    return found


def test_the_deaths_of_a_node_arrive_in_a_file_in_order_and_once(box: Box) -> None:
    up = box.start("up", box.write_spec(SPEC % {"count": FOR_EVER}))
    box.wait_running("watched")
    for number in range(1, KILLS + 1):
        for victim in ("pass", "health", "file"):  # those who tell of it die as well
            kill(box, victim)
        wait_until(f"restart {number} to be told", lambda n=number: told(box, "pass").count("node_ready") == n + 1)
    assert box.run("down", "watched").returncode == 0
    assert up.wait(60) == 0
    assert_whole(box)
    life = ["node_up", "node_ready"]
    assert told(box, "pass") == life + KILLS * ["node_restarting", *life] + ["node_draining", "node_done"]
    assert "node_restarting" in told(box, "health")
    assert "node_restarting" in told(box, "file")


def test_a_run_that_ends_by_itself_is_told_to_its_end_and_does_not_wait_for_who_tells(box: Box) -> None:
    done = box.run("up", box.write_spec(SPEC % {"count": SHORT}), "--report", "r.json")
    assert done.returncode == 0, done.stderr
    assert "(end of stream)" in done.stdout
    assert_whole(box)
    for node in ("camera", "pass", "sink"):
        assert told(box, node) == ["node_up", "node_ready", "node_draining", "node_done"]
    assert told(box) == ["run_up", "run_ending"]
    report = json.loads((box.folder / "r.json").read_text())
    assert [event["event"] for event in report["events"]][-2:] == ["node_done", "run_ended"]
    assert report["status"] == "ok"
    assert report["account"]["balanced"]


def test_the_next_run_is_told_into_the_same_file_though_it_is_remembered(box: Box) -> None:
    # The queue in front of the file drops what it knows by its id: today's events must not pass for yesterday's.
    spec = SPEC.replace("{from: health, to: file}", "{from: health, to: file, outbox: {path: ./box}}") % {"count": SHORT}
    for _ in range(2):
        assert box.run("up", box.write_spec(spec)).returncode == 0
    numbers = [line["payload"]["number"] for line in lines(box)]
    assert numbers.count(1) == numbers.count(10) == 2


def test_a_run_that_fails_says_so_before_it_ends(box: Box) -> None:
    spec = SPEC.replace("plugin: flow.forward, restart: {max_restarts: 100, backoff_s: 0.01}", "plugin: flow.forward, restart: never")
    up = box.start("up", box.write_spec(spec % {"count": FOR_EVER}))
    box.wait_running("watched")
    kill(box, "pass")
    assert up.wait(60) == 1
    assert_whole(box)
    assert told(box, "pass")[-1] == "node_failed"
    assert told(box) == ["run_up", "run_ending"]
    assert told(box, "camera")[-1] == told(box, "sink")[-1] == "node_done"


def test_a_paused_health_tells_later_and_down_is_not_delayed_by_it(box: Box) -> None:
    up = box.start("up", box.write_spec(SPEC % {"count": FOR_EVER}))
    box.wait_running("watched")
    wait_until("the run to be told", lambda: "run_up" in told(box))
    box.run("pause", "health")
    before = len(lines(box))
    box.run("pause", "pass")
    assert len(lines(box)) <= before + 1  # what was already on its way
    box.run("resume", "health")
    wait_until("the pauses to be told", lambda: "node_paused" in told(box, "pass"))
    box.run("down", "watched")
    assert up.wait(60) == 0
    assert_whole(box)


def test_streamctl_shows_events_and_follows_until_the_end(box: Box) -> None:
    box.start("up", box.write_spec(SPEC % {"count": FOR_EVER}))
    box.wait_running("watched")
    follower = box.start("events", "-f", "--json")
    wait_until("the follower to show that the run is up", lambda: '"run_up"' in box.output(1))
    kill(box, "pass")
    wait_until("the crash to be shown", lambda: '"node_restarting"' in box.output(1))
    shown = box.run("events", "watched", "--level", "warning")
    assert [line.split()[1:4] for line in shown.stdout.splitlines()] == [["WARNING", "node_restarting", "pass:"]]
    newest = json.loads(box.output(1).splitlines()[-1])["number"]
    assert box.run("events", "--since", newest - 1).stdout.count("\n") >= 1
    assert box.run("events", "--since", "tomorrow").returncode == 2
    box.run("down", "watched")
    assert follower.wait(60) == 0
    seen = [json.loads(line) for line in box.output(1).splitlines()]
    assert [event["number"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["event"] == "run_ended"
    gone = box.run("events", "watched")
    assert (gone.returncode, "no run 'watched' found" in gone.stderr) == (3, True)


def test_an_edge_that_drops_is_two_events_and_the_events_about_it_are_no_flood(box: Box, monkeypatch: Any) -> None:
    # The edge that carries the events drops them itself here, and tells of that.
    spec = SPEC.replace("{from: pass, to: sink}", "{from: pass, to: sink, policy: drop_new, depth: 1}").replace("debug.null", "debug.slow")
    spec = spec.replace("{from: health, to: file}", "{from: health, to: file, policy: drop_new, depth: 1}")
    box.start("up", box.write_spec(spec % {"count": 300}))
    box.wait_running("watched")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(box.runtime))
    with connect("watched") as client:
        wait = {"since": 0, "wait_s": 30.0, "timeout_s": 40.0}
        seen: list[dict[str, Any]] = []
        while not any(event["event"] == "edge_dropping" for event in seen):
            seen += (reply := client.request("events", **wait))["events"]
            wait["since"] = reply["next"]
    box.run("down", "watched")
    dropping = [event["edge"] for event in seen if event["event"] == "edge_dropping"]
    assert len(dropping) == len(set(dropping))


SLEEPER = '''
import time
from streamcore import Node, Port


class Sleeper(Node):
    """Takes long over its first packet, and for ever over the second."""

    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}
    count = 0

    def process(self, packet):
        Sleeper.count += 1
        time.sleep(3 if Sleeper.count == 1 else 1000 if Sleeper.count == 2 else 0)
        yield packet.derive(payload={"n": 1})
'''


def test_a_node_that_stalls_is_told_before_it_hangs(box: Box) -> None:
    (box.folder / "sleeper.py").write_text(SLEEPER)
    box.env["PYTHONPATH"] = str(box.folder)
    spec = SPEC.replace("drain_s: 20", "allow: [sleeper]").replace("plugin: flow.forward", "plugin: 'sleeper:Sleeper', progress_s: 4")
    up = box.start("up", box.write_spec(spec % {"count": FOR_EVER}))
    wait_until("the hang and the next process to be told", lambda: told(box, "pass").count("node_ready") == 2)
    box.run("down", "--now", "watched")
    up.wait(60)
    story = ["node_stalled", "node_moving", "node_stalled", "node_hung", "node_restarting"]
    assert [event for event in told(box, "pass") if event in story][: len(story)] == story
    stalled = next(line["payload"] for line in lines(box) if line["payload"]["event"] == "node_stalled")
    assert stalled["detail"].startswith("process() has not returned for ")


def test_a_disk_that_is_nearly_full_is_told(box: Box) -> None:
    with small_file_system(box.folder / "small") as folder:
        if os.stat(folder).st_dev == os.stat(box.folder).st_dev:
            pytest.skip("nothing may be mounted here")
        (folder / "big").write_bytes(b"x" * round(0.85 * SMALL_BYTES))
        spec = SPEC.replace("path: health.jsonl", "path: small/health.jsonl") % {"count": FOR_EVER}
        up = box.start("up", box.write_spec(spec))
        told_file = folder / "health.jsonl"
        wait_until("the disk to be told", lambda: told_file.exists() and "disk_filling" in told_file.read_text())
        box.run("down", "watched")
        assert up.wait(60) == 0
        (event,) = (json.loads(line)["payload"] for line in told_file.read_text().splitlines() if "disk_" in line)
    assert (event["event"], event["value"], event["path"]) == ("disk_filling", 80, str(told_file))


def test_the_example_tells_into_its_file(box: Box) -> None:
    done = box.run("up", SPECS / "health.yaml", "--set", "count=60", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["payload"] for line in Path(box.folder / "health.jsonl").read_text().splitlines()]
    assert {"run_up", "run_ending", "node_done", "edge_dropping"} <= {event["event"] for event in found}
