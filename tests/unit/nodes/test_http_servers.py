"""http.post and servers that answer badly, late or never, or are away; several connections; TLS; configs that are refused."""

from __future__ import annotations

import gc
import json
import random
import socket
import ssl
import subprocess
import threading
import weakref
from typing import Any

import pytest
from answering import CLOSE, OK, Answering, reply
from posting import FAST, Posting, packet, unused_port

from streamcore import ConfigError, DestinationAway
from streamcore.testing import run_node
from streamcore_nodes.http_post import HttpPost

SHORT_S = 0.2


# --- connections


def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_opened_again(posting):
    closes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def answers_and_leaves(connection: socket.socket) -> None:
        connection.sendall(OK)

    with Answering([OK, OK, closes, OK, answers_and_leaves, OK]) as server:
        post = posting(server)
        for _ in range(5):
            assert post.outcome() == "ok"
        _wait_for_end(post)
        assert post.outcome() == "ok"
    assert [asked.connection for asked in server.asked] == [0, 0, 0, 1, 1, 2]


def _wait_for_end(post: Posting) -> None:
    """Until the server's end of the connection has arrived."""
    kept = post.node.connections[0]._socket
    kept.settimeout(10)
    assert kept.recv(1, socket.MSG_PEEK) == b""


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(posting):
    with Answering([OK + reply(400), reply(500)]) as server:
        post = posting(server)
        assert [post.outcome(), post.outcome()] == ["ok", "failed"]


