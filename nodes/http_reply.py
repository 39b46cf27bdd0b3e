"""An HTTP/1.1 reply read from bytes as they come: bounded, strict, and exact about where it ends. No I/O and no clock of its own.

The standard library's reader was tried: it takes a byte a second from a server for as long as that likes, takes 103 for the final answer,
and makes a post half as costly again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import NamedTuple

HEAD_BYTES_MAX = 64 << 10  # of status line and headers together: more than servers are known to send
BODY_BYTES_MAX = 64 << 10  # a longer body is not read to its end; its connection is given up
TRAILERS_MAX = 64
INTERIM_MAX = 16  # replies such as 102 and 103 before the one that counts
RECEIVE_BYTES = 16 << 10

END_BYTES_MAX = 4
_END_OF_HEAD, _END_OF_LINE = re.compile(rb"\r?\n\r?\n"), re.compile(rb"\r?\n")  # small servers send bare line feeds
_BEGIN = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\x20-\x7e\x80-\xff\t]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

Receive = Callable[[], bytes]


class BadReply(ValueError):
    """What came is no HTTP/1.1 reply, or ended too early."""


class Reply(NamedTuple):
    """`headers` by their names in lower case, a repeated one joined by commas; `body` as far as it was read; `reusable`: the connection."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    reusable: bool


def read_reply(receive: Receive) -> Reply:
    """Read one reply by calling `receive` for more bytes; b"" is the end of the stream.

    A reply counts as soon as its headers are complete. If its body breaks off, is too long or is none, the connection is not reusable.

    Raises:
      BadReply: no reply, or not all of its head.
      Whatever `receive` raises before the head is complete.
    """
    stream = _Stream(receive)
    for _ in range(INTERIM_MAX):
        version, status, headers = _read_head(stream)
        if status == 101:
            raise BadReply("found status 101, and nobody asked for another protocol")
        if status >= 200:
            break
    else:
        raise BadReply(f"found {INTERIM_MAX} interim replies, expected a final one")
    options = headers.get(b"connection", b"").lower()
    stays = b"keep-alive" in options if version == 0 else b"close" not in options
    try:
        whole = _read_body(stream, status, headers)
    except (OSError, BadReply):  # it has been answered, and what of the reason came will do
        whole = False
    return Reply(status, headers, bytes(stream.body), stays and whole and not stream.buffer)


class _Stream:
    """Bytes received and not yet used, and the body so far."""

    def __init__(self, receive: Receive):
        self._receive, self.buffer, self.body = receive, bytearray(), bytearray()

    def more(self) -> None:
        data = self._receive()
        if not data:
            raise BadReply("the connection was closed before the reply was complete" if self.buffer else "the connection was closed")
        self.buffer += data

    def until(self, end: re.Pattern[bytes], bytes_max: int) -> bytes:
        """What comes before `end`, which is used up as well."""
        searched = 0
        while (found := end.search(self.buffer, searched)) is None:
            if len(self.buffer) > bytes_max:
                raise BadReply(f"found more than {bytes_max} bytes without the end of a line or head")
            searched = max(0, len(self.buffer) - END_BYTES_MAX + 1)
            self.more()
        text = bytes(self.buffer[: found.start()])
        del self.buffer[: found.end()]
        return text

    def into_body(self, count: int) -> bool:
        """Move so many bytes to the body, as they come; False, and not all of them, if that is too long."""
        while count:
            if not self.buffer:
                self.more()
            part = self.buffer[:count]
            del self.buffer[: len(part)]
            self.body += part
            count -= len(part)
            if len(self.body) > BODY_BYTES_MAX:
                return False
        return True


def _read_head(stream: _Stream) -> tuple[int, int, dict[bytes, bytes]]:
    """(minor version, status, headers)."""
    while len(stream.buffer) < len(_BEGIN):
        stream.more()
        if not _BEGIN.startswith(stream.buffer[: len(_BEGIN)]):  # known at once: a mail server says a line and then waits for ours
            raise BadReply(f"found {bytes(stream.buffer[:40])!r}, expected HTTP/1.1")
    first, *lines = _END_OF_LINE.split(stream.until(_END_OF_HEAD, HEAD_BYTES_MAX))
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise BadReply(f"found {first[:40]!r}, expected HTTP/1.1 and a status from 100 to 599")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadReply(f"found {line[:40]!r}, expected a header")
        name, value = name.lower(), value.strip(b" \t")
        headers[name] = headers[name] + b", " + value if name in headers else value
    return int(match[1]), int(match[2]), headers


def _read_body(stream: _Stream, status: int, headers: dict[bytes, bytes]) -> bool:
    """Read the body as far as it is wanted. True if the reply ends there, and the next one would begin."""
    if status in (204, 304):
        return True
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        return coding.lower() == b"chunked" and b"content-length" not in headers and _read_chunks(stream)
    length = headers.get(b"content-length")
    if length is None:  # up to the end of the connection
        stream.into_body(BODY_BYTES_MAX + 1)
        return False
    if not _LENGTH.fullmatch(length):
        return False
    return stream.into_body(int(length))


def _read_chunks(stream: _Stream) -> bool:
    while True:
        line = _CHUNK.fullmatch(stream.until(_END_OF_LINE, 4096))
        if line is None:
            return False
        size = int(line[1], 16)
        if size == 0:
            break
        if not stream.into_body(size) or stream.until(_END_OF_LINE, 1):
            return False
    return any(not stream.until(_END_OF_LINE, 4096) for _ in range(TRAILERS_MAX + 1))


def asked_wait_s(reply: Reply, wall_s: float) -> float:
    """What Retry-After asks for, 0 if it does not. A date is held against the server's own clock where it tells it, else against ours."""
    said = reply.headers.get(b"retry-after", b"")
    if _LENGTH.fullmatch(said):
        return float(said)
    until, now = _seconds_of(said), _seconds_of(reply.headers.get(b"date", b""))
    return 0.0 if until is None else max(0.0, until - (wall_s if now is None else now))


def _seconds_of(date: bytes) -> float | None:
    try:
        return parsedate_to_datetime(date.decode("ascii")).timestamp()
    except (ValueError, TypeError, OverflowError):  # what people write into headers
        return None


def words_of(reply: Reply) -> str:
    """The body as one line of printable text."""
    text = reply.body.decode("utf-8", "replace")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
