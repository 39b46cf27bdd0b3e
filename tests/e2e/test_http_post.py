"""Store and forward to a server, in real runs: it is away, killed, loses answers, refuses one event, or never takes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from boxes import SPECS, Box, wait_until
from receiving import Receiving

SPEC = """
version: 2
name: q
nodes:
  - {id: events, plugin: synthetic.frames, config: {payload: json, count: %(count)d, rate: %(rate)d}}
  - {id: outbox, plugin: durable.queue, config: {path: q, max_bytes: 16MiB, retry_s: 0.05, retry_max_s: 0.2, %(queue)s}}
  - {id: server, plugin: http.post, config: {url: "%(url)s", timeout_s: 5, backoff_s: 0.05, backoff_max_s: 0.2, %(server)s}}
edges:
  - {from: events, to: outbox}
  - {from: outbox, to: server}
"""


@pytest.fixture
def receiver(box) -> Iterator[Receiving]:
    made = Receiving(box.folder)
    yield made
    made.kill()


def spec(box: Box, receiver: Receiving, count: int, rate: int = 0, queue: str = "", server: str = "") -> Any:
    names = {"count": count, "rate": rate, "queue": queue, "server": server, "url": receiver.url}
    return box.write_spec((SPEC % names).replace(", }", "}"))


def queue_facts(box: Box, path: str = "q") -> dict[str, Any]:
    found = box.look("queue", "ls", path)
    return found["queues"][0] if found else {"waiting": -1}


def numbers(receiver: Receiving) -> list[int]:
    return [event["body"].get("n", event["body"].get("payload", {}).get("n")) for event in receiver.events()]


def test_events_of_a_time_without_server_reach_it_once_and_in_order_though_everything_was_killed(box, receiver):
    path, url = SPECS / "store_and_forward.yaml", f"url={receiver.url}"
    receiver.kill()
    box.start("up", path, "--set", "count=3000", "--set", url)
    wait_until("all events to be stored", lambda: queue_facts(box, "data/outbox")["waiting"] == 3000)
    box.kill_all()
    receiver.start()
    done = box.run("up", path, "--set", "count=3000", "--set", url, "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(receiver) == [*range(3000)]
    assert len({event["key"] for event in receiver.events()}) == 3000
    facts = queue_facts(box, "data/outbox")
    assert (facts["waiting"], facts["dead"]) == (0, 0)
    assert json.loads((box.folder / "report.json").read_text())["account"]["balanced"]


def test_a_server_that_is_killed_and_comes_back_gets_every_event_once_and_in_order(box, receiver):
    run = box.start("up", spec(box, receiver, 2500, rate=1000))
    for kills in range(3):
        receiver.wait_for(200 + 700 * kills)
        receiver.kill()
        before = len(receiver.events())
        wait_until("events to wait", lambda: queue_facts(box)["waiting"] > 200)
        receiver.start()
        receiver.wait_for(before + 100)
    assert run.wait(90) == 0, box.output()
    assert numbers(receiver) == [*range(2500)]
    assert queue_facts(box)["waiting"] == 0


@pytest.mark.parametrize("server", ["connections: 1", "connections: 4"])
def test_what_comes_again_because_answers_were_lost_is_known_by_its_key(box, receiver, server):
    receiver.tell("lose next=30")
    done = box.run("up", spec(box, receiver, 300, server=server))
    assert done.returncode == 0, done.stdout + done.stderr
    stats = receiver.stats()
    assert (stats["lost"], stats["distinct"], stats["received"]) == (30, 300, 330)
    assert sorted(numbers(receiver)) == [*range(300)]


def test_an_event_that_is_refused_is_a_dead_letter_after_one_attempt_and_holds_up_nobody(box, receiver):
    receiver.tell('fail 400 match="n":7,')
    done = box.run("up", spec(box, receiver, 500))
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(receiver) == [n for n in range(500) if n != 7]
    assert receiver.stats()["failed"] == 1
    facts = queue_facts(box)
    assert (facts["waiting"], facts["dead"]) == (0, 1)
    assert any(b"answered 400" in path.read_bytes() for path in box.runtime.rglob("*") if path.is_file())


def test_an_event_that_is_never_taken_is_tried_until_its_age_budget_ends(box, receiver):
    receiver.tell('fail 503 match="n":7,')
    done = box.run("up", spec(box, receiver, 500, queue="max_age_s: 1.5"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(receiver) == [n for n in range(500) if n != 7]  # it held up nobody
    assert receiver.stats()["failed"] > 3
    facts = queue_facts(box)
    assert (facts["waiting"], facts["dead"]) == (0, 1)


def test_a_server_that_takes_nothing_burns_the_attempts_of_hardly_any_event(box, receiver):
    receiver.tell("fail 503")
    run = box.start("up", spec(box, receiver, 500, queue="max_attempts: 3"))
    wait_until("the server to have been asked often", lambda: receiver.stats()["failed"] >= 12)
    receiver.tell("clear")
    assert run.wait(60) == 0, box.output()
    assert numbers(receiver) == [*range(500)]
    assert queue_facts(box)["dead"] == 0


def test_a_secret_header_reaches_the_server_and_nothing_that_is_written(box, receiver):
    box.env["TOKEN"] = "sesame-open-the-door"
    receiver.tell("fail 400 next=5")
    text = spec(box, receiver, 20, server='headers: {Authorization: "Bearer ${env:TOKEN}"}').read_text()
    path = box.write_spec(text.replace('"Bearer ${env:TOKEN}"', "!secret env:TOKEN"))
    done = box.run("up", path, "--report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    written = [item.read_bytes() for item in box.folder.rglob("*") if item.is_file()]
    assert not any(b"sesame" in raw for raw in [*written, done.stdout.encode(), done.stderr.encode()])
