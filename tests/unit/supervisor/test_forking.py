"""A forked node process is what an executed one is; the server that forks it can be lost at any moment, and exec takes its place."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from streamcore.graph.model import Boot, NodePlan
from streamcore.node import channel
from streamcore.shm import segment, status
from streamcore.supervisor import forking, guardian, prctl
from streamcore.supervisor.forking import ForkServer
from streamcore.supervisor.process import Process
from streamcore.wire.sockets import bind_inbox, inbox_path

GONE_S = 30.0
RUN_ID = "0123456789abcdef"
HERE = Path(__file__).parent
WITH_A_THREAD = """
import sys, threading, time
if "forkserver" in sys.orig_argv:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""


@pytest.fixture
def subreaper():
    before = prctl.set_subreaper(True)
    yield
    prctl.set_subreaper(before)


@pytest.fixture
def folder(monkeypatch):
    made = Path(tempfile.mkdtemp(prefix="sc-"))  # short: socket paths have 107 bytes
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(subreaper, folder):
    server = ForkServer()
    server.told = []
    server.on_failure = server.told.append
    yield server
    server.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-server.pid, os.WNOHANG)


@pytest.fixture
def spawn(folder):
    """Spawn a node of fork_nodes, by exec if there is no server; killed and reaped at the end in any case."""
    spawned = []

    def start(name, server=None, given=()):
        node = NodePlan(name.lower(), name, f"fork_nodes:{name}", "source", {}, {}, (), (), ())
        page = segment.create("status", status.status_bytes([]))
        status.format_status(page, [])
        fds = {str(fd): fd for fd in given}
        inbox = bind_inbox(inbox_path(str(folder), node.id, len(spawned) + 1))
        boot = Boot("run", RUN_ID, str(folder), node, (), (), len(spawned) + 1, fds, page, -1, inbox.fileno(), os.getpid(), 0)
        log_fd = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            spawned.append(Process(boot, log_fd, fork_server=server))
        finally:
            os.close(log_fd)
            os.close(page)
            inbox.close()
        return spawned[-1]

    yield start
    for process in spawned:
        process.signal_group(signal.SIGKILL)
        until_reaped(process)
        process.close()


def until_reaped(process):
    while not process.reap():
        if process.status is None:
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)


def until_ready(process, folder):
    """The lines of the log when it is ready; it is emptied."""
    assert select.select([process.channel_fd], [], [], GONE_S)[0], "not ready"
    said = process.reports()
    assert said == [channel.Ready(process.pid)], said
    log = folder / "log"
    lines = log.read_text().splitlines()
    os.truncate(log, 0)
    return lines


def was_forked(process):
    """The kernel knows it: a flag that exec takes away (PF_FORKNOEXEC)."""
    return bool(int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[6]) & 0x40)


def test_a_forked_process_cannot_be_told_from_one_that_was_executed(server, spawn, folder, monkeypatch):
    # Whatever differs here, some plugin would find out on some day.
    monkeypatch.setenv("SET_AFTER_THE_SERVER_WAS_STARTED", "x" * 1000)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(folder)
    given = [os.memfd_create(f"given {number}") for number in range(5)]
    os.dup2(given[0], 200)
    os.set_inheritable(given[4], True)  # no reason to hand it over
    found = []
    for by in (None, server):
        process = spawn("Facts", by, [given[3], 200, given[1]])
        assert was_forked(process) == (by is server)
        line, printed = until_ready(process, folder)
        assert printed == "in the log at once"
        facts = json.loads(line)
        assert facts["argv"].pop() == facts["orig_argv"].pop() == facts["cmdline"].rpartition("\0")[2]  # of the boot
        facts["cmdline"] = facts["cmdline"].rpartition("\0")[0]
        facts["environ"].pop(guardian.MARK[:-1].decode())
        for text in ("environ shown", "environ of libc"):
            lines = facts[text] if isinstance(facts[text], list) else facts[text].splitlines()
            assert f"STREAMCORE_PROCESS={process.mark}" in lines
            facts[text] = [line for line in lines if not line.startswith(("STREAMCORE_PROCESS=", "_="))]
        found.append(facts)
        process.signal_group(signal.SIGKILL)
        until_reaped(process)
    executed, forked = found
    assert forked == executed
    assert forked["dies by"] == signal.SIGKILL and forked["parent"] == os.getpid()
    assert len(forked["descriptors"]) == 3 + 3
    assert not server.told
    for fd in (200, *given):
        os.close(fd)


