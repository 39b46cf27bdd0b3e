"""The thread that listens to the coordinator, with real sockets: it hands over commands, wakes the main loop, and stands guard."""

from __future__ import annotations

import signal
import socket
import threading
from collections import deque

import pytest

from streamcore.node import channel
from streamcore.node.lifeline import Lifeline
from streamcore.shm import segment
from streamcore.shm.status import StatusWriter, format_status, status_bytes
from streamcore.wire.inbox import Inbox
from streamcore.wire.messages import WAKE_MESSAGE, sealed
from streamcore.wire.sockets import bind_inbox

DEADLINE_S = 20
KEY = 77


class Desk:
    """A lifeline with an inbox that it wakes, and the coordinator's end of its channel. It is never closed while the lifeline runs."""

    def __init__(self, folder):
        path = str(folder / "node.1")
        self.inbox = Inbox(bind_inbox(path), path, 8)
        self.coordinator, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = control
        self.commands: deque[channel.Command] = deque()
        page = segment.create("status", status_bytes([]))
        format_status(page, [])
        self.lifeline = Lifeline(self.inbox, control, self.commands.append, StatusWriter(page), KEY)
        self.lifeline.start()

    def woken(self) -> bool:
        if not self.inbox.poll(DEADLINE_S * 1000):
            return False
        assert self.inbox.take() == sealed(WAKE_MESSAGE, KEY)
        return True

    def close(self) -> None:
        self.lifeline.close()
        self.inbox.close()
        self.coordinator.close()
        self.control.close()


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_command_is_handed_over_before_the_main_loop_is_woken(desk):
    for command in (channel.Start({"a": 1}), channel.PeerGone("b"), channel.Stop()):
        desk.coordinator.send(channel.encode(command))
        assert desk.woken()
        while not desk.commands:
            assert desk.woken(), "woken without the command"
        assert desk.commands.popleft() == command


def test_anybody_can_wake_the_main_loop_from_any_thread(desk):
    thread = threading.Thread(target=desk.lifeline.poke)
    thread.start()
    assert desk.woken()
    thread.join(DEADLINE_S)


def test_a_signal_wakes_the_main_loop_even_if_its_handler_has_not_run_yet(desk):
    # A signal just before the main thread falls asleep would otherwise be noticed at the next message, which may never come.
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    wakeup_before = signal.set_wakeup_fd(desk.lifeline.wake_fd, warn_on_full_buffer=False)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert desk.woken()
    finally:
        signal.set_wakeup_fd(wakeup_before)
        signal.signal(signal.SIGUSR1, before)


def test_pokes_that_nobody_has_seen_yet_do_no_harm(desk):
    for _ in range(200_000):  # more than a pipe holds
        desk.lifeline.poke()
    assert desk.woken()


def test_a_guard_is_called_until_it_is_not_needed_any_more_and_again_when_it_is(desk):
    calls, done = [], threading.Event()

    def guard() -> bool:
        calls.append(threading.current_thread().name)
        if len(calls) % 5 == 0:
            done.set()
        return len(calls) % 5 != 0

    for _ in range(3):
        done.clear()
        desk.lifeline.call_guard(guard)
        assert done.wait(DEADLINE_S), "the guard was not called often enough"
    assert set(calls) == {"lifeline"}


def test_the_end_of_a_lifeline_is_prompt(desk):
    closing = threading.Thread(target=desk.lifeline.close)
    closing.start()
    closing.join(DEADLINE_S)
    assert not closing.is_alive()
