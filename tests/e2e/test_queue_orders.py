"""streamctl queue and dlq on queues of live runs: replay, retry and drop go through the run, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from boxes import Box, jsonl, wait_until

from streamcore.control.client import connect

NODES = '''
"""A backend that can be told what to do by files in the working directory."""
import os
import time
from streamcore import Node, Port, Source, StreamPacket


class Events(Source):
    """200 events, not all in one commit, then nothing until the run is stopped."""

    outputs = {"out": Port("event", "json")}

    def run(self):
        for n in range(200):
            yield StreamPacket.new(kind="event", source_id="till", payload={"n": n}, position=n)
            self.wait_until(time.monotonic_ns() + 2_000_000)
        self.wait_until(time.monotonic_ns() + 10**15)


class Backend(Node):
    """Refuses payloads with n in the file `refuse`; is away while there is a file `away`."""

    inputs = {"in": Port("any", "json")}
    outputs = {"out": Port("any", "json")}

    def process(self, packet):
        if os.path.exists("away"):
            raise OSError("503")
        if os.path.exists("refuse") and str(packet.payload["n"]) in open("refuse").read().split():
            raise OSError("400")
        return packet.derive(payload=packet.payload)
'''
SPEC = """
version: 2
name: shop
allow: [backends]
nodes:
  - {id: events, plugin: "backends:Events"}
  - id: outbox
    plugin: durable.queue
    config: {path: data/q, max_bytes: 16MiB, retain_bytes: 4MiB, retry_s: 0.05, retry_max_s: 0.1, max_attempts: 2}
  - {id: backend, plugin: "backends:Backend"}
  - {id: file, plugin: file.jsonl, config: {path: out.jsonl}}
edges:
  - {from: events, to: outbox}
  - {from: outbox, to: backend}
  - {from: backend, to: file}
