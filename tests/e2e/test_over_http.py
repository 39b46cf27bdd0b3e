"""A real run looked at over HTTP: its numbers agree with the witness, go on after a kill, and nothing listens once it has ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from typing import Any

import psutil
import pytest
from boxes import Box, jsonl, wait_until
from prometheus_client.parser import text_string_to_metric_families
from receiving import Receiving

from streamcore.telemetry import names

SPEC = """
version: 2
name: seen
http: 0
nodes:
  - {id: camera, plugin: synthetic.frames, config: {payload: json, count: %(count)d, rate: %(rate)d}}
  - {id: pass, plugin: flow.forward}
  - {id: sink, plugin: debug.hash, config: {path: seen.jsonl}}
  - {id: gate, plugin: flow.forward}
  - {id: end, plugin: debug.null}
edges:
  - {from: camera, to: pass}
  - {from: pass, to: sink}
  - {from: pass, to: gate}
  - {from: gate, to: end}
"""
EVERYTHING = """
version: 2
name: seen
http: 0
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, rate: 200}}
  - {id: outbox, plugin: durable.queue, config: {path: q, max_bytes: 16MiB}}
  - {id: server, plugin: http.post, config: {url: "%(url)s"}}
  - {id: tape, plugin: durable.record, config: {path: tape}}
  - {id: again, plugin: durable.replay, config: {path: %(replay)s}}
  - {id: end, plugin: debug.null}
  - {id: other, plugin: debug.null}
edges:
  - {from: events, to: outbox}
  - {from: outbox, to: server}
  - {from: events, to: tape}
  - {from: events, to: end, policy: spill, spill: {path: spilled}}
  - {from: again, to: other}
"""
RECORD = """
version: 2
name: before
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: 20}}
  - {id: tape, plugin: durable.record, config: {path: before}}
edges: [{from: events, to: tape}]
"""


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def url_of(box: Box, run: str = "seen") -> str:
    """Once the run is up."""
    found: str = wait_until("the run to be up", lambda: (seen := box.ps(run)) and seen["state"] == "READY" and seen["http"])
    return found


def scrape(url: str) -> dict[str, dict[str, float]]:
    """Sample name to the value of each node or edge (or of what else its labels name)."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(get(f"{url}/metrics")[1]):
        for sample in family.samples:
            whose = sample.labels.get("edge") or sample.labels.get("node") or ""
            found.setdefault(sample.name, {})[whose + sample.labels.get("le", "") + sample.labels.get("name", "")] = sample.value
    return found


def test_the_counters_of_edges_agree_with_what_the_witness_counted_also_after_a_kill(box: Box) -> None:
    box.start("up", box.write_spec(SPEC % {"count": 0, "rate": 100}))
    url = url_of(box)
    killed = next(node for node in box.wait_running("seen")["nodes"] if node["id"] == "gate")
    wait_until("some packets", lambda: scrape(url)["streamcore_edge_taken_packets_total"]["pass.out->gate.in"] > 20)
    before = scrape(url)
    os.kill(killed["pid"], signal.SIGKILL)
    after = wait_until("the node to be restarted", lambda: (seen := scrape(url))["streamcore_node_restarts_total"]["gate"] and seen)
    for name, values in before.items():
        if name.endswith("_packets_total"):
            assert all(after[name][whose] >= value for whose, value in values.items()), name
    status, body = get(f"{url}/health")
    health = json.loads(body)
    assert (status, health["verdict"], health["nodes"]["gate"]["verdict"]) == (200, "degraded", "degraded")
    assert "SIGKILL" in health["reason"]
    assert box.run("pause", "camera", "--run", "seen").returncode == 0

    def quiet() -> dict[str, Any] | None:
        found = scrape(url)
        return found if not any(found["streamcore_edge_in_flight_packets"].values()) else None

    found = wait_until("the graph to be quiet", quiet)
    lines = jsonl(box.folder / "seen.jsonl")
    assert len(lines) == len({line["packet_id"] for line in lines}) > 20
    for name in ("sent", "taken", "completed"):
        assert found[f"streamcore_edge_{name}_packets_total"]["pass.out->sink.in"] == len(lines), name
    assert found["streamcore_node_consumed_packets_total"]["sink"] == len(lines)
    buckets = found["streamcore_edge_wait_seconds_bucket"]
    assert buckets["pass.out->sink.in+Inf"] == found["streamcore_edge_wait_seconds_count"]["pass.out->sink.in"]
    assert "it is paused" in json.loads(get(f"{url}/health")[1])["nodes"]["camera"]["reason"]


