"""The web server under clients that are slow, hang, lie or come in hundreds: none of them holds up another, and nothing of them is left."""

import os
import socket
import threading
import time

import pytest
from boxes import wait_until

from streamcore.control import web
from streamcore.control.web import CONNECTIONS_MAX, HEAD_BYTES_MAX, Address, Page, WebServer, listen, url_of
from streamcore.errors import RunError

DEADLINE_S = 30.0
LARGE = b"x" * (16 << 20)  # more than the buffers of a socket take


def answer(path):
    return Page(200, "text/plain", LARGE if path == "/large" else f"you asked for {path}".encode())


@pytest.fixture
def port():
    """Of a server that runs for the test and leaves nothing behind."""
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    listener = listen(Address("127.0.0.1", 0))
    server = WebServer(listener, answer)
    server.start()
    yield listener.getsockname()[1]
    server.close()
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


def client(port):
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)


def read_all(sock):
    """Until the server closes."""
    raw = b""
    while piece := sock.recv(1 << 20):
        raw += piece
    return raw


def ask(port, request=b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"):
    with client(port) as sock:
        sock.sendall(request)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
        return int(head.split()[1]), head, body


def test_a_request_is_answered_and_the_connection_closed(port):
    status, head, body = ask(port, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, b"you asked for /a")
    assert b"Content-Length: 16\r\n" in head + b"\r\n"
    assert b"Connection: close" in head


def test_head_gets_the_head_alone(port):
    status, head, body = ask(port, b"HEAD /a HTTP/1.1\r\n\r\n")
    assert (status, body) == (200, b"")
    assert b"Content-Length: 16\r\n" in head + b"\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /a HTTP/1.1\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * (1 << 20), 431),
    ],
)
def test_what_is_no_request_is_told_so(port, request_, status):
    assert ask(port, request_)[0] == status
    assert ask(port)[0] == 200


def test_a_request_may_come_in_pieces(port):
    with client(port) as sock:
        for byte in b"GET /pieces HTTP/1.1\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert read_all(sock).endswith(b"you asked for /pieces")


def test_hundreds_that_say_nothing_keep_nobody_out(port):
    silent = [client(port) for _ in range(3 * CONNECTIONS_MAX)]
    half = [client(port) for _ in range(3)]
    for sock in half:
        sock.sendall(b"GET /half HTTP/1.1\r\nX: ")
    try:
        assert ask(port)[0] == 200
        descriptors = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
        # Ours, and those of the server that are still open.
        assert sum(name.startswith("socket:") for name in descriptors) <= len(silent) + len(half) + CONNECTIONS_MAX + 5
    finally:
        for sock in (*silent, *half):
            sock.close()


def test_who_does_not_read_holds_up_nobody_and_is_let_go(port, monkeypatch):
    monkeypatch.setattr(web, "WRITE_S", 0.5)
    with client(port) as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        assert [ask(port)[0] for _ in range(20)] == [200] * 20
        assert time.monotonic() - began < DEADLINE_S
        wait_until("the server to let go of who does not read", lambda: hung_up(slow))


def hung_up(sock):
    """Has the other side closed, whatever is left to read."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1  # TCP_ESTABLISHED


def test_who_sends_no_whole_request_is_let_go(port, monkeypatch):
    monkeypatch.setattr(web, "READ_S", 0.2)
    with client(port) as sock:
        sock.sendall(b"GET /never HTTP/1.1\r\n")
        assert sock.recv(1) == b""


def test_a_large_answer_arrives_whole_at_who_reads_slowly(port):
    with client(port) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert ask(port)[0] == 200
        assert len(read_all(sock).partition(b"\r\n\r\n")[2]) == len(LARGE)


def test_who_goes_away_in_the_middle_of_an_answer_does_no_harm(port):
    for _ in range(20):
        with client(port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close sends RST
            sock.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            sock.recv(10)
    assert ask(port)[0] == 200


def test_a_server_that_has_no_descriptors_left_waits_and_goes_on(port, monkeypatch):
    refused = []

    def no_more(self):
        if len(refused) < 3:
            refused.append(1)
            raise OSError(24, "Too many open files")
        return accept(self)

    accept = socket.socket.accept
    monkeypatch.setattr(socket.socket, "accept", no_more)
    monkeypatch.setattr(web, "ACCEPT_AGAIN_S", 0.05)
    assert ask(port)[0] == 200
    assert len(refused) == 3


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do():
    with listen(Address("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"http 127\.0\.0\.1:{port}: Address already in use; choose another port"):
            listen(Address("127.0.0.1", port))
    with pytest.raises(RunError, match="Cannot assign requested address"):
        listen(Address("192.0.2.1", 0))


def test_an_ipv6_address_is_written_in_brackets():
    try:
        listener = listen(Address("::1", 0))
    except RunError:
        pytest.skip("no IPv6 here")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_after_close_nobody_listens():
    listener = listen(Address("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = WebServer(listener, answer)
    server.start()
    assert ask(port)[0] == 200
    server.close()
    with pytest.raises(ConnectionRefusedError):
        client(port)
