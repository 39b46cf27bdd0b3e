"""HTTP replies: what they say, where they end, and that no bytes whatever do more than fail."""

from __future__ import annotations

import random

import pytest

from streamcore_nodes.http_reply import BODY_BYTES_MAX, HEAD_BYTES_MAX, BadReply, asked_wait_s, read_reply, words_of


def feeding(*parts: bytes):
    """A `receive` that gives these parts, and then the end of the stream."""
    left = iter(parts)
    return lambda: next(left, b"")


def endless(part: bytes):
    given = [0]

    def receive() -> bytes:
        given[0] += len(part)
        assert given[0] < 1 << 20, "more than a megabyte was asked for"
        return part

    return receive


@pytest.mark.parametrize(
    ("raw", "status", "body", "reusable"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", 200, b"", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 400 Bad\nContent-Length: 3\n\nwhy", 400, b"why", True),
        (b"HTTP/1.1 400 Bad\r\n\r\nup to the end", 400, b"up to the end", False),
        (
            b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nno\r\nA \r\n, not today\r\n0\r\nT: x\r\n\r\n",
            500,
            b"no, not toda",
            False,
        ),
        (
            b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nno\r\nB\r\n, not today\r\n0\r\nT: x\r\n\r\n",
            500,
            b"no, not today",
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n", 201, b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", 200, b"hal", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", 200, b"", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", 200, b"", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, b"", False),
        (b"HTTP/1.1 204 X\r\n\r\nHTTP/1.1 500 not asked for\r\n\r\n", 204, b"", False),
    ],
)
def test_a_reply_is_the_same_however_it_is_cut_up(raw, status, body, reusable):
    # A connection on which the end of a reply is not known for certain would give the next packet a wrong answer.
    found = read_reply(feeding(raw))
    assert (found.status, found.body, found.reusable) == (status, body, reusable)
    bytewise = read_reply(feeding(*(raw[at : at + 1] for at in range(len(raw)))))
    assert (bytewise.status, bytewise.body) == (status, body)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 20", "closed before the reply was complete"),
        (b"220 mail.example.com ESMTP\r\n", "found b'220 mail"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "expected HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "expected HTTP/1.1"),
        (b"HTTP/1.1 999 X\r\n\r\n", "status from 100 to 599"),
        (b"HTTP/1.1 2000 X\r\n\r\n", "status from 100 to 599"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "expected a header"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", "expected a header"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 102 P\r\n\r\n" * 20, "interim replies"),
    ],
)
def test_what_is_no_reply_is_refused_and_shown(raw, says):
    with pytest.raises(BadReply, match=says):
        read_reply(feeding(raw))


def test_nothing_is_read_without_end():
    with pytest.raises(BadReply, match=f"more than {HEAD_BYTES_MAX} bytes"):
        read_reply(endless(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000))
    for head in (b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"):
        once = feeding(b"HTTP/1.1 400 Bad\r\n" + head)
        more = endless(b"5\r\nabcde\r\n" * 500)
        found = read_reply(lambda once=once, more=more: once() or more())
        assert (found.status, found.reusable) == (400, False)
        assert BODY_BYTES_MAX < len(found.body) < 2 * BODY_BYTES_MAX


def test_an_error_of_the_connection_after_the_head_takes_nothing_back():
    parts = feeding(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha")

    def receive() -> bytes:
        return parts() or (_ for _ in ()).throw(TimeoutError())

    assert read_reply(receive)[0] == 200


def test_random_bytes_and_broken_replies_only_ever_fail():
    whole = b"HTTP/1.1 400 Bad\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    outcomes = set()
    for seed in range(3000):
        draw = random.Random(seed)
        raw = bytearray(whole if seed % 3 else draw.randbytes(draw.randrange(200)))
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(raw) + 1)
            raw[at : at + draw.randrange(4)] = draw.choice(
                [draw.randbytes(draw.randrange(4)), b"\r\n", b"\n\n", b":", b"HTTP/1.1 ", b"ffff"]
            )
        cut = draw.randrange(len(raw) + 1)
        try:
            found = read_reply(feeding(bytes(raw[:cut]), bytes(raw[cut:])))
            outcomes.add("reusable" if found.reusable else "reply")
            assert 200 <= found.status <= 599 and words_of(found).isprintable()
        except BadReply:
            outcomes.add("none")
    assert outcomes == {"reusable", "reply", "none"}


DATE = b"Thu, 26 Nov 2026 05:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (b"", 0),
        (b"Retry-After: 7\r\n", 7),
        (b"Retry-After: -7\r\n", 0),
        (b"Retry-After: soon\r\n", 0),
        (b"Retry-After: \xff\r\n", 0),
        (b"Retry-After: Thu, 26 Nov 2026 05:00:30 GMT\r\nDate: " + DATE + b"\r\n", 30),
        (b"Retry-After: Thu, 26 Nov 2026 05:00:30 GMT\r\n", 20),  # by our clock, which says 05:00:10
        (b"Retry-After: Thu, 26 Nov 2026 05:00:30 GMT\r\nDate: today\r\n", 20),
        (b"Retry-After: " + DATE + b"\r\n", 0),
        (b"Retry-After: Thu, 99 Nov 2026 05:00:30 GMT\r\n", 0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(headers, wait_s):
    # The clock of a box without network may be years off: the server's own Date tells how far away its date is.
    found = read_reply(feeding(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n" + headers + b"\r\n"))
    assert asked_wait_s(found, 1795669210.0) == wait_s
