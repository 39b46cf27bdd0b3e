"""Inbox and peers over real sockets."""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
import stat
import threading
import time

import pytest

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.wire import inbox as module
from streamcore.wire.inbox import Inbox, Peer
from streamcore.wire.messages import CHECK_BYTES, WAKE_MESSAGE, sealed, unsealed
from streamcore.wire.sockets import RECEIVE_MAX, bind_inbox, inbox_path

DEADLINE_MS = 10_000
CONNECTIONS_MAX = 40
KEY = 0x0DDBA115
MOST = limits.MESSAGE_BYTES_MAX - CHECK_BYTES


class Full(list):
    """Who is told of peers that the kernel has no room for, and sends what they have later."""

    def push_all(self, reading: Inbox, most: int) -> list[bytes]:
        """Until `most` messages have come."""
        found: list[bytes] = []
        while len(found) < most:
            assert reading.poll(DEADLINE_MS), f"{len(found)} of {most} messages came"
            while (raw := reading.take()) is not None:
                found.append(unsealed(raw, KEY))
            for peer in self:
                peer.push()
        return found


@pytest.fixture
def full():
    return Full()


@pytest.fixture
def inbox(tmp_path):
    path = inbox_path(str(tmp_path), "sink", 3)
    made = Inbox(bind_inbox(path), path, CONNECTIONS_MAX)
    yield made
    made.close()


@pytest.fixture
def peer(inbox, full):
    made = Peer(inbox.path, KEY, full.append)
    yield made
    made.close(orderly=False)


def stranger(inbox: Inbox) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.connect(inbox.path)
    return made


def fill(flood: socket.socket) -> int:
    """How many messages of 1000 bytes it takes until somebody reads them; 100,000 are enough."""
    flood.setblocking(False)
    for sent in range(100_000):
        try:
            flood.send(bytes(1000))
        except BlockingIOError:
            return sent
    return 100_000


def receive_one(inbox: Inbox) -> bytes:
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while time.monotonic() < deadline:  # an event may be a connection
        if inbox.poll(DEADLINE_MS) and (raw := inbox.take()) is not None:
            return unsealed(raw, KEY)
    raise AssertionError("no message arrived")


def test_the_path_of_an_inbox_names_node_and_incarnation(tmp_path):
    # What was meant for a dead process must not reach its successor.
    assert inbox_path(str(tmp_path), "sink", 3) == f"{tmp_path}/sink.3"


def test_nobody_else_may_use_the_socket_of_an_inbox(inbox):
    found = os.stat(inbox.path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) & 0o077 == 0


def test_an_inbox_is_never_taken_from_a_live_process(inbox):
    with pytest.raises(OSError, match=f"{os.strerror(errno.EADDRINUSE)}: {inbox.path}"):
        bind_inbox(inbox.path)


def test_messages_of_one_peer_arrive_in_order(inbox, peer):
    for number in range(100):
        peer.send(b"%d" % number)
    assert [int(receive_one(inbox)) for _ in range(100)] == list(range(100))


def test_what_is_sent_before_there_is_a_process_waits_for_it(tmp_path, full):
    path = str(tmp_path / "late.1")
    bound = bind_inbox(path)
    peer = Peer(path, KEY, full.append)
    peer.send(b"early")
    inbox = Inbox(bound, path, CONNECTIONS_MAX)
    assert receive_one(inbox) == b"early"
    peer.close(orderly=False)
    inbox.close()


def test_a_peer_never_blocks_although_nobody_receives_and_everything_arrives_in_order(inbox, peer, full):
    # Credits are the limit. Whatever the kernel refuses besides waits here.
    for number in range(20_000):
        peer.send(b"%d" % number)
    assert full == [peer], "who sends the rest is told once"
    assert [int(raw) for raw in full.push_all(inbox, 20_000)] == list(range(20_000))
    assert peer.push()


def test_who_sends_the_rest_is_told_again_when_there_is_a_rest_again(inbox, peer, full):
    for count in (1, 2):
        while len(full) < count:
            peer.send(bytes(1000))
        while inbox.poll(0):
            while inbox.take() is not None:
                pass
            peer.push()
        assert peer.push()


@pytest.mark.parametrize("place", ["no directory", "no file", "nobody"])
def test_what_is_sent_to_a_process_that_is_gone_is_dropped(tmp_path, full, place):
    path = tmp_path / "gone.1"
    if place == "no directory":
        path = path / "gone.1"
    elif place == "nobody":
        bind_inbox(str(path)).close()
    peer = Peer(str(path), KEY, full.append)
    for _ in range(1000):
        peer.send(b"x" * 1000)
    assert (full, peer.push()) == ([], True)
    peer.close(orderly=True)


