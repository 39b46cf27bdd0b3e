"""One thread at a time."""

from __future__ import annotations

import sys
import threading

import pytest

from streamcore.wire.turn import Turn

DEADLINE_S = 30.0


@pytest.fixture
def fast_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_threads_do_in_turn_is_never_mixed(fast_switches):
    turn, count = Turn(), [0]

    def add() -> None:
        for _ in range(2000):
            turn.take()
            before = count[0]
            for _ in range(5):  # room for another thread
                pass
            count[0] = before + 1
            turn.give(None)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert count == [8000]


def test_who_waits_has_it_when_it_is_given_and_not_before():
    turn, order = Turn(), []
    turn.take()
    asking = threading.Event()

    def wait() -> None:
        asking.set()
        turn.take()
        order.append("second")

    thread = threading.Thread(target=wait)
    thread.start()
    assert asking.wait(DEADLINE_S), "the other thread never ran"
    thread.join(0.05)
    order.append("first")
    turn.give(None)
    thread.join(DEADLINE_S)
    assert order == ["first", "second"]
