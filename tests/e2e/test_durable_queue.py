"""durable.queue in real runs: killed whole, killed alone, in front of a sink that fails, that stands still, and with too little room."""

from __future__ import annotations

import json
import os
import signal

import pytest
from boxes import Box, jsonl, wait_until

NODES = '''
"""Sinks that behave badly."""
import json
from pathlib import Path
from streamcore import Node, Port, Sink


class Fails(Node):
    """Refuses the payloads whose n is in `numbers`, each `times` times."""

    inputs = {"in": Port("any", "json")}
    outputs = {"out": Port("any", "json")}
    config = {"numbers": {"type": "list", "default": []}, "times": {"type": "integer", "default": 1}}

    def setup(self):
        self.left = {number: self.config["times"] for number in self.config["numbers"]}

    def process(self, packet):
        if self.left.get(packet.payload["n"], 0):
            self.left[packet.payload["n"]] -= 1
            raise OSError("503")
        return packet.derive(payload=packet.payload)
'''

STORE = """
version: 2
name: store-and-forward
params: {count: 1000, rate: 0.0, work_ms: 0.0, folder: ./data}
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: "${count}", rate: "${rate}"}}
  - {id: outbox, plugin: durable.queue, config: {path: "${folder}/outbox", max_bytes: 64MiB, retain_bytes: 1MiB}}
  - {id: backend, plugin: debug.slow, config: {work_ms: "${work_ms}"}, progress_s: 3600}
  - {id: file, plugin: file.jsonl, config: {path: "${folder}/events.jsonl"}}
edges:
  - {from: events, to: outbox}
  - {from: outbox, to: backend}
  - {from: backend, to: file}
"""


def sequences(path) -> list[int]:
    return [line["meta"]["durable"]["sequence"] for line in jsonl(path)]


def queue_facts(box: Box, path: str) -> dict:
    found = box.look("queue", "ls", path)
    return found["queues"][0] if found else {"waiting": -1}


def balanced(box: Box, report) -> bool:
    found = json.loads((box.folder / report).read_text())
    return bool(found["account"]["balanced"]) and found["status"] == "ok"