def test_a_lost_answer_fails_the_packet_for_it_may_have_been_taken(posting):
    def resets(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with Answering([CLOSE, resets]) as server:
        post = posting(server)
        assert post.outcome() == "failed" and "no answer: the connection was closed" in post.said
        assert post.outcome() == "failed" and "no answer: Connection reset by peer" in post.said
        assert post.outcome() == "ok"


@pytest.mark.parametrize("answer", [b"220 mail.example.com ESMTP\r\n", b"\0" * 70_000, b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"])
def test_garbage_fails_the_packet_and_its_connection_is_given_up(posting, answer):
    with Answering([answer]) as server:
        post = posting(server)
        assert [post.outcome(), post.outcome()] == ["failed", "ok"]
        assert "no answer: found" in post.said
    assert [asked.connection for asked in server.asked] == [0, 1]


def test_random_answers_only_ever_fail_a_packet(posting):
    draw, outcomes = random.Random(7), []
    answers = [draw.randbytes(draw.randrange(1, 60)) + b"\r\n\r\n" for _ in range(40)]
    answers += [reply(draw.randrange(200, 600), draw.randbytes(20))[: draw.randrange(9, 70)] + b"\r\n\r\n" for _ in range(60)]
    with Answering([*answers, *[OK] * 100]) as server:
        post = posting(server, away_after=1000, timeout_s=SHORT_S, **FAST)
        for _ in answers:
            post.let_time_pass()
            outcomes.append(post.outcome())
    assert {"failed", "ok"} <= {*outcomes} <= {"ok", "failed", "refused", "away"}


def test_a_server_that_never_answers_costs_no_more_than_the_timeout(posting):
    with Answering(last=lambda connection: server.over.wait() and None) as server:
        post = posting(server, timeout_s=SHORT_S)
        assert post.outcome() == "failed"
        assert post.said.endswith(f"no answer within {SHORT_S} s")


def test_a_server_that_answers_a_byte_at_a_time_costs_no_more_than_the_timeout(posting):
    # A timeout per read would wait as long as the server likes: here for ever.
    def drips(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 ")
        while not server.over.wait(SHORT_S / 10):
            connection.sendall(b"2")

    with Answering(last=drips) as server:
        post = posting(server, timeout_s=SHORT_S)
        assert post.outcome() == "failed"


def test_a_body_that_does_not_end_is_not_read_to_its_end(posting):
    def floods(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.over.is_set():
            connection.sendall(b"x" * 65536)

    with Answering([floods, reply(400, b"y" * (1 << 20))]) as server:
        post = posting(server)
        assert [post.outcome(), post.outcome(), post.outcome()] == ["ok", "refused", "ok"]
        assert len(post.said) < 300
    assert [asked.connection for asked in server.asked] == [0, 1, 2]


def test_a_server_that_refuses_before_it_has_read_everything_is_heard(posting):
    # 413 comes while the body is still being sent, and then the connection breaks.
    def refuses(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(reply(413, b"too large", Connection="close"))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuses, args=(listener,))
        thread.start()
        post = posting(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        assert post.outcome(packet(b"x" * (8 << 20))) == "refused"
        assert "answered 413: too large" in post.said
        post.node.close()
        thread.join(30)
        assert not thread.is_alive()


# --- away


def test_a_server_that_cannot_be_reached_is_away_and_is_left_alone(posting):
    post = posting(f"http://127.0.0.1:{(port := unused_port())}/", backoff_s=100, backoff_max_s=100)
    assert post.outcome() == "away"
    assert post.said == f"cannot reach http://127.0.0.1:{port}: 127.0.0.1: Connection refused"
    assert [post.outcome() for _ in range(100)] == ["away"] * 100
    assert post.bench.outputs.metrics["posts"] == 1
    assert post.bench.outputs.metrics["breaker_open"] == 1


def test_it_is_back_with_the_first_packet_that_it_takes(posting):
    port = unused_port()
    post = posting(f"http://127.0.0.1:{port}/", **FAST)
    assert post.outcome() == "away"
    post.let_time_pass()
    with Answering() as server:
        post.node.connections[0].target = post.node.target._replace(port=server.port)
        assert [post.outcome(), post.outcome()] == ["ok", "ok"]
    assert post.bench.outputs.metrics["breaker_open"] == 0


def test_a_name_that_is_not_there_or_not_found_in_time_is_away(posting, monkeypatch):
    post = posting("http://no-such-host.invalid/", connect_timeout_s=10, timeout_s=10)
    assert post.outcome() == "away"
    assert post.said.startswith("cannot find no-such-host.invalid: ")
    # A resolver without network answers after half a minute, and knows no timeout of ours.
    answered = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *args: Any, **more: Any) -> Any:
        if host == "slow.invalid" and not more.get("flags"):
            answered.wait(30)
            return real("127.0.0.1", args[0], **more)
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with Answering() as server:
        late = posting(f"http://slow.invalid:{server.port}/", connect_timeout_s=SHORT_S, **FAST)
        for _ in range(3):
            assert late.outcome() == "away"
            assert "not resolved within" in late.said
            late.let_time_pass()
        answered.set()
        late.node.connections[0]._lookup._asked.join(10)
        assert late.outcome() == "ok"


def test_different_packets_in_a_row_that_are_not_taken_mean_that_the_server_is_away(posting):
    with Answering([reply(503)] * 3) as server:
        post = posting(server, away_after=3, backoff_s=100, backoff_max_s=100)
        assert [post.outcome() for _ in range(4)] == ["failed", "failed", "away", "away"]
    assert len(server.asked) == 3


def test_when_the_server_turns_out_to_be_away_what_failed_before_is_in_its_turn_as_well(posting):
    # They failed first and come back at times of their own, the later one perhaps first.
    with Answering([reply(503)] * 3) as server:
        post = posting(server, away_after=3)
        events = [packet({"n": n}, sequence=n, settled_below=1, id=f"{n:032x}") for n in (1, 2, 3, 4)]
        assert [post.outcome(given) for given in events] == ["failed", "failed", "away", "away"]
        post.let_time_pass()
        assert [post.outcome(events[n]) for n in (1, 3, 0, 1, 2, 3)] == ["away", "away", "ok", "ok", "ok", "ok"]
    assert [json.loads(asked.body)["n"] for asked in server.asked] == [1, 2, 3, 1, 2, 3, 4]


def test_one_packet_that_is_not_taken_is_to_blame_itself_however_often_it_comes(posting):
    with Answering([answer for _ in range(10) for answer in (reply(503), OK)] + [reply(503)] * 10) as server:
        post, poison = posting(server, away_after=2), packet(attempt=1)
        assert [post.outcome(given) for _ in range(10) for given in (poison, packet())] == ["failed", "ok"] * 10
        assert [post.outcome(poison) for _ in range(10)] == ["failed"] * 10


def test_when_the_server_is_back_packets_are_taken_in_their_order(posting):
    with Answering([reply(429)]) as server:
        post = posting(server)
        first, second, third = (packet({"n": n}, sequence=n, settled_below=1) for n in (1, 2, 3))
        assert [post.outcome(given) for given in (first, second)] == ["away", "away"]
        post.let_time_pass()
        assert post.outcome(third) == "away"
        assert [post.outcome(given) for given in (first, second, third)] == ["ok"] * 3
    assert [json.loads(asked.body)["n"] for asked in server.asked] == [1, 1, 2, 3]


@pytest.mark.parametrize(("strict", "second"), [(False, "ok"), (True, "away")])
def test_what_follows_a_failed_packet_waits_for_it_if_order_is_strict(posting, strict, second):
    with Answering([reply(503)]) as server:
        post = posting(server, strict_order=strict)
        first, other = (packet({"n": n}, sequence=n, settled_below=1) for n in (1, 2))
        assert [post.outcome(given) for given in (first, other, first, other)] == ["failed", second, "ok", "ok"]


def test_a_packet_that_is_never_taken_does_not_hide_for_ever_that_the_server_is_back(posting):
    def refuses_the_first(connection: socket.socket) -> None:
        connection.sendall(reply(503 if server.asked[-1].body == b'{"n":1}' else 200, Connection="close"))

    with Answering([reply(503)] * 2, last=refuses_the_first) as server:
        post, outcomes = posting(server, away_after=2), []
        events = [packet({"n": n}, sequence=n, settled_below=1, id=f"{n:032x}") for n in (1, 2, 3)]
        for _ in range(5):
            post.let_time_pass()
            outcomes.append([post.outcome(given) for given in events])
    assert outcomes == [["failed", "away", "away"], *[["away"] * 3] * 2, ["away", "ok", "ok"], ["failed", "ok", "ok"]]


# --- several connections


def test_posts_of_several_connections_are_under_way_at_once_and_keep_the_order_of_each_key(posting):
    together = threading.Barrier(4, timeout=30)

    def meets(connection: socket.socket) -> None:
        together.wait()
        connection.sendall(OK)

    with Answering([meets] * 4) as server:
        run_node(HttpPost, [packet({"n": n}) for n in range(4)], {"url": server.url, "connections": 4})
    assert sorted(json.loads(asked.body)["n"] for asked in server.asked) == [0, 1, 2, 3]
    with Answering() as server:
        events = [packet({"n": n}, source_id=f"cam{n % 3}") for n in range(300)]
        out = run_node(HttpPost, events, {"url": server.url, "connections": 8, "key": "source_id"})
    assert out.failed == []
    found = [json.loads(asked.body)["n"] for asked in server.asked]
    assert all([n for n in found if n % 3 == source] == [*range(source, 300, 3)] for source in range(3))


def test_of_several_at_once_each_fails_for_itself():
    with Answering([reply(400), reply(503)]) as server:
        out = run_node(HttpPost, [packet({"n": n}) for n in range(8)], {"url": server.url, "connections": 4})
    assert sorted(type(error).__name__ for _, error in out.failed) == ["DeliveryFailed", "DeliveryRefused"]
    assert (out.metrics["delivered"], out.metrics["posts"]) == (6, 8)


@pytest.mark.parametrize("payload", [{"n": 1}, float("nan")], ids=["away", "refused"])
def test_no_packet_is_kept_by_the_error_that_it_failed_with(posting, payload):
    # A packet that is kept is not completed: the queue would wait for it, and the producer stand still.
    post = posting(f"http://127.0.0.1:{unused_port()}/", connections=4)
    packets = [packet(payload) for _ in range(8)]
    kept = [weakref.ref(item) for item in packets]
    gc.disable()
    try:
        post.node.process_batch([*packets])
        packets.clear()
        assert [item() for item in kept] == [None] * 8
    finally:
        gc.enable()
    assert len(post.bench.outputs.failed) == 8


def test_while_it_is_away_one_connection_asks_for_all():
    out = run_node(HttpPost, [packet() for _ in range(64)], {"url": f"http://127.0.0.1:{unused_port()}/", "connections": 8})
    assert len(out.failed) == 64 and {type(error) for _, error in out.failed} == {DestinationAway}
    assert out.metrics["posts"] <= 8


# --- TLS and config


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    more = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    try:
        subprocess.run([*command, *map(str, more)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    return folder


def test_https_checks_the_certificate_and_keeps_the_connection(posting, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with Answering(tls=context) as server:
        trusting = posting(server, ca_file=str(certificate / "cert.pem"))
        assert [trusting.outcome() for _ in range(3)] == ["ok"] * 3
        strict = posting(server)
        assert strict.outcome() == "away"
        assert "its certificate is not to be trusted: " in strict.said
        plain = posting(server.url.replace("https", "http"), timeout_s=5)
        assert plain.outcome() == "failed"
        trusting.node.close()
    assert [asked.connection for asked in server.asked] == [0, 0, 0]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"url": "ftp://example.com/"}, "url: found the scheme 'ftp', expected http://"),
        ({"url": "file:///etc/passwd"}, "url: found the scheme 'file'"),
        ({"url": "//example.com/"}, "url: found the scheme ''"),
        ({"url": "http:///events"}, "url: found no host"),
        ({"url": "http://example.com:0/"}, "no port that can be used"),
        ({"url": "http://example.com:99999/"}, "url: Port out of range"),
        ({"url": "http://example.com/a b"}, "url: found a blank"),
        ({"url": "http://example.com/\r\nX: y"}, "url: found a blank, a control character"),
        ({"url": "http://exämple.com/"}, "beyond ASCII"),
        ({"url": "http://a:sesame@example.com/"}, "headers: {Authorization: !secret env:NAME}"),
        ({"url": "http://example.com/#part"}, "fragment"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "expected printable ASCII"),
        ({"headers": {"X-A": "ä"}}, "expected printable ASCII"),
        ({"headers": {"X A": "1"}}, "expected the name of a header"),
        ({"headers": {"host": "x"}}, "found host, which the node sets itself"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "which the node sets itself"),
        ({"key_header": "Content-Length"}, "which the node sets itself"),
        ({"key_header": "a:b"}, "expected the name of a header"),
        ({"content_type": "text/plain\r\nX: y"}, "content_type"),
        ({"ca_file": "x.pem"}, "for an http:// url"),
        ({"url": "https://example.com/", "ca_file": "/no/such/file"}, "expected a file of certificates"),
        ({"key": "payload"}, "expected source_id, kind, payload.NAME or meta.NAME"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_is_sent(config, says):
    with pytest.raises(ConfigError) as caught:
        Posting(**{"url": "http://127.0.0.1:1/", **config})
    assert says in str(caught.value)
    assert "sesame" not in str(caught.value)
