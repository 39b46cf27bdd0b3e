"""Looking before sleeping: when an inbox does it."""

from __future__ import annotations

import pytest

from streamcore.wire import inbox as module
from streamcore.wire.inbox import Inbox
from streamcore.wire.sockets import bind_inbox, inbox_path

AN_HOUR_NS = 3_600_000_000_000


@pytest.fixture
def make_inbox(tmp_path):
    made = []

    def make(*, lingers: bool) -> Inbox:
        path = inbox_path(str(tmp_path), "node", len(made))
        made.append(Inbox(bind_inbox(path), path, 8, lingers=lingers))
        return made[-1]

    yield make
    for one in made:
        one.close()


def looked(inbox: Inbox, *, short: bool, timeout_ms: int | None = None) -> bool:
    """Did it look before it slept, in a wait that was shorter than it would look for, or not."""
    asked = []

    def gather(epoll, fd, timeout_ms, linger_ns):
        asked.append(linger_ns)
        return [b"x"], []

    inbox._gather = gather
    inbox._linger_ns = inbox._linger_ns and (AN_HOUR_NS if short else 1)
    assert inbox.poll(timeout_ms) and inbox.take() == b"x"
    return asked != [0]


def test_after_some_short_waits_an_inbox_looks_before_it_sleeps_until_that_was_in_vain(make_inbox):
    inbox = make_inbox(lingers=True)
    for _ in range(3):
        assert [looked(inbox, short=True) for _ in range(module.SHORT_WAITS)] == [False] * module.SHORT_WAITS
        assert looked(inbox, short=True) and looked(inbox, short=True, timeout_ms=50)
        assert not looked(inbox, short=True, timeout_ms=0), "that is no wait"
        assert looked(inbox, short=False)


def test_now_and_then_a_long_wait_is_enough_not_to_look(make_inbox):
    inbox = make_inbox(lingers=True)
    for _ in range(5):
        assert not any(looked(inbox, short=True) for _ in range(module.SHORT_WAITS - 1))
        assert not looked(inbox, short=False)


def test_an_inbox_of_a_process_without_a_cpu_of_its_own_sleeps_at_once(make_inbox):
    inbox = make_inbox(lingers=False)
    assert not any(looked(inbox, short=True) for _ in range(3 * module.SHORT_WAITS))
