"""tools/receiver: what it takes, how it misbehaves when told to, and that no bytes whatever end it."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from boxes import wait_until
from receiving import PROGRAM, WAIT_S, Receiving


@pytest.fixture
def receiver(tmp_path) -> Iterator[Receiving]:
    made = Receiving(tmp_path)
    yield made
    made.kill()


def post(receiver: Receiving, key: str, body: object = 1) -> int:
    """The status; 0: the connection was closed without one."""
    request = urllib.request.Request(receiver.url, json.dumps(body).encode(), {"Idempotency-Key": key})
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_what_is_answered_was_logged_once_also_across_a_kill(receiver):
    assert [post(receiver, key, {"n": key}) for key in "abab"] == [204] * 4
    assert (receiver.stats()["received"], receiver.stats()["distinct"], receiver.stats()["duplicates"]) == (4, 2, 2)
    assert receiver.stats(keys=True)["keys"] == {"a": 2, "b": 2}
    receiver.kill()
    with receiver.log.open("a") as log:
        log.write('{"key":"torn","at"')  # as a kill may leave it
    receiver.start()
    assert [post(receiver, key) for key in "bc"] == [204] * 2
    assert [(event["key"], event["body"]) for event in receiver.events()] == [("a", {"n": "a"}), ("b", {"n": "b"}), ("c", 1)]


def test_rules_fail_lose_hang_and_delay_what_fits_them_as_often_as_they_say(receiver):
    receiver.tell(
        "fail 503 next=2 retry-after=7", 'lose next=1 match="n": [34]', "hang 0.05 next=1 match=^h", "slow 0.05 next=1", "fail 400"
    )
    answers = [post(receiver, key, {"n": n}) for n, key in enumerate("aabcdhe")]
    assert answers == [503, 503, 204, 0, 400, 0, 400]
    stats = receiver.stats()
    assert (stats["failed"], stats["lost"], stats["hung"], stats["received"], stats["rules"]) == (4, 1, 1, 2, ["fail 400"])
    assert [event["key"] for event in receiver.events()] == ["b", "c"]  # what was lost had been taken
    assert receiver.tell("clear") == {"rules": []}
    assert post(receiver, "f") == 204


def test_a_wrong_rule_is_refused_with_what_is_wrong_and_nothing_of_it_is_taken_on(receiver):
    with pytest.raises(urllib.error.HTTPError) as caught:
        receiver.tell("fail 503", "fail many")
    assert "expected a number" in json.loads(caught.value.read())["error"]
    assert receiver.stats()["rules"] == []
    for rule in ("break", "fail", "fail 99", "slow x", "fail 503 sometimes", "hang 1 retry-after=2", "lose match=("):
        done = subprocess.run([sys.executable, PROGRAM, "--rule", rule], capture_output=True, text=True, timeout=WAIT_S)
        assert (done.returncode, "expected" in done.stderr) == (2, True), done.stderr


def test_away_closes_and_refuses_and_then_it_is_back_on_the_same_port(receiver):
    with socket.create_connection(("127.0.0.1", receiver.port), WAIT_S) as idle:
        receiver.tell("away 0.3")
        assert idle.recv(1) == b""
        assert post(receiver, "a") == 0
    wait_until("the receiver to be back", lambda: post(receiver, "a") == 204)


def test_no_garbage_ends_it_and_what_follows_is_taken(receiver):
    draw = random.Random(5)
    whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    for number in range(200):
        raw = bytearray(whole * 2 if number % 2 else draw.randbytes(300) + b"\r\n\r\n")
        for _ in range(3):
            at = draw.randrange(len(raw))
            raw[at : at + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
        with socket.create_connection(("127.0.0.1", receiver.port), WAIT_S) as client:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    for head in (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"x" * 40_000):
        with socket.create_connection(("127.0.0.1", receiver.port), WAIT_S) as client:
            client.sendall(head)
            assert client.recv(65536).split(b" ")[1] in (b"400", b"411", b"431")
    assert receiver.process.poll() is None
    assert post(receiver, "sound") == 204


def test_a_file_that_is_not_its_own_is_left_alone(tmp_path):
    (tmp_path / "notes").write_text("mine")
    command = [sys.executable, PROGRAM, "--log", tmp_path / "notes"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, (tmp_path / "notes").read_text()) == (1, "mine")
    assert "nothing is written to it" in done.stderr


def test_a_signal_ends_it_in_order(receiver):
    receiver.process.send_signal(signal.SIGTERM)
    assert receiver.process.wait(WAIT_S) == 0
