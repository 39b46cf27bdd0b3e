"""`outbox` and `policy: spill` in real runs: consumers that are slow, keep up, or fail for a while, and kills of everything."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest
from boxes import Box, jsonl, wait_until

NODES = '''
"""A consumer that can be held up from outside, and a sink that refuses for a while."""
import time
from pathlib import Path
from streamcore import Node, Port, Sink


class Gate(Node):
    """Passes packets on, each after `work_ms`, and none while the file `shut` is there."""

    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}
    config = {"work_ms": {"type": "number", "default": 0}, "shut": {"type": "string", "default": "shut"}}

    def process(self, packet):
        while Path(self.config["shut"]).exists() and not self.stopping:
            time.sleep(0.005)
        time.sleep(self.config["work_ms"] / 1000)
        return packet.derive(payload=packet.payload)


class Away(Sink):
    """Appends n to `path`; refuses while the file `away` is there."""

    inputs = {"in": Port("any", "json")}

    def process(self, packet):
        if Path("away").exists():
            raise OSError("503")
        with open("sent", "a") as file:
            print(packet.payload["n"], file=file)
'''
SPEC = """
version: 2
name: disk
drain_s: 20
allow: [gates]
nodes:
  - {id: frames, plugin: synthetic.frames, config: {%(frames)s}}
  - {id: gate, plugin: "gates:Gate", config: {%(gate)s}, restart: {max_restarts: 100}}
  - {id: file, plugin: debug.hash, config: {path: out.jsonl}}
edges:
  - {from: frames, to: gate, policy: spill, spill: {%(spill)s}}
  - {from: gate, to: file}
