"""`--detach`: the starter learns how the start went, and the background process needs nobody afterwards."""

import os
import signal
import sys

import pytest

from streamcore.supervisor.detach import VARIABLE, Announcer, spawn_detached

BACKGROUND = "import os, sys, time; from streamcore.supervisor.detach import Announcer; announcer = Announcer(); "


@pytest.fixture
def detached(tmp_path):
    log = tmp_path / "coordinator.log"

    def start(code):
        return (*spawn_detached([sys.executable, "-c", BACKGROUND + code], str(log)), log)

    return start


def test_what_the_background_process_announces_is_returned_while_it_goes_on(detached, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    then = f"print(open({str(fifo)!r}).read(), os.getsid(0) == os.getpid(), flush=True)"
    status, text, log = detached(f"announcer.announce(0, 'run t is up'); {then}")
    assert (status, text) == (0, "run t is up")
    with open(fifo, "w") as pipe:  # it is still there: opening for writing waits for its reader
        pipe.write("hello")
    while not log.read_text():
        os.sched_yield()
    assert log.read_text() == "hello True\n"


def test_a_failure_is_announced_with_its_status(detached):
    status, text, _ = detached("announcer.announce(2, 'spec.yaml:1:1 wrong'); announcer.announce(0, 'too late')")
    assert (status, text) == (2, "spec.yaml:1:1 wrong")


@pytest.mark.parametrize(("end", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 1), ("raise ValueError('x')", 1)])
def test_an_end_without_a_word_is_told_with_the_end_of_its_log(detached, end, status):
    found, text, _ = detached(f"print('starting', flush=True); {end}")
    assert found == status
    assert text.startswith("starting")


def test_the_descriptor_is_not_passed_on_to_children(detached, tmp_path):
    # A node that held it would keep the starter waiting after the coordinator has died: here, until the fifo is written to.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = f"import subprocess; subprocess.Popen(['cat', {str(fifo)!r}], close_fds=False)"
    status, text, _ = detached(f"print({VARIABLE!r} in os.environ, flush=True); {child}; sys.exit(3)")
    assert (status, text) == (3, "False")
    fifo.write_text("now it may end")


def test_a_signal_to_the_starter_is_passed_on_and_it_waits_until_the_background_process_has_ended(detached):
    # Whoever presses Ctrl-C on `up --detach` would otherwise leave a run that nobody has asked for.
    code = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); os.kill(os.getppid(), signal.SIGINT); "
    status, text, log = detached(code + "time.sleep(1000)")
    assert (status, "SIGINT" in text) == (128 + signal.SIGINT, True)
    assert log.read_text() == ""


def test_a_process_that_was_not_detached_announces_to_nobody(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    announcer = Announcer()
    assert not announcer.detached
    announcer.announce(0, "up")
