"""The control socket between a real server and real clients: what is answered, what is refused, and that nothing stops it."""

import json
import os
import random
import socket
import stat
import subprocess
import sys
import threading

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from streamcore import limits
from streamcore.control import client, protocol, rundir
from streamcore.control.rundir import RunDir, RunInfo
from streamcore.control.server import Server
from streamcore.errors import MessageError, RunError

TIMEOUT_MS = 5000


def answer(request):
    if isinstance(request, protocol.Down):
        raise RunError("not in this mood")
    return {"asked": type(request).__name__, "big": "x" * (1 << 20) if isinstance(request, protocol.Info) else ""}


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    run_dir = RunDir.take("gate")
    run_dir.write_info(RunInfo("gate", os.getpid(), "0123456789abcdef", "front-door", "v1", "spec.yaml", "2026-11-23T07:00:00.000000Z"))
    yield run_dir
    run_dir.close()


@pytest.fixture
def server(run_dir):
    """Serves in a thread until the test ends."""
    server = Server(str(run_dir.path / rundir.CONTROL_SOCKET), answer)
    ours, theirs = socket.socketpair()

    def serve():
        poller = zmq.Poller()
        poller.register(server.fd, zmq.POLLIN)
        poller.register(theirs, zmq.POLLIN)
        while True:
            while server.serve():
                pass
            if theirs.fileno() in dict(poller.poll()):
                break
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server
    ours.send(b"x")
    thread.join()
    ours.close()
    theirs.close()


@pytest.fixture
def connected(server):
    with client.connect("gate") as connected:
        yield connected


@pytest.fixture
def raw(server, run_dir):
    """A DEALER: may send any frames."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"ipc://{run_dir.path}/{rundir.CONTROL_SOCKET}")
    dealer.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
    yield dealer
    context.destroy(linger=0)


def test_a_request_is_answered_without_its_envelope(connected):
    assert connected.request("ping") == {"asked": "Ping", "big": ""}


def test_a_reply_may_be_larger_than_a_request_may(connected):
    assert len(connected.request("info")["big"]) > limits.MESSAGE_BYTES_MAX


def test_a_refusal_comes_as_the_sentence_it_is(connected):
    with pytest.raises(RunError, match="^run 'gate': not in this mood$"):
        connected.request("down", now=True)


@pytest.mark.parametrize(("verb", "arguments"), [("dance", {}), ("ps", {"colour": 1}), ("down", {"now": "yes"}), ("down", {"now": 1})])
def test_a_request_that_nobody_could_answer_is_refused_before_it_is_sent(connected, verb, arguments):
    with pytest.raises(MessageError, match="request refused: "):
        connected.request(verb, **arguments)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"verb": "ps"}',
        b'{"v": 2, "verb": "ps"}',
        b'{"v": true, "verb": "ps"}',
        b'{"v": 1, "verb": "ps", "x": 1}',
    ],
)
def test_a_body_that_is_no_request_is_refused_with_a_sentence(server, raw, body):
    raw.send_multipart([b"", body])
    reply = json.loads(raw.recv_multipart()[1])
    assert (reply["v"], reply["ok"]) == (1, False)
    assert reply["error"].startswith("request refused: ")
    assert server.refused == 1


def test_frames_of_another_shape_are_counted_and_do_not_stop_it(server, raw, connected):
    for frames in ([b""], [b"{}"], [b"x", b'{"v": 1, "verb": "ps"}'], [b"", b"{}", b"{}"]):
        raw.send_multipart(frames)
    raw.send_multipart([b"", b'{"v": 1, "verb": "ping"}'])
    assert json.loads(raw.recv_multipart()[1])["ok"]  # the same socket, so all before it were seen
    assert server.refused == 4
    assert connected.request("ping")["asked"] == "Ping"


def test_a_message_that_is_too_large_costs_its_sender_the_connection_only(server, raw, connected):
    raw.send_multipart([b"", b" " * (limits.MESSAGE_BYTES_MAX + 1)])
    assert connected.request("ping")["asked"] == "Ping"
    assert (server.served, server.refused) == (1, 0)  # it was never even received


def test_bytes_that_are_no_zeromq_do_not_stop_it(run_dir, connected):
    noise = random.Random(7)
    for _ in range(50):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(str(run_dir.path / rundir.CONTROL_SOCKET))
        stranger.send(noise.randbytes(noise.randrange(1, 200)))
        stranger.close()
    assert connected.request("ping")["asked"] == "Ping"


def test_more_requests_than_one_turn_takes_are_all_answered(raw):
    # The descriptor tells of new messages only once: what a turn leaves must not wait for the next message.
    count = 60  # more than REQUESTS_PER_TURN_MAX, fewer than REPLIES_WAITING_MAX
    for _ in range(count):
        raw.send_multipart([b"", b'{"v": 1, "verb": "ping"}'])
    assert [json.loads(raw.recv_multipart()[1])["ok"] for _ in range(count)] == [True] * count


def test_a_client_that_asks_and_never_reads_holds_nobody_up(raw, connected):
    for _ in range(100):
        raw.send_multipart([b"", b'{"v": 1, "verb": "info"}'])
    assert connected.request("ping")["asked"] == "Ping"


def test_another_user_cannot_connect(server, run_dir):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path = run_dir.path / rundir.CONTROL_SOCKET
    assert stat.S_IMODE(os.lstat(path).st_mode) & 0o077 == 0
    code = f"import os, socket; os.setuid(12345); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "PermissionError" in found.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.binary(max_size=300) | JSON)
def test_anything_at_all_is_a_request_or_a_message_error(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    try:
        assert protocol.decode_request(body).v == 1
    except MessageError:
        pass  # nothing else may be raised
