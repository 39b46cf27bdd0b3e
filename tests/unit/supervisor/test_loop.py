"""The event loop: descriptors, deadlines in their order, signals as bytes."""

import os
import signal

import pytest

from streamcore.clock import Clock, ManualClock
from streamcore.supervisor.loop import Loop, Signals


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def loop(clock):
    loop = Loop(clock)
    yield loop
    loop.close()


def test_deadlines_are_met_in_their_order_and_not_before(loop, clock):
    met = []
    for name, seconds in (("late", 2), ("first", 1), ("second", 1)):
        loop.after(seconds, lambda name=name: met.append(name))
    loop.after(0, lambda: met.append("now"))
    loop.turn()
    assert met == ["now"]
    clock.advance(1)
    loop.turn()
    assert met == ["now", "first", "second"]
    clock.advance(1)
    loop.turn()
    assert met == ["now", "first", "second", "late"]


def test_a_cancelled_deadline_is_not_met(loop, clock):
    met = []
    loop.after(1, lambda: met.append("cancelled")).cancel()
    loop.after(1, lambda: met.append("kept"))
    clock.advance(1)
    loop.turn()
    assert met == ["kept"]


def test_without_deadlines_it_sleeps_for_ever(loop):
    # Promise: an idle process costs nothing. A timeout here would be a wake-up.
    loop.after(1, lambda: None).cancel()
    assert loop._timeout_s() is None


def test_a_callback_that_removes_another_descriptor_of_the_same_turn_silences_it(loop):
    # A process that dies makes its channel and its pidfd readable at once; the first handler closes both.
    called = []
    pipes = {name: os.pipe() for name in "ab"}
    for name, (reader, writer) in pipes.items():
        other = pipes["b" if name == "a" else "a"][0]
        loop.watch(reader, lambda name=name, other=other: (called.append(name), loop.unwatch(other)))
        os.write(writer, b"x")
    loop.turn()
    assert len(called) == 1
    for fds in pipes.values():
        for fd in fds:
            os.close(fd)


def test_signals_arrive_as_numbers_and_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    signals, loop, got = Signals(), Loop(Clock()), []
    try:
        loop.watch(signals.fd, lambda: got.extend(signals.read()))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        loop.turn()
        assert got == [signal.SIGTERM, signal.SIGINT]
        assert signals.read() == []
    finally:
        signals.close()
        loop.close()
    assert {number: signal.getsignal(number) for number in before} == before