"""


@pytest.fixture
def gates(box: Box, importable) -> Box:
    (box.folder / "gates.py").write_text(NODES)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), os.environ.get("PYTHONPATH")]))
    box.env["XDG_STATE_HOME"] = str(box.folder / "state")
    return box


def spill_spec(box: Box, frames: str, gate: str = "", spill: str = ""):
    return box.write_spec(SPEC % {"frames": frames, "gate": gate, "spill": spill})


def report_of(box: Box) -> dict:
    return json.loads((box.folder / "report.json").read_text())


def spilled(box: Box) -> float:
    return report_of(box)["metrics"]["node.gate.spill.metric.spilled"]


def numbers(box: Box) -> list[int]:
    """The frames that arrived, in their order, each once: a repeat is told by its id, and flagged."""
    seen: dict[str, dict] = {}
    for line in jsonl(box.folder / "out.jsonl"):
        if line["packet_id"] in seen:
            assert line["redelivered"], line
        seen.setdefault(line["packet_id"], line)
    return [line["frame"] for line in seen.values()]


def store_counters(box: Box, path: str = "state/streamcore/disk/frames--gate") -> dict:
    done = box.run("queue", "ls", path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["queues"][0]


def pid_of(box: Box, node: str, run: str = "disk") -> Callable[[], int | None]:
    def pid() -> int | None:
        found = box.ps(run)
        rows = {row["id"]: row for row in found["nodes"]} if found else {}
        return rows[node]["pid"] if node in rows and rows[node]["state"] == "READY" else None

    return pid


def test_a_consumer_that_keeps_up_leaves_the_disk_alone(gates):
    # Frames are references as long as nothing waits; a copy or a write per frame would be the price for all, not for the slow.
    spec = spill_spec(gates, "count: 300, rate: 150, width: 64, height: 48")
    done = gates.run("up", spec, "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(gates) == [*range(300)]
    metrics = report_of(gates)["metrics"]
    assert (metrics["node.gate.spill.metric.spilled"], metrics["node.gate.spill.copied"]) == (0, 0)
    assert store_counters(gates)["counters"]["appended"] == 0


@pytest.mark.parametrize("payload", ["frame", "json", "bytes"])
def test_what_a_slow_consumer_leaves_waits_on_the_disk_and_comes_in_order_bit_for_bit(gates, payload):
    (gates.folder / "shut").touch()
    spec = spill_spec(gates, f"payload: {payload}, count: 600, bytes: 3000, width: 64, height: 48", spill="wait_s: 0.01")
    up = gates.start("up", spec, "--report", "report.json")
    wait_until("the source to end although its consumer stands still", lambda: "frames: draining" in gates.output())
    waiting = wait_until("most of it to be on the disk", lambda: (found := _waiting(gates)) > 300 and found)
    (gates.folder / "shut").unlink()
    assert up.wait(60) == 0, gates.output()
    found = jsonl(gates.folder / "out.jsonl")
    assert len({line["packet_id"] for line in found}) == len(found) == 600
    metrics, account = report_of(gates)["metrics"], report_of(gates)["account"]
    assert metrics["node.gate.spill.metric.spilled"] >= waiting
    assert metrics["node.gate.spill.metric.waiting"] == 0
    assert account["balanced"]
    alone = gates.folder / "alone.jsonl"
    plain = spec.read_text().replace(", policy: spill, spill: {wait_s: 0.01}", "").replace("out.jsonl", "alone.jsonl")
    assert gates.run("up", gates.write_spec(plain, "plain.yaml")).returncode == 0
    assert [line["hash"] for line in found] == [line["hash"] for line in jsonl(alone)]  # as over an edge that blocks


def test_an_edge_forwards_again_when_all_is_back(gates):
    (gates.folder / "shut").touch()
    spec = spill_spec(gates, "count: 1500, rate: 300, width: 32, height: 32", spill="wait_s: 0.01")
    up = gates.start("up", spec, "--report", "report.json")
    wait_until("packets to be on the disk", lambda: (gates.ps("disk") or {}) and _waiting(gates) > 100)
    (gates.folder / "shut").unlink()
    assert up.wait(60) == 0, gates.output()
    assert numbers(gates) == [*range(1500)]
    assert 100 < spilled(gates) < 1400


def _waiting(box: Box, store: str = "disk/frames--gate") -> int:
    found = box.look("queue", "ls", f"state/streamcore/{store}")
    return int(found["queues"][0]["waiting"]) if found else 0


@pytest.mark.parametrize("victims", [["gate.spill"], ["gate.spill", "gate", "frames"]], ids="+".join)
def test_kills_lose_nothing_and_turn_nothing_round(gates, victims):
    shut = gates.folder / "shut"
    shut.touch()
    spec = spill_spec(gates, "count: 3000, rate: 300, width: 64, height: 48", "work_ms: 1", "wait_s: 0.01")
    up = gates.start("up", spec, "--report", "report.json")
    wait_until("packets on the disk", lambda: _waiting(gates) > 20)
    killed: set[int] = set()
    for kill in range(5):  # while the edge is full, and while what is stored comes back
        (shut.unlink if kill % 2 else shut.touch)()
        victim = victims[kill % len(victims)]
        pid = wait_until(f"{victim} to be ready", lambda: (found := pid_of(gates, victim)()) not in killed and found)  # noqa: B023
        killed.add(pid)  # it is called ready until its end has been seen
        os.kill(pid, signal.SIGKILL)
    shut.unlink()
    assert up.wait(90) == 0, gates.output()
    found = numbers(gates)
    assert found == [*range(3000)], [pair for pair in pairwise(found) if pair[1] != pair[0] + 1][:5]
    assert spilled(gates) > 20
    assert report_of(gates)["account"]["balanced"]
    assert store_counters(gates)["waiting"] == 0


def test_what_is_stored_when_everything_is_killed_is_delivered_first_by_the_next_run(gates):
    (gates.folder / "shut").touch()
    spec = spill_spec(gates, "count: 400, width: 64, height: 48", spill="wait_s: 0.01")
    gates.start("up", spec)
    waiting = wait_until("the source to end", lambda: "frames: draining" in gates.output() and (found := _waiting(gates)) > 200 and found)
    gates.kill_all()
    (gates.folder / "shut").unlink()
    assert gates.run("up", spec).returncode == 0
    arrived = [line["frame"] for line in jsonl(gates.folder / "out.jsonl")]
    assert arrived == [*range(400 - waiting, 400), *range(400)]  # the new run's frames have the same ids, and are others


def test_a_stop_leaves_the_rest_to_the_next_run(gates):
    (gates.folder / "shut").touch()
    spec = spill_spec(gates, "count: 0, rate: 300, width: 64, height: 48", spill="wait_s: 0.01")
    up = gates.start("up", spec)
    wait_until("packets on the disk", lambda: _waiting(gates) > 100)
    assert gates.run("down", "disk").returncode == 0
    assert up.wait(30) == 0, gates.output()
    left, before = _waiting(gates), len(jsonl(gates.folder / "out.jsonl"))
    assert left > 50
    (gates.folder / "shut").unlink()
    assert gates.run("up", gates.write_spec(spec.read_text().replace("count: 0", "count: 1"))).returncode == 0
    assert [line["frame"] for line in jsonl(gates.folder / "out.jsonl")] == [*range(before + left), 0]


def test_a_second_run_with_the_same_folder_is_refused_and_told_who_has_it(gates):
    spec = spill_spec(gates, "count: 0, rate: 10", spill="path: here")
    gates.start("up", spec)
    owner = wait_until("the first run to be up", pid_of(gates, "gate.spill"))
    done = gates.run("up", gates.write_spec(spec.read_text().replace("out.jsonl", "other.jsonl"), "other.yaml"), "--name", "second")
    assert done.returncode == 1
    assert f"here: process {owner} owns it" in done.stdout + done.stderr
    assert gates.run("down", "disk").returncode == 0


OUTBOX = """
version: 2
name: away
allow: [gates]
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: 300, rate: 300}}
  - {id: sink, plugin: "gates:Away"}
