"""A node process from outside: what it is given, what it inherits, what remains of it."""

import json
import os
import signal
import sys
from pathlib import Path

import fake_node
import pytest

from streamcore.errors import MessageError
from streamcore.graph.model import Boot, NodePlan
from streamcore.node import channel
from streamcore.supervisor.process import Process

GONE_S = 5.0
COMMAND = (sys.executable, "-I", "-S", fake_node.__file__)


@pytest.fixture
def spawn(tmp_path):
    """Spawn a fake node that does the given steps; killed and reaped at the end in any case."""
    spawned = []

    def start(*steps, ring_fds=(), **options):
        node = NodePlan("a", "fake", "fake:Fake", "source", {"do": steps}, {}, (), (), ())
        status_fd = os.memfd_create("status")
        inherited = {str(fd): fd for fd in ring_fds}
        inbox_fd = os.memfd_create("inbox")
        boot = Boot("run", "0123456789abcdef", str(tmp_path), node, (), (), 1, inherited, status_fd, -1, inbox_fd, os.getpid(), 0)
        log_fd = os.open(tmp_path / "a.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            spawned.append(Process(boot, log_fd, options.get("command", COMMAND)))
        finally:
            for fd in (log_fd, status_fd, inbox_fd):
                os.close(fd)
        return spawned[-1]

    yield start
    for process in spawned:
        process.signal_group(signal.SIGKILL)
        wait(process)
        process.close()


def wait(process):
    """Until all of its group is reaped."""
    while not process.reap():
        if process.status is None:
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)


def next_reports(process):
    os.set_blocking(process.channel_fd, True)
    import select

    assert select.select([process.channel_fd], [], [], GONE_S)[0], "no report"
    os.set_blocking(process.channel_fd, False)
    return process.reports()


def log(tmp_path):
    return (tmp_path / "a.log").read_text()


def test_it_speaks_and_is_spoken_to(spawn, tmp_path):
    process = spawn(["ready", 0], ["await", "start"], ["done", 0])
    assert next_reports(process) == [channel.Ready(process.pid)]
    assert process.send(channel.Start({"a": 1}))
    wait(process)
    assert process.reports() == [channel.Done()]
    assert process.status == 0
    assert process.channel_fd == -1
    assert not process.send(channel.Stop())
    assert json.loads(log(tmp_path).removeprefix("got ")) == {"type": "start", "peers": {"a": 1}, "done": [], "gone": []}


def test_its_last_words_can_be_read_after_its_death(spawn):
    process = spawn(["ready", 0], ["fail", "no camera"], ["kill", "SIGKILL"])
    wait(process)
    ready, failed = process.reports()
    assert isinstance(ready, channel.Ready)
    assert failed.cause == "no camera"
    assert process.status == -9


@pytest.mark.parametrize("text", ["[]", '{"type": "\xff"}', '{"type": "failed", "where": "\xff"}', "[" * 60_000])
def test_nonsense_on_its_channel_is_refused_and_ends_the_talk(spawn, text):
    process = spawn(["nonsense", text], ["ready", 0], ["sleep", 1000])
    with pytest.raises(MessageError, match="control channel of pid"):
        next_reports(process)
    assert process.channel_fd == -1


def test_it_inherits_what_its_boot_names_and_nothing_else(spawn, tmp_path):
    named, other = os.memfd_create("named"), os.memfd_create("other")
    os.set_inheritable(other, True)
    process = spawn(["ready", 0], ["sleep", 1000], ring_fds=[named])
    next_reports(process)
    held = {os.path.basename(os.readlink(path)) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert {"memfd:named (deleted)", "memfd:status (deleted)"} <= held
    assert "memfd:other (deleted)" not in held
    os.close(named)
    os.close(other)


def test_it_has_a_session_a_mark_and_no_terminal_input(spawn):
    process = spawn(["ready", 0], ["sleep", 1000])
    next_reports(process)
    assert os.getsid(process.pid) == process.pid
    assert b"STREAMCORE_PROCESS=0123456789abcdef/a/1/" in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"


def test_a_command_that_cannot_be_run_leaves_no_descriptor(spawn):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No such file"):
        spawn(command=("/no/such/python",))
    assert os.listdir("/proc/self/fd") == before


def test_its_children_are_killed_and_reaped_with_it(spawn, tmp_path):
    from streamcore.supervisor import prctl

    before = prctl.set_subreaper(True)
    try:
        process = spawn(["child", "group"], ["ready", 0], ["sleep", 1000])
        next_reports(process)
        child = int(log(tmp_path).split()[1])
        process.signal_group(signal.SIGKILL)
        wait(process)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    finally:
        prctl.set_subreaper(before)


def test_reports_are_not_lost_when_it_dies_with_commands_unread(spawn):
    # The kernel then tells of a reset first, before the reports that wait.
    process = spawn(["ready", 0], ["done", 0])
    assert process.send(channel.Stop())
    wait(process)
    assert process.reports() == [channel.Ready(process.pid), channel.Done()]
    assert process.channel_fd == -1