def test_what_is_sent_to_a_process_that_dies_is_dropped(tmp_path, full):
    path = str(tmp_path / "dies.1")
    inbox = Inbox(bind_inbox(path), path, CONNECTIONS_MAX)
    peer = Peer(path, KEY, full.append)
    while not full:
        peer.send(b"x" * 1000)
    inbox.close()
    assert peer.push()
    peer.send(b"x")
    peer.close(orderly=True)


def test_what_was_sent_before_a_peer_was_closed_arrives(inbox, full):
    for orderly in (True, False):
        peer = Peer(inbox.path, KEY, full.append)
        for number in range(50):
            peer.send(b"%d" % number)
        peer.close(orderly=orderly)
        assert [int(receive_one(inbox)) for _ in range(50)] == list(range(50))
    assert not full


def test_an_orderly_close_sends_what_waits_as_long_as_somebody_reads(inbox, full):
    peer, count = Peer(inbox.path, KEY, full.append), 0
    while not full or count % 100:
        peer.send(b"%d" % count)
        count += 1
    closing = threading.Thread(target=lambda: peer.close(orderly=True))
    closing.start()
    assert [int(receive_one(inbox)) for _ in range(count)] == list(range(count))
    closing.join(10)


def test_an_orderly_close_does_not_wait_for_ever(inbox, full, monkeypatch):
    monkeypatch.setattr(module, "CLOSING_S", 0.05)
    peer = Peer(inbox.path, KEY, full.append)
    while not full:
        peer.send(b"x" * 1000)
    peer.close(orderly=True)
    assert (peer.fileno(), peer.push()) == (-1, True)


def test_sending_to_a_closed_peer_sends_to_nobody(inbox, peer, full):
    # Another thread may be about to send just when the main thread closes.
    send = peer.send
    peer.close(orderly=False)
    send(b"x")
    assert inbox.poll(DEADLINE_MS)  # its end
    assert (inbox.take(), full) == (None, [])


def test_a_sleep_is_not_ended_by_what_comes(inbox, peer):
    peer.send(b"early")
    began_ns = time.monotonic_ns()
    inbox.sleep(20_000_000)
    assert time.monotonic_ns() - began_ns >= 20_000_000
    assert receive_one(inbox) == b"early"


def test_the_longest_message_arrives_and_a_longer_one_is_cut(inbox, peer):
    peer.send(bytes(MOST))
    assert len(receive_one(inbox)) == MOST
    peer.send(bytes(2 * MOST))
    assert inbox.poll(DEADLINE_MS)
    with pytest.raises(MessageError, match="checksum"):
        unsealed(inbox.take(), KEY)
    peer.send(b"the next")
    assert receive_one(inbox) == b"the next"


def test_a_flood_waits_at_its_sender_and_others_come_in_turn(inbox, peer):
    # The memory of a node that is busy with a packet must not be anybody's to fill, nor its attention.
    with stranger(inbox) as flood:
        assert fill(flood) < 10_000
        peer.send(b"good")
        turns = 0
        while True:
            assert inbox.poll(DEADLINE_MS)
            raw = inbox.take()
            turns += 1
            if raw is not None and len(raw) < 100:
                break
        assert unsealed(raw, KEY) == b"good"
        assert turns <= 3 * RECEIVE_MAX


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_of_another_kind_cannot_connect(inbox, kind):
    with socket.socket(socket.AF_UNIX, kind) as other, pytest.raises(OSError, match=os.strerror(errno.EPROTOTYPE)):
        other.connect(inbox.path)