def test_events_that_waited_when_everything_was_killed_arrive_once_and_in_order(box):
    spec = box.write_spec(STORE)
    box.start("up", spec, "--set", "work_ms=60000", "--set", "count=3000")
    wait_until("all events to be stored", lambda: queue_facts(box, "data/outbox")["waiting"] == 3000)
    box.kill_all()
    assert jsonl(box.folder / "data/events.jsonl") == []
    done = box.run("up", spec, "--set", "count=3000", "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sequences(box.folder / "data/events.jsonl") == [*range(1, 3001)]  # the 3,000 that came again were known by their ids
    assert balanced(box, "report.json")
    facts = queue_facts(box, "data/outbox")
    assert (facts["waiting"], facts["counters"]["acknowledged"], facts["counters"]["duplicates"]) == (0, 3000, 3000)
    assert box.run("queue", "check", "data/outbox").returncode == 0


def test_kills_while_events_flow_lose_repeat_and_reorder_nothing_at_the_sink(box):
    spec = box.write_spec(STORE)
    file = box.folder / "data/events.jsonl"
    for life in range(4):
        box.start("up", spec, "--set", "count=4000", "--set", "work_ms=0.3")
        wait_until("some events to arrive", lambda least=300 * (life + 1): file.exists() and len(file.read_bytes()) > least * 300)
        box.kill_all()
    assert box.run("up", spec, "--set", "count=4000").returncode == 0
    assert sequences(file) == [*range(1, 4001)]
    assert [line["payload"]["n"] for line in jsonl(file)] == [*range(4000)]


def test_a_run_with_a_backlog_ends_when_it_is_told_to_and_the_next_one_delivers_the_rest(box):
    spec = box.write_spec(STORE)
    up = box.start("up", spec, "--set", "count=4000", "--set", "work_ms=5", "--report", "report.json")

    def has_backlog() -> bool:
        facts = queue_facts(box, "data/outbox")
        return facts["waiting"] > 1500 and facts["acked"] > 20

    wait_until("events to be delivered while many others wait", has_backlog)
    assert box.run("down", "store-and-forward").returncode == 0
    assert up.wait(60) == 0 and "not drained" not in box.output(), box.output()
    report = json.loads((box.folder / "report.json").read_text())
    assert (report["status"], report["account"]["lost"]) == ("ok", {})
    left = queue_facts(box, "data/outbox")["waiting"]
    assert left > 1000
    assert len(sequences(box.folder / "data/events.jsonl")) + left == report["metrics"]["packets.source_emitted_total"]


def test_the_queue_killed_alone_goes_on_within_the_run(box):
    spec = box.write_spec(STORE)
    up = box.start("up", spec, "--set", "count=3000", "--set", "rate=1000", "--set", "work_ms=0.2", "--report", "report.json")
    for kills in range(3):

        def alive(least: int = kills) -> int | None:
            found = box.ps("store-and-forward")
            nodes = {node["id"]: node for node in found["nodes"]} if found else {}
            outbox = nodes.get("outbox")
            return outbox["pid"] if outbox and outbox["state"] == "READY" and outbox["restarts"] == least else None

        os.kill(wait_until("the queue to be ready", alive), signal.SIGKILL)
    assert up.wait(60) == 0, box.output()
    assert sequences(box.folder / "data/events.jsonl") == [*range(1, 3001)]
    assert queue_facts(box, "data/outbox")["waiting"] == 0


SPEC = """
version: 2
name: q
allow: [bad_sinks]
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: %(count)d, bytes: %(bytes)d}}
  - {id: outbox, plugin: durable.queue, config: {path: q, max_bytes: 4MiB, retry_s: 0.05, %(config)s}}
  - {id: backend, plugin: "%(plugin)s"}
  - {id: file, plugin: file.jsonl, config: {path: out.jsonl}}
edges:
  - {from: events, to: outbox}
  - {from: outbox, to: backend}
  - {from: backend, to: file}
"""


@pytest.mark.parametrize("sync", ["commit", "pipelined"])
def test_more_than_fits_waits_at_the_producer_and_all_of_it_arrives(box, sync):
    spec = box.write_spec(SPEC % {"count": 1000, "bytes": 20_000, "config": f"sync: {sync}", "plugin": "debug.slow"})
    spec.write_text(spec.read_text().replace('"debug.slow"', "debug.slow, config: {work_ms: 1}"))
    done = box.run("up", spec, "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sequences(box.folder / "out.jsonl") == [*range(1, 1001)]
    assert balanced(box, "report.json")
    assert (box.folder / "q" / "data.mdb").stat().st_size <= 4 << 20


@pytest.mark.parametrize(("config", "dead"), [("in_flight: 1", 0), ("in_flight: 1, max_attempts: 2", 2)])
def test_what_a_sink_refuses_is_tried_again_in_its_place_or_becomes_a_dead_letter(box, importable, config, dead):
    (box.folder / "bad_sinks.py").write_text(NODES)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), os.environ.get("PYTHONPATH")]))
    plugin = '"bad_sinks:Fails", config: {numbers: [3, 7], times: 3}'
    spec = box.write_spec(SPEC % {"count": 20, "bytes": 100, "config": config, "plugin": "x"})
    spec.write_text(spec.read_text().replace('"x"', plugin))
    done = box.run("up", spec)
    assert done.returncode == 0, done.stdout + done.stderr
    found = jsonl(box.folder / "out.jsonl")
    assert [line["payload"]["n"] for line in found] == [n for n in range(20) if not dead or n not in (3, 7)]
    attempts = {line["payload"]["n"]: line["meta"]["durable"]["attempt"] for line in found}
    assert dead or (attempts[3], attempts[7], attempts[4]) == (4, 4, 1)
    assert queue_facts(box, "q")["dead"] == dead


def test_edges_behind_a_queue_complete_on_delivery(box):
    plan = json.loads(box.run("plan", box.write_spec(STORE), "--json").stdout)
    edges = plan.get("edges") or plan["plan"]["edges"]
    assert {(edge["from_node"], edge["completion"]) for edge in edges} == {
        ("events", "hop"),
        ("outbox", "delivered"),
        ("backend", "delivered"),
    }