edges:
  - {from: events, to: sink, outbox: {in_flight: 1, retry_s: 0.05, retry_max_s: 0.1%s}}
"""


def test_an_outbox_delivers_when_its_sink_does_not_fail_any_more(gates):
    (gates.folder / "away").touch()
    up = gates.start("up", gates.write_spec(OUTBOX % ""), "--report", "report.json")
    wait_until("all events to wait", lambda: _waiting(gates, "away/events--sink") == 300)
    rows = {row["id"]: row for row in gates.ps("away")["nodes"]}
    assert rows["sink.outbox"]["state"] == "READY"
    (gates.folder / "away").unlink()
    assert up.wait(60) == 0, gates.output()
    assert (gates.folder / "sent").read_text().split() == [str(n) for n in range(300)]
    assert _waiting(gates, "away/events--sink") == 0
    assert report_of(gates)["account"]["balanced"]


def test_a_stop_does_not_wait_for_a_sink_that_is_away(gates):
    (gates.folder / "away").touch()
    up = gates.start("up", gates.write_spec(OUTBOX % ""), "--report", "report.json")
    wait_until("events to wait", lambda: _waiting(gates, "away/events--sink") > 50)
    assert gates.run("down", "away").returncode == 0
    assert up.wait(60) == 0, gates.output()
    assert "not drained" not in gates.output()
    waiting = _waiting(gates, "away/events--sink")
    (gates.folder / "away").unlink()
    assert gates.run("up", gates.write_spec((OUTBOX % "").replace("count: 300", "count: 1"))).returncode == 0
    assert (gates.folder / "sent").read_text().split() == [str(n) for n in range(waiting)]


def test_an_outbox_gives_up_after_the_attempts_that_it_is_given(gates):
    (gates.folder / "away").touch()
    spec = gates.write_spec((OUTBOX % ", max_attempts: 2").replace("count: 300", "count: 5"))
    assert gates.run("up", spec).returncode == 0
    found = store_counters(gates, "state/streamcore/away/events--sink")
    assert (found["waiting"], found["dead"]) == (0, 5)
