"""Another thread asks the loop: it is answered between two events, and never waits longer than it has to for a loop that hangs."""

import threading
import time

from streamcore.clock import Clock
from streamcore.coordinator import asking
from streamcore.coordinator.asking import Asking
from streamcore.supervisor.loop import Loop

DEADLINE_S = 30.0


class Asked:
    """A loop with a question for it."""

    def __init__(self, look=lambda: threading.current_thread()):
        self.loop = Loop(Clock())
        self.asking = Asking(self.loop, Clock(), look)
        self.heard = []

    def ask(self):
        thread = threading.Thread(target=lambda: self.heard.append(self.asking.ask()))
        thread.start()
        return thread

    def close(self):
        self.asking.close()
        self.loop.close()


def test_the_loop_looks_in_its_own_thread():
    asked = Asked()
    thread = asked.ask()
    asked.loop.turn()
    thread.join(DEADLINE_S)
    assert asked.heard == [threading.current_thread()]
    asked.close()


def test_a_loop_that_hangs_is_waited_for_once(monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_S", 0.2)
    asked = Asked()
    began = time.monotonic()
    assert asked.asking.ask() is None
    assert time.monotonic() - began >= 0.2
    question = asked.asking._open
    assert asked.asking.ask() is None
    assert asked.asking._open is question  # the second question is that same one, whose time is over
    monkeypatch.setattr(asking, "ANSWER_S", DEADLINE_S)
    asked.loop.turn()  # the loop is back, and has one question to answer
    thread = asked.ask()
    asked.loop.turn()
    thread.join(DEADLINE_S)
    assert asked.heard == [threading.current_thread()]
    asked.close()


def test_who_waits_when_the_run_ends_is_let_go(monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_S", DEADLINE_S)
    asked = Asked()
    thread = asked.ask()
    while asked.asking._open is None:
        thread.join(0.01)
    asked.close()
    thread.join(DEADLINE_S / 2)
    assert asked.heard == [None]
    assert asked.asking.ask() is None
