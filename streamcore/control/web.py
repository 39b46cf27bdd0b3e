"""A small HTTP server for programs that look at a run: GET and HEAD, one thread, nothing that a client does or leaves undone holds it up.

No socket blocks. A connection has READ_S to send its request and WRITE_S to take the answer, and carries one of each. CONNECTIONS_MAX may
be open: when one more comes, the oldest that is not being answered goes, so that whoever opens hundreds and says nothing keeps nobody out.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from streamcore.clock import Clock
from streamcore.errors import RunError

CONNECTIONS_MAX = 32
HEAD_BYTES_MAX = 8 << 10  # a request line and its headers
PIECE_BYTES = 64 << 10  # taken or given at once; the next connection has its turn in between
READ_S, WRITE_S = 5.0, 10.0
LINGER_S = 1.0  # after the answer, for what the client is still sending: closed at once it would lose the answer
ACCEPT_AGAIN_S = 0.5  # without descriptors, or while every connection is at work
JOIN_S = 2.0
AT_ONCE = struct.pack("ii", 1, 0)
READING, WRITING, LINGERING = "reading", "writing", "lingering"


class Page(NamedTuple):
    """What is answered."""

    status: int
    content_type: str
    body: bytes


class Address(NamedTuple):
    """Where to listen. Port 0: any that is free. `exposed`: whoever asked for a host beyond loopback meant it."""

    host: str
    port: int
    exposed: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> socket.socket:
    """Raises RunError if the address is taken, or is none of this box."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise RunError(f"http {address}: {error.strerror}; choose another port, or 0 for any that is free") from None
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{Address(host, port)}"


class _Connection:
    """One request and its answer."""

    def __init__(self, sock: socket.socket, deadline_ns: int):
        self.sock, self.deadline_ns = sock, deadline_ns
        self.stage = READING
        self.head = bytearray()
        self.rest = memoryview(b"")


class WebServer:
    """Answers from a thread of its own between `start` and `close`, which closes `listener`. `answer`, called there, is given paths."""

    def __init__(self, listener: socket.socket, answer: Callable[[str], Page], clock: Clock | None = None):
        self._listener, self._answer, self._clock = listener, answer, clock or Clock()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}  # by descriptor, in the order of their coming
        self._accept_again_ns: int | None = None
        self._over = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Nobody listens any more when this returns; whoever has not taken his answer yet loses it."""
        self._over = True
        os.eventfd_write(self._wake_fd, 1)
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        self._listener.close()
        if not self._thread.is_alive():  # else it still waits inside `answer`, and ends by itself
            self._give_back()

    def _give_back(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._selector.close()
        os.close(self._wake_fd)

    def _serve(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(self._timeout_s()):
                if self._over:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif (connection := self._connections.get(key.fd)) is not None and connection is key.data:
                    self._go_on(connection)
            self._look_at_deadlines()

    def _timeout_s(self) -> float | None:
        deadlines = [connection.deadline_ns for connection in self._connections.values()]
        if self._accept_again_ns is not None:
            deadlines.append(self._accept_again_ns)
        return max(0.0, (min(deadlines) - self._clock.monotonic_ns()) / 1e9) if deadlines else None

    def _look_at_deadlines(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for connection in [late for late in self._connections.values() if late.deadline_ns <= now_ns]:
            if connection.stage == WRITING:  # else the kernel would keep what was not read, and wait for its reader
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self._drop(connection)
        if self._accept_again_ns is not None and self._accept_again_ns <= now_ns:
            self._accept_again_ns = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _in(self, seconds: float) -> int:
        return self._clock.monotonic_ns() + round(seconds * 1e9)

    def _accept(self) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            idle = next((one for one in self._connections.values() if one.stage != WRITING), None)
            if idle is None:
                self._pause_accepting()
                return
            self._drop(idle)
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left: it would be tried for ever
            self._pause_accepting()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the last piece of an answer waits 40 ms for company
        self._connections[sock.fileno()] = made = _Connection(sock, self._in(READ_S))
        self._selector.register(sock, selectors.EVENT_READ, made)

    def _pause_accepting(self) -> None:
        self._selector.unregister(self._listener)
        self._accept_again_ns = self._in(ACCEPT_AGAIN_S)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.sock.fileno()]
        self._selector.unregister(connection.sock)
        connection.sock.close()

    def _go_on(self, connection: _Connection) -> None:
        try:
            if connection.stage == WRITING:
                self._write(connection)
            else:
                self._read(connection)
        except BlockingIOError:
            pass
        except OSError:  # the client has gone
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        piece = connection.sock.recv(PIECE_BYTES)
        if not piece:
            self._drop(connection)
        elif connection.stage == READING:
            connection.head += piece
            page, with_body = self._page_for(connection.head)
            if page is not None:
                self._reply(connection, page, with_body=with_body)

    def _page_for(self, head: bytearray) -> tuple[Page | None, bool]:
        """What to answer, and whether with a body; None as long as the request is not whole."""
        end = head.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(head) > HEAD_BYTES_MAX):
            return plain(431, "the request is too long\n"), True
        if end < 0:
            return None, True
        words = bytes(head[: head.find(b"\r\n")]).split(b" ")
        if len(words) != 3 or not words[1].startswith(b"/") or not words[2].startswith(b"HTTP/1."):
            return plain(400, "that is no request of HTTP/1.1\n"), True
        if words[0] not in (b"GET", b"HEAD"):
            return plain(405, "only GET and HEAD are answered\n"), True
        return self._answer(words[1].partition(b"?")[0].decode("latin-1")), words[0] == b"GET"

    def _reply(self, connection: _Connection, page: Page, *, with_body: bool) -> None:
        head = (
            f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\nContent-Type: {page.content_type}\r\n"
            f"Content-Length: {len(page.body)}\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        )
        connection.rest = memoryview(head.encode("latin-1") + (page.body if with_body else b""))
        connection.stage, connection.deadline_ns = WRITING, self._in(WRITE_S)
        self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        connection.rest = connection.rest[connection.sock.send(connection.rest[:PIECE_BYTES]) :]
        if not connection.rest:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.stage, connection.deadline_ns = LINGERING, self._in(LINGER_S)
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)


def plain(status: int, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode())