def test_a_run_is_ready_once_its_nodes_are_and_then_ends_with_nobody_listening(box: Box) -> None:
    process = box.start("up", box.write_spec(SPEC % {"count": 0, "rate": 50}))
    url = url_of(box)
    assert wait_until("readiness", lambda: (got := get(f"{url}/readyz"))[0] == 200 and got) == (200, "ready\n")
    assert get(f"{url}/healthz") == (200, "ok\n")
    assert get(f"{url}/nothing")[0] == 404
    assert url in box.run("ps", "seen").stdout
    assert box.output().startswith(f"metrics and health: {url}/\n")
    for node in box.wait_running("seen")["nodes"]:  # it is the coordinator that listens, and nobody else
        assert not listens(node["pid"], int(url.rpartition(":")[2]))
    box.run("down", "seen")
    assert process.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


def listens(pid: int, port: int) -> bool:
    return any(one.laddr and one.laddr.port == port for one in psutil.Process(pid).net_connections())


def test_every_promised_metric_is_there(box: Box) -> None:
    receiver = Receiving(box.folder)
    try:
        assert box.run("up", box.write_spec(RECORD)).returncode == 0
        box.start("up", box.write_spec(EVERYTHING % {"url": receiver.url, "replay": "before"}))
        url = url_of(box)
        wait_until("a delivery", lambda: scrape(url)["streamcore_post_delivered_packets_total"]["server"] > 0)
        found = scrape(url)
        for metric in names.METRICS:
            sample = f"{metric.name}_count" if metric.kind == names.HISTOGRAM else metric.name
            assert found.get(sample), f"{metric.name} is promised"
        assert (
            found["streamcore_queue_stored_records_total"].keys() == {"outbox", "end.spill"}
            or len(found["streamcore_queue_stored_records_total"]) == 2
        )
        assert found["streamcore_queue_stored_records_total"]["outbox"] > 0
        assert found["streamcore_recording_recorded_packets_total"]["tape"] > 0
        assert sum(found["streamcore_queue_used_bytes"].values()) > 0
    finally:
        receiver.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--http", "0.0.0.0:9100"), "found '0.0.0.0', expected a loopback address, or --http-exposed as well"),
        (("--http", "nine"), "found 'nine', expected PORT or HOST:PORT"),
        (("--http", "box.example.org:9100"), "expected an address such as 127.0.0.1, or localhost"),
        (("--http-exposed",), "--http-exposed is said of the host of --http, which is missing"),
    ],
)
def test_where_it_may_not_listen_is_said_and_nothing_is_started(box: Box, words: tuple[str, ...], said: str) -> None:
    done = box.run("up", box.write_spec(SPEC % {"count": 1, "rate": 0}), *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(box.runtime.rglob("*"))


def test_a_port_that_is_taken_is_said_before_anything_starts(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for detach in ((), ("--detach",)):
            done = box.run("up", box.write_spec(SPEC % {"count": 1, "rate": 0}), "--http", address, *detach)
            assert (done.returncode, f"http {address}: Address already in use" in done.stderr) == (2, True), done.stderr
            assert "starting" not in done.stdout + done.stderr
    box.assert_nothing_left()


def test_a_host_beyond_loopback_is_warned_of(box: Box) -> None:
    done = box.run("up", box.write_spec(SPEC % {"count": 1, "rate": 0}), "--http", "0.0.0.0:0", "--http-exposed")
    assert done.returncode == 0
    assert "can be read by anybody who reaches this box" in done.stderr
