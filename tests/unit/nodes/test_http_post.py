"""http.post: what is sent, and what becomes of each answer."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from answering import Answering, reply
from posting import packet

# --- what is sent


def test_a_packet_is_posted_as_json_with_its_key(posting):
    with Answering() as server:
        given = packet({"a": [1, "ä"]})
        assert posting(server, headers={"Authorization": "Bearer abc"}).outcome(given) == "ok"
    (asked,) = server.asked
    assert asked.line == "POST /events?from=test HTTP/1.1"
    assert asked.body == '{"a":[1,"ä"]}'.encode()
    expected = {"Host": f"127.0.0.1:{server.port}", "Authorization": "Bearer abc", "Content-Type": "application/json"}
    expected |= {"Idempotency-Key": given.packet_id, "Content-Length": str(len(asked.body))}
    assert {name: value for name, value in asked.headers.items() if name != "User-Agent"} == expected
    assert asked.headers["User-Agent"].startswith("streamcore/")


def test_a_durable_queue_gives_the_key_and_the_number_of_the_attempt(posting):
    with Answering() as server:
        given = packet(attempt=3, replayed=True)
        given.redelivered = True
        post = posting(server, key_header="X-Request-Id")
        assert [post.outcome(given), post.outcome(packet(attempt=1))] == ["ok", "ok"]
    first, second = (asked.headers for asked in server.asked)
    assert first["X-Request-Id"] == second["X-Request-Id"] == "ab" * 16
    assert (first["X-Streamcore-Attempt"], first["X-Streamcore-Replayed"], first["X-Streamcore-Redelivered"]) == ("3", "1", "1")
    assert second["X-Streamcore-Attempt"] == "1"
    assert {"X-Streamcore-Replayed", "X-Streamcore-Redelivered", "Idempotency-Key"}.isdisjoint(second)


@pytest.mark.parametrize("found", ["a\r\nX-Evil: 1", "", "ä", "x" * 300, None, {}])
def test_a_key_that_no_header_may_have_is_replaced_by_the_packet_id(posting, found):
    with Answering() as server:
        posting(server).outcome(given := packet(id=found))
    assert server.asked[0].headers["Idempotency-Key"] == given.packet_id


def test_an_envelope_says_what_the_payload_does_not(posting):
    with Answering() as server:
        posting(server, body="envelope").outcome(given := packet({"n": 1}, attempt=1))
    found = json.loads(server.asked[0].body)
    assert found == {"id": "ab" * 16, "kind": "event", "source_id": "cam", "captured": given.ts, "payload": {"n": 1}}


def test_bytes_and_pictures_are_posted_as_they_are(posting):
    picture = np.zeros((8, 8, 3), "uint8")
    with Answering() as server:
        plain, png = posting(server), posting(server, codec="png", content_type="image/x-own")
        assert [plain.outcome(packet(b"\0\1")), plain.outcome(packet(memoryview(b"abc"))), png.outcome(packet(picture))] == ["ok"] * 3
    assert [asked.headers["Content-Type"] for asked in server.asked] == ["application/octet-stream"] * 2 + ["image/x-own"]
    assert [asked.body[:4] for asked in server.asked] == [b"\0\1", b"abc", b"\x89PNG"]


@pytest.mark.parametrize(
    ("payload", "config", "says"),
    [
        (float("nan"), {}, "JSON"),
        (np.zeros((2, 2), "uint8"), {}, "name a codec"),
        (np.zeros((2, 2), "float32"), {"codec": "png"}, "codec png: found float32 2x2"),
        (b"abc", {"body": "envelope"}, "found a payload of bytes, expected JSON for an envelope"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(posting, payload, config, says):
    # Behind a queue that retries for ever anything milder would be tried for ever.
    with Answering() as server:
        post = posting(server, **config)
        assert post.outcome(packet(payload)) == "refused"
        assert says in post.said
        assert post.outcome() == "ok"
    assert len(server.asked) == 1


# --- what becomes of an answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_2xx_has_taken_it(posting, status):
    with Answering([reply(status)]) as server:
        assert posting(server).outcome() == "ok"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451, 301, 302, 304, 307, 308])
def test_what_would_be_answered_the_same_again_is_refused(posting, status):
    with Answering([reply(status, b"too  \n bad")]) as server:
        post = posting(server)
        assert post.outcome() == "refused"
        assert f"answered {status}" in post.said and (status < 400 or post.said.endswith(": too bad"))
        assert post.outcome() == "ok"  # the same connection, and no breaker in the way


@pytest.mark.parametrize("status", [408, 425, 500, 501, 502, 503, 504, 507, 599])
def test_what_may_be_taken_later_has_failed_and_the_next_packet_is_sent(posting, status):
    with Answering([reply(status, b"busy")]) as server:
        post = posting(server)
        assert [post.outcome(), post.outcome()] == ["failed", "ok"]
        assert post.said == f"http://127.0.0.1:{server.port} answered {status}: busy"


def test_retry_statuses_may_be_others(posting):
    with Answering([reply(401), reply(408)]) as server:
        post = posting(server, retry_statuses=[401])
        assert [post.outcome(), post.outcome()] == ["failed", "refused"]


def test_429_says_that_the_server_takes_nothing_now(posting):
    with Answering([reply(429)]) as server:
        post = posting(server, backoff_s=100, backoff_max_s=100)
        assert [post.outcome(), post.outcome()] == ["away", "away"]
        assert len(server.asked) == 1


def test_a_redirect_says_where_to_and_is_not_followed(posting):
    with Answering() as other, Answering([reply(308, Location=f"{other.url}&token=abc")]) as server:
        post = posting(server)
        assert post.outcome() == "refused"
        assert f"it has moved to http://127.0.0.1:{other.port}/events; name that in `url`" in post.said
    assert other.asked == []


def test_retry_after_keeps_every_packet_waiting_up_to_the_bound(posting):
    with Answering([reply(503, Retry_After=100), reply(503, Retry_After=100)]) as server:
        post = posting(server)
        assert [post.outcome(), post.outcome(), post.outcome()] == ["failed", "away", "away"]
        assert 90e9 < post.node.breaker.until_ns - time.monotonic_ns() <= 100e9
        bounded = posting(server, retry_after_max_s=0.05)
        assert bounded.outcome() == "failed"
        bounded.let_time_pass()
        assert bounded.outcome() == "ok"
    assert len(server.asked) == 3


def test_no_secret_is_quoted_from_an_answer_not_even_half_of_one(posting):
    long = "x" * 190 + " sesame-open-the-door"
    with Answering([reply(400, b"no: Bearer sesame-open-the-door"), reply(400, long.encode())]) as server:
        post = posting(server, headers={"Authorization": "Bearer sesame-open-the-door"})
        for _ in range(2):
            assert post.outcome() == "refused"
            assert "sesame" not in post.said and "***" in post.said
            assert len(post.said) < 300