def test_two_forked_processes_throw_different_dice(server, spawn, folder):
    thrown = [json.loads(until_ready(spawn("Dice", server), folder)[0]) for _ in range(2)]
    assert not set(thrown[0]) & set(thrown[1])


def test_a_forked_process_calculates_with_all_threads(server, spawn, folder):
    by_exec, forked = (json.loads(until_ready(spawn("Sums", by), folder)[0]) for by in (None, server))
    assert forked == by_exec


def test_the_server_has_one_thread_one_descriptor_and_no_mark(server, spawn, folder):
    until_ready(spawn("Facts", server), folder)
    assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
    links = [os.readlink(path) for path in Path(f"/proc/{server.pid}/fd").iterdir()]
    assert sorted(link.partition(":")[0] for link in links) == ["/dev/null"] * 3 + ["socket"]
    assert b"STREAMCORE_ROOM" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_a_server_with_a_thread_refuses_and_the_node_is_executed(subreaper, spawn, folder, monkeypatch):
    (folder / "sitecustomize.py").write_text(WITH_A_THREAD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))
    server, told = ForkServer(), []
    server.on_failure = told.append
    process = spawn("Facts", server)
    until_ready(process, folder)
    assert not was_forked(process)
    (text,) = told
    assert "2 threads" in text
    spawn("Facts", server)
    assert len(told) == 1, "said once"


def test_a_server_that_was_killed_is_reaped_and_exec_takes_its_place(server, spawn, folder):
    first = spawn("Facts", server)
    until_ready(first, folder)
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)  # dead, not only told: what it accepts while it dies is lost
    second = spawn("Facts", server)
    until_ready(second, folder)
    assert not was_forked(second)
    assert first.status is None and not first.reap(), "what it had forked lives on"
    assert len(server.told) == 1 and "has ended" in server.told[0]
    server.reap()
    assert len(server.told) == 1


def test_who_ends_all_processes_of_a_group_at_once_does_not_end_the_server(server, spawn, folder):
    # As systemd does with SIGTERM: the coordinator ends the run in order, and a warning would be noise.
    until_ready(spawn("Facts", server), folder)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(server.pid, number)
    assert was_forked(spawn("Facts", server)) and not server.told


def test_the_death_of_the_server_is_told_when_it_is_reaped(server):
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    server.reap()
    assert len(server.told) == 1


@pytest.mark.parametrize("when", ["before it is ready", "when it is ready"])
def test_a_server_that_does_not_answer_is_killed_and_exec_takes_its_place(when, server, spawn, folder, monkeypatch):
    if when == "when it is ready":
        until_ready(spawn("Facts", server), folder)
    monkeypatch.setattr(forking, "READY_S", 0.1)
    monkeypatch.setattr(forking, "ANSWER_S", 0.1)
    os.kill(server.pid, signal.SIGSTOP)
    process = spawn("Facts", server)
    until_ready(process, folder)
    assert not was_forked(process)
    assert guardian.members(process.mark.encode()) == [process.pid], "not two of them"
    assert server.told and "does not answer" in server.told[0]


def test_more_descriptors_than_a_message_carries_are_inherited_by_exec(server, spawn, folder):
    given = [os.memfd_create("given") for _ in range(260)]
    many = spawn("Facts", server, given)
    facts = json.loads(until_ready(many, folder)[0])
    assert not was_forked(many) and len(facts["descriptors"]) == 3 + 260
    assert was_forked(spawn("Facts", server)), "the server is as good as before"
    for fd in given:
        os.close(fd)


def test_an_environment_that_has_outgrown_the_room_makes_it_exec(server, spawn, folder, monkeypatch):
    monkeypatch.setenv("GROWN", "x" * 2 * forking.ROOM_ENVIRON_BYTES)
    process = spawn("Facts", server)
    facts = json.loads(until_ready(process, folder)[0])
    assert not was_forked(process) and facts["environ"]["GROWN"]
    assert "room" in server.told[0]
    assert guardian.members(process.mark.encode()) == [process.pid]


def test_it_dies_with_the_process_that_started_it():
    code = "import os; from streamcore.supervisor.forking import ForkServer; print(ForkServer().pid, flush=True); os.read(0, 1)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    assert select.select([pidfd], [], [], GONE_S)[0], "the server lives on"
    os.close(pidfd)
    parent.communicate()