"""


@pytest.fixture
def shop(box: Box) -> Box:
    """A run that does not end by itself."""
    (box.folder / "backends.py").write_text(NODES)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), os.environ.get("PYTHONPATH")]))
    box.write_spec(SPEC)
    return box


def facts(box: Box) -> dict:
    found = box.look("queue", "ls", "outbox", "--run", "shop")
    return found["queues"][0] if found else {"waiting": -1, "acked": -1, "dead": -1}


def say(box: Box, *words: object, status: int = 0) -> str:
    done = box.run(*words)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def lines(box: Box) -> list[tuple[int, bool]]:
    return [(line["meta"]["durable"]["sequence"], line["meta"]["durable"]["replayed"]) for line in jsonl(box.folder / "out.jsonl")]


def end(box: Box) -> None:
    say(box, "down", "shop")
    box.assert_nothing_left()


def test_exactly_the_span_that_was_chosen_is_delivered_again_with_its_ids(shop):
    shop.start("up", "spec.yaml")
    wait_until("all events to be delivered", lambda: facts(shop)["acked"] == 200)
    assert facts(shop)["node"] == "outbox" and "shop/outbox" in say(shop, "queue", "ls")
    stored = {
        record["sequence"]: (record["stored"], record["id"])
        for record in json.loads(say(shop, "queue", "peek", "outbox", "--run", "shop", "--state", "acked", "--count", 500, "--json"))[
            "records"
        ]
    }
    first, last = stored[50][0], stored[150][0]
    chosen = [sequence for sequence, (at, _) in stored.items() if first <= at < last]
    span = ("queue", "replay", "outbox", "--run", "shop", "--from", first, "--to", last)
    assert "say --yes" in say(shop, *span, "--kind", "event", status=2)
    assert json.loads(say(shop, *span, "--dry-run", "--json"))["found"] == len(chosen)
    assert "no such retained records" in say(shop, *span, "--kind", "other", "--yes")
    assert json.loads(say(shop, *span, "--kind", "event", "--yes", "--json"))["done"] == len(chosen)
    wait_until("the replay to arrive", lambda: len(lines(shop)) == 200 + len(chosen))
    assert lines(shop)[200:] == [(sequence, True) for sequence in chosen]
    assert [line["meta"]["durable"]["id"] for line in jsonl(shop.folder / "out.jsonl")[200:]] == [stored[n][1] for n in chosen]
    # A second time, and by the folder: the run is found by it.
    say(shop, "queue", "replay", "data/q", "--sequence", "7-9", "--yes")
    wait_until("the second replay to arrive", lambda: lines(shop)[200 + len(chosen) :] == [(7, True), (8, True), (9, True)])
    end(shop)


def test_dead_letters_are_retried_and_what_waits_is_dropped_in_a_live_run(shop):
    (shop.folder / "refuse").write_text("3 17")
    shop.start("up", "spec.yaml")
    wait_until("two dead letters", lambda: facts(shop)["dead"] == 2 and facts(shop)["waiting"] == 0)
    dead = [
        record["sequence"]
        for record in json.loads(say(shop, "queue", "peek", "outbox", "--run", "shop", "--state", "dead", "--json"))["records"]
    ]
    (shop.folder / "refuse").unlink()
    assert "1 done" in say(shop, "queue", "retry", "outbox", "--run", "shop", "--sequence", dead[0], "--yes")
    wait_until("the retry to arrive", lambda: (dead[0], False) in lines(shop))
    assert jsonl(shop.folder / "out.jsonl")[-1]["meta"]["durable"]["attempt"] == 1
    (letter,) = json.loads(say(shop, "dlq", "list", "shop", "--json"))["letters"]
    assert (letter["type"], letter["letter_id"], letter["node"], letter["failures"]) == ("record", f"outbox:{dead[1]}", "outbox", 2)
    assert '"n": 17' in say(shop, "dlq", "show", f"outbox:{dead[1]}", "--run", "shop")
    assert "queued again" in say(shop, "dlq", "redrive", "--all", "--yes", "--run", "shop")
    wait_until("the redrive to arrive", lambda: (dead[1], False) in lines(shop))
    (shop.folder / "refuse").write_text("5")
    say(shop, "queue", "replay", "outbox", "--run", "shop", "--sequence", "6", "--yes")
    wait_until("a replay to become a dead letter", lambda: facts(shop)["dead"] == 1)
    assert "say --yes" in say(shop, "dlq", "drop", "--all", "--run", "shop", status=2)
    assert "1 dead letter removed" in say(shop, "dlq", "drop", "outbox:6", "--run", "shop")
    assert say(shop, "dlq", "list", "shop") == "run shop: no dead letters\n"
    # The backend is away: what is replayed waits, then it is dropped although some of it is under way.
    say(shop, "pause", "backend", "--run", "shop")
    say(shop, "queue", "replay", "outbox", "--run", "shop", "--sequence", "100-", "--yes")
    waiting = wait_until("the replay to wait", lambda: facts(shop)["waiting"])
    assert f"would drop {waiting} waiting records" in say(shop, "queue", "drop", "outbox", "--run", "shop", "--state", "waiting", status=2)
    assert json.loads(say(shop, "queue", "drop", "outbox", "--run", "shop", "--state", "waiting", "--yes", "--json"))["done"] == waiting
    assert (facts(shop)["waiting"], facts(shop)["counters"]["removed"]) == (0, waiting + 1)
    say(shop, "resume", "backend", "--run", "shop")
    end(shop)
    assert say(shop, "queue", "check", "data/q").endswith("all of it is whole\n")
    assert "dlq list --queue FOLDER" in say(shop, "dlq", "list", "shop")  # it has ended, so its queues are not looked into


def test_a_node_that_dies_over_an_order_and_a_killed_asker_leave_everything_whole(shop, monkeypatch):
    shop.start("up", "spec.yaml")
    wait_until("all events to be delivered", lambda: facts(shop)["acked"] == 200)
    outbox = next(node for node in shop.wait_running("shop")["nodes"] if node["id"] == "outbox")
    # The node stands still, so the order is under way when the asker is killed, and another one when the node dies.
    os.kill(outbox["pid"], signal.SIGSTOP)
    command = [sys.executable, "-m", "streamcore", "queue", "replay", "outbox", "--run", "shop", "--sequence", "1-50", "--yes", "--debug"]
    askers = [
        subprocess.Popen(command, cwd=shop.folder, env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    monkeypatch.setenv("XDG_RUNTIME_DIR", shop.env["XDG_RUNTIME_DIR"])
    with connect("shop") as client:
        wait_until("both orders to be under way", lambda: client.request("ping")["orders"] == 2)
    askers[0].kill()
    askers[0].wait(60)
    os.kill(outbox["pid"], signal.SIGKILL)
    said, _ = askers[1].communicate(timeout=60)
    assert askers[1].returncode == 1 and "ended before it answered" in said and "0 of 50 are done for certain" in said, said
    wait_until("the next incarnation", lambda: shop.wait_running("shop") and facts(shop)["acked"] == 200)
    say(shop, "queue", "replay", "outbox", "--run", "shop", "--sequence", "1-50", "--yes")
    wait_until("the replay to arrive", lambda: len(lines(shop)) == 250)
    assert lines(shop)[200:] == [(number, True) for number in range(1, 51)]
    end(shop)
    assert say(shop, "queue", "check", "data/q").endswith("all of it is whole\n")
