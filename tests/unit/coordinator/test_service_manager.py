"""What systemd hears of a run, on real datagram sockets."""

import os
import socket

import pytest
from fake_runs import ORDERLY, UNTIL_STOP, Watcher, chain

from streamcore.clock import Clock
from streamcore.coordinator.service_manager import ServiceManager
from streamcore.supervisor.loop import Loop

DEADLINE_S = 30.0


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = str(tmp_path / "notify") if request.param == "path" else f"@streamcore-test-{os.getpid()}"
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(DEADLINE_S)
        yield sock


@pytest.fixture
def environ(listener):
    name = listener.getsockname()
    return {"NOTIFY_SOCKET": name if isinstance(name, str) else "@" + name[1:].decode(), "PATH": "/bin"}


def heard(listener):
    """All that has come so far."""
    listener.setblocking(False)
    found = []
    try:
        while True:
            found.append(listener.recv(4096).decode())
    except BlockingIOError:
        return found


def test_a_run_says_that_it_is_ready_how_it_goes_and_that_it_ends(run_of, listener, environ):
    watcher = Watcher()
    run = run_of(chain(UNTIL_STOP, ORDERLY), watcher, manager=ServiceManager.take(environ))
    watcher.on_up.append(lambda: run.coordinator.stop("enough"))
    run.go()
    said = heard(listener)
    assert [word for word in said if not word.startswith("STATUS")] == ["READY=1", "STOPPING=1"]
    assert environ == {"PATH": "/bin"}


def test_the_loop_says_that_it_is_alive_at_half_of_the_time(listener, environ):
    manager, loop = ServiceManager.take({**environ, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}), Loop(Clock())
    assert manager.watchdog_s == 0.2
    manager.watch(loop)
    assert listener.recv(100) == b"WATCHDOG=1"
    began_ns = Clock().monotonic_ns()
    loop.turn()
    assert Clock().monotonic_ns() - began_ns >= 0.1e9
    assert heard(listener) == ["WATCHDOG=1"]
    assert heard(listener) == []  # nobody turns the loop: nothing is said
    manager.close()
    loop.close()


@pytest.mark.parametrize("words", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}])
def test_a_watchdog_that_is_not_ours_is_not_fed(listener, environ, words):
    manager = ServiceManager.take({**environ, "WATCHDOG_USEC": "200000", **words})
    loop = Loop(Clock())
    manager.watch(loop)
    assert heard(listener) == []
    manager.close()
    loop.close()


def test_only_a_new_status_is_told_and_on_one_line(listener, environ):
    manager = ServiceManager.take(environ)
    for text in ("1 node", "1 node", "2 nodes\nREADY=1"):
        manager.status(lambda text=text: text)
    assert heard(listener) == ["STATUS=1 node", "STATUS=2 nodes READY=1"]
    manager.close()


def test_without_systemd_nothing_is_said_and_nothing_is_looked_at():
    manager = ServiceManager.take({})
    manager.ready()
    manager.status(lambda: pytest.fail("nobody asked"))
    manager.stopping()
    manager.close()


def test_a_manager_that_is_gone_disturbs_nobody(tmp_path):
    manager = ServiceManager.take({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.ready()
    manager.close()
