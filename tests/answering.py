"""A server of real sockets that answers what a test tells it to, byte for byte."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Union

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
CLOSE = b""
WAIT_S = 30.0  # no read or write of a test takes longer


class Asked(NamedTuple):
    """A request as it came. `connection` counts from 0."""

    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


# Bytes are sent and the connection is kept, b"" closes it; a function does what it likes with the connection, which is closed then.
Answer = Union[bytes, Callable[[socket.socket], None]]


class Answering:
    """Give `answers` one after the other, whatever is asked and over however many connections; then `last` for ever."""

    def __init__(self, answers: Iterable[Answer] = (), last: Answer = OK, tls: ssl.SSLContext | None = None):
        self._answers, self._last, self._tls = iter(answers), last, tls
        self.asked: list[Asked] = []
        self.connections = 0
        self.over = threading.Event()  # for answers that wait
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/events?from=test"
        self._threads = [threading.Thread(target=self._accept, name="answering")]
        self._threads[0].start()

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WAIT_S)
        for made in self._kept:
            with suppress(OSError):  # closed already
                made.shutdown(socket.SHUT_RD)
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), f"{thread.name} of the server did not end"

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            made.settimeout(WAIT_S)
            self._kept.append(made)
            thread = threading.Thread(target=self._serve, args=(made, self.connections), name=f"connection {self.connections}")
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, made: socket.socket, number: int) -> None:
        with suppress(OSError, ValueError), made:
            if self._tls is None:
                return self._answer_all(made, number)
            with self._tls.wrap_socket(made, server_side=True) as connection:
                return self._answer_all(connection, number)

    def _answer_all(self, connection: socket.socket, number: int) -> None:
        with connection.makefile("rb") as stream:
            while first := stream.readline():
                headers: dict[str, str] = {}
                while line := stream.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    headers[name] = value
                self.asked.append(Asked(number, first.decode().strip(), headers, stream.read(int(headers["Content-Length"]))))
                answer = next(self._answers, self._last)
                if callable(answer):
                    return answer(connection)
                if answer == CLOSE:
                    return None
                connection.sendall(answer)
        return None


def reply(status: int, body: bytes = b"", **headers: object) -> bytes:
    """A whole reply; underscores in the names of headers are hyphens."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *(f"{name.replace('_', '-')}: {headers[name]}" for name in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
