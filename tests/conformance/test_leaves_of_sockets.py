"""The leaves that wait, read and send do what their Python does, with genuine connections and with odd ones."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaves import assert_nothing_is_left, number, outcome, u32

from streamcore.wire.sockets import EVENTS_MAX, READ_BYTES, RECEIVE_MAX


class Lines:
    """Connections in an epoll, the listener of an inbox among them."""

    def __init__(self, count: int):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(f"\0{os.getpid()}.{next(numbers)}")
        self.listener.listen(8)
        self.pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        self.epoll = select.epoll()
        self.names = {self.listener.fileno(): -1}
        for place, (ours, theirs) in enumerate(self.pairs):
            theirs.setblocking(False)
            self.names[ours.fileno()] = place
        for one in (self.listener, *(ours for ours, _ in self.pairs)):
            one.setblocking(False)
            self.epoll.register(one, select.EPOLLIN)

    def gathered(self, gather: Any) -> tuple[list[bytes], list[int]]:
        """Descriptors by their places, in the order in which both forms find them; what has ended is closed, as an inbox does it."""
        messages, odd = gather(self.epoll, self.epoll.fileno(), 0, 0)
        for fd in odd:
            self.epoll.unregister(fd)
        return messages, [self.names[fd] for fd in odd]

    def close(self) -> None:
        for one in (*(end for pair in self.pairs for end in pair), self.listener, self.epoll):
            one.close()


def both_give(forms: Any, name: str, *args: Any) -> None:
    """The same, or the same error."""
    assert outcome(forms.leaves[name], *args) == outcome(forms.python[name], *args)


numbers = itertools.count()
traffic = st.lists(st.one_of(st.integers(0, 400), st.sampled_from([READ_BYTES - 1, READ_BYTES, READ_BYTES + 1])), max_size=40)
ends = st.sampled_from(["open", "closed", "shut down", "reset"])


@given(st.lists(st.tuples(traffic, ends), max_size=3), st.booleans())
def test_what_lies_in_connections(forms, sent, knocked):
    both = [Lines(len(sent)) for _ in range(2)]
    for lines in both:
        for (sizes, end), (ours, theirs) in zip(sent, lines.pairs, strict=True):
            with suppress(BlockingIOError):
                for size in sizes:
                    theirs.send(bytes([size % 251]) * size)
            if end == "reset":
                ours.send(b"which nobody reads")
            if end == "shut down":
                theirs.shutdown(socket.SHUT_WR)
            elif end != "open":
                theirs.close()
        if knocked:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.connect(lines.listener.getsockname())
    for _ in range(5):
        python, leaf = (lines.gathered(form["gather"]) for lines, form in zip(both, (forms.python, forms.leaves), strict=True))
        assert leaf == python
        assert len(leaf[0]) <= RECEIVE_MAX * len(sent) and all(leaf[0])
    for lines in both:
        lines.close()


def test_of_many_connections_each_has_its_turn(forms):
    for form in (forms.python, forms.leaves):
        lines = Lines(2 * EVENTS_MAX)
        for place, (_, theirs) in enumerate(lines.pairs):
            for _ in range(2 * RECEIVE_MAX):
                theirs.send(bytes([place]))
        first, second = (Counter(lines.gathered(form["gather"])[0]) for _ in range(2))
        assert set(first.values()) == set(second.values()) == {RECEIVE_MAX}
        assert set(first) | set(second) == {bytes([place]) for place in range(2 * EVENTS_MAX)}
        lines.close()


@pytest.mark.parametrize("linger_ns", [0, 1, 100_000, 10_000_000])
def test_waiting_ends_with_a_message_a_deadline_or_a_signal(forms, linger_ns):
    for form in (forms.python, forms.leaves):
        lines, heard = Lines(1), []
        began = time.monotonic()
        assert form["gather"](lines.epoll, lines.epoll.fileno(), 30, linger_ns) == ([], [])
        assert time.monotonic() - began >= 0.029
        threading.Timer(0.03, lambda lines=lines: lines.pairs[0][1].send(b"x")).start()
        assert form["gather"](lines.epoll, lines.epoll.fileno(), -1, linger_ns) == ([b"x"], [])
        before = signal.signal(signal.SIGUSR1, lambda *_, heard=heard: heard.append(True))
        threading.Timer(0.03, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert form["gather"](lines.epoll, lines.epoll.fileno(), 300, linger_ns) == ([], [])
        assert heard == [True], "its handler has run"
        signal.signal(signal.SIGUSR1, lambda *_: 1 / 0)
        threading.Timer(0.03, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(ZeroDivisionError):
            form["gather"](lines.epoll, lines.epoll.fileno(), -1, linger_ns)
        signal.signal(signal.SIGUSR1, before)
        lines.close()


@pytest.mark.parametrize("args", [(), (None, 0, 0, 0), (None, -1, 0, 0), (None, "x", 0, 0), (None, 2**70, 0, 0), (None, 2**31 - 1, 0, 0)])
def test_what_is_nothing_to_gather_from(forms, args):
    both_give(forms, "gather", *args)


@pytest.mark.parametrize("timeout_ms", [None, 2**31, 2**70, "x"])
def test_what_is_no_time_to_wait(forms, timeout_ms):
    lines = Lines(1)
    lines.pairs[0][1].send(b"x")
    both_give(forms, "gather", lines.epoll, lines.epoll.fileno(), timeout_ms, 0)
    lines.close()


@given(st.one_of(st.binary(max_size=300), st.integers(0, 300_000).map(bytes)), st.one_of(u32, number))
def test_a_message_is_sealed_and_sent(forms, message, key):
    both = [Lines(1) for _ in range(2)]
    done = [
        outcome(form["transmit"], lines.pairs[0][1].send, lines.pairs[0][1].fileno(), message, key)
        for lines, form in zip(both, (forms.python, forms.leaves), strict=True)
    ]
    python, leaf = (lines.gathered(forms.python["gather"]) for lines in both)
    assert (done[1], leaf) == (done[0], python)
    if done[0] == ("gives", True) and len(message) < READ_BYTES - 4:
        assert leaf == ([forms.python["sealed"](message, key)], [])
    for lines in both:
        lines.close()


@pytest.mark.parametrize("there", ["full", "closed", "reset"])
def test_what_cannot_be_sent(forms, there):
    done = []
    for form in (forms.python, forms.leaves):
        lines = Lines(1)
        ours, theirs = lines.pairs[0]
        with suppress(BlockingIOError):
            while there != "closed":
                theirs.send(bytes(1000))
        if there != "full":
            ours.close()
        done.append([outcome(form["transmit"], theirs.send, theirs.fileno(), b"x", 1)[0] for _ in range(3)])
        lines.close()
    assert done[0][-1] == done[1][-1] == ("gives" if there == "full" else BrokenPipeError)
    assert set(done[1]) <= {"gives", BrokenPipeError, ConnectionResetError}


@pytest.mark.parametrize("fd", [-1, 2**31, None, "x"])
def test_sending_where_nothing_is_open_is_left_to_python(forms, fd):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone:
        both_give(forms, "transmit", alone.send, fd, b"x", 1)
        both_give(forms, "transmit", alone.send, alone.fileno(), bytearray(b"x"), 1)


def test_what_is_plain_is_not_left_to_python(forms):
    lines = Lines(1)
    theirs = lines.pairs[0][1]
    forms.asked.clear()
    assert forms.leaves["transmit"](theirs.send, theirs.fileno(), b"plain", 1)
    assert forms.leaves["gather"](lines.epoll, lines.epoll.fileno(), 1000, 1000) == ([forms.python["sealed"](b"plain", 1)], [])
    assert forms.leaves["gather"](lines.epoll, lines.epoll.fileno(), 0, 1000) == ([], [])
    assert not forms.asked
    lines.close()


def test_nothing_is_leaked(forms):
    lines = Lines(2)
    (_, one), (_, other) = lines.pairs
    other.close()
    message = b"kept by nobody" * 10

    def once() -> None:
        for _ in range(3):
            forms.leaves["transmit"](one.send, one.fileno(), message, 1)
        messages, odd = forms.leaves["gather"](lines.epoll, lines.epoll.fileno(), 0, 0)
        assert (len(messages), len(odd)) == (3, 1)

    assert_nothing_is_left(once, (message, lines.epoll))
    lines.close()
