"""One HTTP/1.1 connection to one server, kept alive between posts. Every wait has an end, the one for a name included."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from streamcore import ConfigError
from streamcore_nodes.http_reply import RECEIVE_BYTES, BadReply, Reply, read_reply

if TYPE_CHECKING:
    import ssl

_URL = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


class CannotReach(OSError):
    """No connection: nothing of the request can have arrived."""


class NoAnswer(OSError):
    """The request was sent, or a part of it, and no reply came that could be read. It may have been taken."""


class Target(NamedTuple):
    """Where a URL leads. `place` is scheme, host and port: what may be shown of it."""

    secure: bool
    host: str
    port: int
    path: str
    authority: str

    @property
    def place(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @classmethod
    def parse(cls, url: str) -> Target:
        """Raises ConfigError, which does not show the URL: there may be a secret in it."""
        expected = "http://HOST[:PORT]/PATH or https://..., in printable ASCII, other characters as %XX"
        if not _URL.fullmatch(url):
            raise ConfigError(f"url: found a blank, a control character or one beyond ASCII, expected {expected}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"url: {error}, expected {expected}") from None
        if parts.scheme not in ("http", "https"):
            raise ConfigError(f"url: found the scheme {parts.scheme[:20]!r}, expected {expected}")
        if "@" in parts.netloc:
            raise ConfigError("url: found a user or a password in it, expected a header: `headers: {Authorization: !secret env:NAME}`")
        if parts.fragment or "#" in url:
            raise ConfigError("url: found a fragment (#), which is never sent to a server")
        if not _HOST.fullmatch(host) or port == 0:
            raise ConfigError(f"url: found no host or no port that can be used, expected {expected}")
        secure = parts.scheme == "https"
        shown, usual = (f"[{host}]" if ":" in host else host), 443 if secure else 80
        authority = shown if port in (None, usual) else f"{shown}:{port}"
        return cls(secure, host, port or usual, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), authority)


class Connection:
    """Posts to one target, one at a time. Opened when it is needed, and again when the server has closed it meanwhile."""

    def __init__(self, target: Target, context: ssl.SSLContext | None, lookup: Lookup, connect_timeout_s: float, timeout_s: float):
        self.target, self._context, self._lookup = target, context, lookup
        self._connect_timeout_s, self._timeout_s = connect_timeout_s, timeout_s
        self._socket: Any = None  # a socket, or an SSLSocket
        self._deadline_s = 0.0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def post(self, request: bytes) -> Reply:
        """Send a whole request, read the reply.

        Raises:
          CannotReach, NoAnswer: each says why.
        """
        self._deadline_s = time.monotonic() + self._timeout_s
        if self._socket is not None and not self._is_quiet():
            self.close()
        if self._socket is None:
            self._connect()
        try:
            reply = self._exchange(request)
        except BaseException:
            self.close()
            raise
        if not reply.reusable:
            self.close()
        return reply

    def _exchange(self, request: bytes) -> Reply:
        broken: OSError | None = None
        try:
            self._send(request)
        except TimeoutError:
            raise NoAnswer(f"the server did not take the whole request within {self._timeout_s:g} s") from None
        except OSError as error:
            broken = error  # a server that has read enough to refuse may close, and its answer lies here
        try:
            return read_reply(self._receive)
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, BadReply) as error:
            raise NoAnswer(f"no answer: {_said(broken or error)}") from None

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(self._left_s())
            view = view[self._socket.send(view) :]

    def _receive(self) -> bytes:
        self._socket.settimeout(self._left_s())
        received: bytes = self._socket.recv(RECEIVE_BYTES)
        return received

    def _is_quiet(self) -> bool:
        """Neither closed by the server nor with bytes that nobody asked for, which would be taken for the next answer."""
        if not self._poller.poll(0):
            return True
        self._socket.settimeout(0)  # over TLS what has come may be no data
        try:
            self._socket.recv(1)
        except OSError as error:
            return isinstance(error, BlockingIOError) or type(error).__name__ == "SSLWantReadError"  # ssl is not imported for http
        return False

    # --- connecting

    def _connect(self) -> None:
        target, deadline_s = self.target, min(self._deadline_s, time.monotonic() + self._connect_timeout_s)
        addresses = self._lookup.addresses(target.host, target.port, deadline_s - time.monotonic())
        failure = ""
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            share_s = (deadline_s - time.monotonic()) / (len(addresses) - number)  # one that swallows packets leaves time for the others
            if share_s <= 0:
                break
            made = socket.socket(family, kind, protocol)
            try:
                self._open(made, address, share_s)
                return
            except OSError as error:
                made.close()
                failure = f"{address[0]}: {_said(error)}"
        raise CannotReach(f"cannot reach {target.place}: {failure or 'no time left'}")

    def _open(self, made: socket.socket, address: Any, timeout_s: float) -> None:
        made.settimeout(timeout_s)
        made.connect(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = made if self._context is None else self._context.wrap_socket(made, server_hostname=self.target.host)
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)


class Lookup:
    """Addresses of a host, within a time: getaddrinfo() has none, and on a box without network it may take half a minute.

    What takes longer goes on in a thread, whose answer is there for the next call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: _Question | None = None

    def addresses(self, host: str, port: int, timeout_s: float) -> list[Any]:
        """Raises CannotReach."""
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            pass  # a name
        with self._lock:
            if self._asked is None:
                self._asked = _Question(host, port)
                self._asked.start()
            asked = self._asked
        asked.join(max(0.0, timeout_s))
        if asked.is_alive():
            raise CannotReach(f"cannot find {host}: the name was not resolved within {timeout_s:.1f} s")
        with self._lock:
            if self._asked is asked:
                self._asked = None  # names may move: it is asked anew for every connection
        if isinstance(asked.answer, OSError):
            raise CannotReach(f"cannot find {host}: {_said(asked.answer)}")
        return asked.answer


class _Question(threading.Thread):
    def __init__(self, host: str, port: int):
        super().__init__(name="lookup", daemon=True)
        self._host, self._port = host, port
        self.answer: list[Any] | OSError = []

    def run(self) -> None:
        try:
            self.answer = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            self.answer = error
        except UnicodeError as error:  # a label that is too long
            self.answer = OSError(str(error))


def _said(error: Exception) -> str:
    """The reason without numbers: `Connection refused`, or what a certificate is wrong in."""
    if isinstance(error, TimeoutError) and not error.strerror:
        return "no answer to the attempt to connect"
    if message := getattr(error, "verify_message", ""):
        return f"its certificate is not to be trusted: {message}"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