def test_garbage_does_not_disturb_a_good_peer(inbox, peer):
    noise = [b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00junk", random.Random(5).randbytes(300), b"\xff" * 9 + b"\x7f" + b"\0" * 60]
    with stranger(inbox) as other:
        for raw in noise:
            other.send(raw)
        peer.send(b"good")
        found = []
        while len(found) <= len(noise):
            assert inbox.poll(DEADLINE_MS), f"only {found} arrived"
            while (raw := inbox.take()) is not None:
                try:
                    found.append(unsealed(raw, KEY))
                except MessageError:
                    found.append(raw)
    assert sorted(found) == sorted([*noise, b"good"])


def test_an_empty_message_ends_a_connection_and_disturbs_nobody(inbox, peer):
    with stranger(inbox) as other:
        for raw in (sealed(b"1", KEY), b"", sealed(b"2", KEY)):
            other.send(raw)
        assert receive_one(inbox) == b"1"
        while inbox.poll(50):
            assert inbox.take() is None
        with pytest.raises(ConnectionError):
            other.send(b"3")
    peer.send(b"good")
    assert receive_one(inbox) == b"good"


def test_who_connects_for_another_user_is_not_heard(inbox, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with stranger(inbox) as other:
        other.send(sealed(b"words of a stranger", KEY))
        while inbox.poll(50):
            assert inbox.take() is None
        with pytest.raises(ConnectionError):
            other.send(b"more")


def turn(inbox: Inbox) -> bool:
    """One turn of a loop that waits; False: it would sleep."""
    woken = inbox.poll(0)
    while inbox.take() is not None:
        pass
    return woken


def test_connections_have_a_bound_and_those_above_it_wait_for_an_end(inbox):
    others = [stranger(inbox) for _ in range(CONNECTIONS_MAX + 20)]
    while turn(inbox):
        pass
    peer = Peer(inbox.path, KEY, lambda peer: None)
    peer.send(b"patient")
    assert not inbox.poll(50), "idle costs nothing, also with more at the door"
    for other in others[:30]:
        other.close()
    assert receive_one(inbox) == b"patient"
    for other in others:
        other.close()
    peer.close(orderly=False)


def test_without_descriptors_a_connection_waits_until_there_are_some(inbox, peer):
    peer.send(b"known")
    assert receive_one(inbox) == b"known"
    late = Peer(inbox.path, KEY, lambda peer: None)
    late.send(b"late")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_fd = os.dup(0)
    os.close(next_fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_fd, hard))
    try:
        while turn(inbox):
            pass
        assert not inbox.poll(50), "it does not try for ever"
        peer.send(b"still heard")
        assert receive_one(inbox) == b"still heard"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    peer.send(b"and now")
    assert {receive_one(inbox), receive_one(inbox)} == {b"and now", b"late"}
    late.close(orderly=False)


def test_a_connection_has_ended_although_a_child_of_this_process_has_a_copy_of_it(inbox):
    other = stranger(inbox)
    while turn(inbox):
        pass
    blocked, release = os.pipe()
    child = os.fork()
    if child == 0:
        other.close()
        os.close(release)
        os.read(blocked, 1)
        os._exit(0)
    try:
        other.close()
        assert inbox.poll(DEADLINE_MS), "that it has ended was not seen"
        assert inbox.take() is None
        assert not inbox.poll(50), "idle costs nothing, also with the copy there"
    finally:
        os.close(release)
        os.close(blocked)
        os.waitpid(child, 0)


def test_another_thread_ends_the_wait(inbox):
    thread = threading.Thread(target=inbox.wake, args=[sealed(WAKE_MESSAGE, KEY)])
    thread.start()
    assert receive_one(inbox) == WAKE_MESSAGE
    thread.join(10)


def test_waking_never_blocks(inbox):
    for _ in range(10_000):
        inbox.wake(sealed(WAKE_MESSAGE, KEY))
    assert receive_one(inbox) == WAKE_MESSAGE


def test_polling_an_empty_inbox_gives_up_at_its_deadline(inbox):
    assert not inbox.poll(0)
    assert inbox.take() is None


def test_a_look_in_vain_hides_nothing_that_comes_after_it(inbox, peer):
    peer.send(b"first")
    assert receive_one(inbox) == b"first"
    assert not inbox.poll(0)
    peer.send(b"second")
    assert unsealed(inbox.take(), KEY) == b"second"


def test_what_was_read_and_not_taken_ends_the_next_wait(inbox, peer):
    for number in range(3):
        peer.send(b"%d" % number)
    assert receive_one(inbox) == b"0"
    assert inbox.poll(DEADLINE_MS)
    assert [receive_one(inbox), receive_one(inbox)] == [b"1", b"2"]
    assert not inbox.poll(0)


def test_a_closed_inbox_leaves_no_socket_behind_and_no_descriptor(tmp_path):
    before = os.listdir("/proc/self/fd")
    path = inbox_path(str(tmp_path), "sink", 1)
    made = Inbox(bind_inbox(path), path, CONNECTIONS_MAX)
    peer = Peer(path, KEY, lambda peer: None)
    turn(made)
    peer.close(orderly=True)
    made.close()
    assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before
