"""Looking before sleeping: when an inbox does it."""

from __future__ import annotations

import time

import pytest

from streamcore.wire import inbox as module
from streamcore.wire.inbox import Inbox
from streamcore.wire.sockets import bind_inbox, inbox_path


@pytest.fixture
def waits(tmp_path, monkeypatch):
    """Waits of an inbox that lingers: `waits(slow)` is one; gives for how long it looked before it slept, in ns."""
    path, asked = inbox_path(str(tmp_path), "eager", 1), []
    made = Inbox(bind_inbox(path), path, 8, lingers=True)

    def wait(slow: bool, timeout_ms: int | None = None) -> int:
        def gather(epoll, timeout_ms, linger_ns):
            asked.append(linger_ns)
            time.sleep(2 * module.LINGER_NS / 1e9 if slow else 0)
            return [b"x"], []

        monkeypatch.setattr(module, "gather", gather)
        assert made.poll(timeout_ms) and made.take() == b"x"
        return asked[-1]

    yield wait
    made.close()


def test_after_some_short_waits_an_inbox_looks_before_it_sleeps_until_that_was_in_vain(waits):
    for _ in range(3):
        for _ in range(module.SHORT_WAITS):
            assert waits(slow=False) == 0
        assert waits(slow=False) == waits(slow=False, timeout_ms=50) == module.LINGER_NS
        assert waits(slow=False, timeout_ms=0) == 0  # that is no wait
        assert waits(slow=True) == module.LINGER_NS


def test_now_and_then_a_long_wait_is_enough_not_to_look(waits):
    for _ in range(5):
        for _ in range(module.SHORT_WAITS - 1):
            assert waits(slow=False) == 0
        assert waits(slow=True) == 0


def test_an_inbox_of_a_process_without_a_cpu_of_its_own_sleeps_at_once(tmp_path, monkeypatch):
    path = inbox_path(str(tmp_path), "patient", 1)
    inbox = Inbox(bind_inbox(path), path, 8)
    monkeypatch.setattr(module, "gather", lambda epoll, timeout_ms, linger_ns: ([b"%d" % linger_ns], []))
    for _ in range(3 * module.SHORT_WAITS):
        assert inbox.poll(None) and inbox.take() == b"0"
    inbox.close()
