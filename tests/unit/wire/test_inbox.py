"""Inbox, peers and wakers over real sockets."""

from __future__ import annotations

import os
import random
import socket
import stat
import threading
import time

import pytest
import zmq

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.wire.inbox import Inbox, Peer, Waker, inbox_path, make_context
from streamcore.wire.messages import CHECK_BYTES, WAKE_MESSAGE, unsealed

DEADLINE_MS = 10_000
KEY = 0x0DDBA115
WAITING_MAX = 100


@pytest.fixture
def context():
    made = make_context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def inbox(context, tmp_path):
    made = Inbox(context, inbox_path(str(tmp_path), "sink", 3), WAITING_MAX)
    yield made
    made.close()


def receive(inbox: Inbox) -> bytes:
    assert inbox.poll(DEADLINE_MS), "no message arrived"
    return unsealed(inbox.take(), KEY)


def test_the_path_of_an_inbox_names_node_and_incarnation(tmp_path):
    # A second bind on a live path would silently steal it.
    assert inbox_path(str(tmp_path), "sink", 3) == f"{tmp_path}/sink.3"


def test_nobody_else_may_use_the_socket_of_an_inbox(inbox):
    found = os.stat(inbox.path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) & 0o077 == 0


def test_binding_leaves_the_umask_alone(inbox):
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask != 0o077


def test_messages_of_one_peer_arrive_in_order(context, inbox):
    peer = Peer(context, inbox.path, KEY)
    for number in range(5000):
        peer.send(b"%d" % number)
    assert [int(receive(inbox)) for _ in range(5000)] == list(range(5000))
    peer.close(orderly=False)


def test_a_peer_never_blocks_although_nobody_receives(context, tmp_path):
    # Credits are the limit. A high-water mark as well would refuse messages that there is credit for.
    peer = Peer(context, str(tmp_path / "nobody.1"), KEY)
    for _ in range(20_000):
        peer.send(b"x" * 100)
    peer.close(orderly=False)


def test_what_was_sent_before_an_orderly_close_arrives(context, inbox):
    peer = Peer(context, inbox.path, KEY)
    for number in range(100):
        peer.send(b"%d" % number)
    peer.close(orderly=True)
    assert [int(receive(inbox)) for _ in range(100)] == list(range(100))


def test_sending_to_a_closed_peer_sends_to_nobody(context, inbox):
    # Another thread may be about to send just when the main thread closes.
    peer = Peer(context, inbox.path, KEY)
    send = peer.send
    peer.close(orderly=False)
    send(b"x")
    assert not inbox.poll(20)


def test_a_message_longer_than_the_limit_does_not_arrive(context, inbox):
    longest, longer = Peer(context, inbox.path, KEY), Peer(context, inbox.path, KEY)
    most = limits.MESSAGE_BYTES_MAX - CHECK_BYTES
    longer.send(bytes(most + 1))
    longest.send(bytes(most))
    assert len(receive(inbox)) == most
    assert not inbox.poll(50)
    for peer in (longest, longer):
        peer.close(orderly=False)


def test_an_inbox_that_is_not_read_takes_no_more_than_a_bounded_number_of_messages(context, inbox):
    # A flood waits at its sender: the memory of a node that is busy with a packet must not be anybody's to fill.
    flood = context.socket(zmq.PUSH)
    flood.setsockopt(zmq.SNDHWM, 1)
    flood.setsockopt(zmq.SNDTIMEO, 300)
    flood.connect(f"ipc://{inbox.path}")
    taken, end = 0, time.monotonic() + DEADLINE_MS / 1000
    while taken < 100 * WAITING_MAX:
        try:
            flood.send(bytes(limits.MESSAGE_BYTES_MAX))
            taken += 1
        except zmq.Again:
            if taken >= WAITING_MAX:
                break  # it is held back; before that only a busy box makes it wait
            assert time.monotonic() < end, f"{taken} messages were taken in {DEADLINE_MS} ms"
    assert WAITING_MAX <= taken < 3 * WAITING_MAX  # and what the kernel holds of it
    flood.close(linger=0)


def test_garbage_on_the_socket_does_not_disturb_a_good_peer(context, inbox):
    # libzmq takes bytes without a greeting for its oldest protocol and may deliver pieces of them: those no reader may accept.
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00junk", random.Random(5).randbytes(300), b"\xff" * 9 + b"\x7f" + b"\0" * 60):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(inbox.path)
            stranger.sendall(noise)
    peer = Peer(context, inbox.path, KEY)
    peer.send(b"good")
    while True:
        assert inbox.poll(DEADLINE_MS), "the good message did not arrive"
        try:
            assert unsealed(inbox.take(), KEY) == b"good"
            break
        except MessageError:
            pass
    peer.close(orderly=False)


def test_another_thread_ends_the_wait(context, inbox):
    def wake() -> None:
        waker = Waker(context, KEY)
        waker.wake()
        waker.close()

    thread = threading.Thread(target=wake)
    thread.start()
    assert receive(inbox) == WAKE_MESSAGE
    thread.join(10)


def test_polling_an_empty_inbox_gives_up_at_its_deadline(inbox):
    assert not inbox.poll(0)
    assert inbox.take() is None


def test_a_closed_inbox_leaves_no_socket_behind(context, tmp_path):
    path = inbox_path(str(tmp_path), "sink", 1)
    Inbox(context, path, WAITING_MAX).close()
    assert os.listdir(tmp_path) == []


def test_a_context_ends_at_once_although_messages_wait(tmp_path):
    # With ZeroMQ's own default a process would hang for ever on a peer that is gone.
    context = make_context()
    peer = context.socket(zmq.PUSH)
    peer.connect(f"ipc://{tmp_path}/nobody.1")
    peer.send(b"x")
    peer.close()
    ended = threading.Thread(target=context.term)
    ended.start()
    ended.join(10)
    assert not ended.is_alive()
