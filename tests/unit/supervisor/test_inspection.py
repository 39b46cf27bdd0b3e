"""What real processes use: each number is made to be what it is by the process that is looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import pytest

from streamcore.clock import Clock
from streamcore.supervisor import inspection
from streamcore.supervisor.inspection import begin, inspect
from streamcore.supervisor.proc import families
from streamcore.supervisor.usage import Usage

MIB = 1 << 20
NOBODY = 65534
DEADLINE_S = 30.0
SERVER = """
import os, signal, subprocess, sys, threading
child = None
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


@dataclass
class Subject:
    """A Python process that does what it is told, line by line."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def new_subject(*words: str, **options):
    command = [sys.executable, "-c", SERVER, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, **options)
    try:
        made = Subject(process)
        made.do("pass")
        yield made
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def subject():
    with new_subject() as made:
        yield made


def look(pid, usage=None):
    return inspect([pid], usage or Usage(Clock())).get(pid)


def root_of(pid):
    return look(pid).processes[0]


def wait_for(what, true):
    end = time.monotonic() + DEADLINE_S
    while not (found := true()):
        assert time.monotonic() < end, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.01)
    return found


def test_memory_that_is_its_own_is_seen_in_rss_uss_and_pss(subject):
    before = root_of(subject.pid)
    subject.do("block = bytearray(os.urandom(1)) * (64 << 20)")
    after = root_of(subject.pid)
    for name in ("rss_bytes", "uss_bytes", "pss_bytes"):
        assert getattr(after, name) - getattr(before, name) == pytest.approx(64 * MIB, abs=2 * MIB), name
    assert after.faults_minor > before.faults_minor


def test_shared_memory_is_resident_in_both_but_counts_once_in_their_sum(subject):
    # What a ring is: without PSS the memory of a run would seem to grow with every consumer.
    subject.do("import mmap; block = mmap.mmap(-1, 64 << 20); block.write(bytes(64 << 20))")
    alone = look(subject.pid).total
    subject.do("child = os.fork() or [sum(block[i] for i in range(0, 64 << 20, 4096)), open(0).read(), os._exit(0)]")
    wait_for(
        "the child to have touched all of it", lambda: len(found := look(subject.pid).processes) == 2 and found[1].rss_bytes > 64 * MIB
    )
    both = look(subject.pid)
    assert both.total.rss_bytes - alone.rss_bytes > 60 * MIB
    assert both.total.pss_bytes - alone.pss_bytes < 20 * MIB
    assert all(one.uss_bytes < 30 * MIB for one in both.processes)


def test_threads_and_descriptors_are_counted_and_the_soft_limit_is_named(subject):
    before = root_of(subject.pid)
    subject.do("[threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(7)]")
    subject.do("files = [open('/dev/null') for _ in range(11)]")
    subject.do("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))")
    after = root_of(subject.pid)
    assert (after.threads - before.threads, after.fds - before.fds, after.fds_max) == (7, 11, 321)


def test_the_switches_of_every_thread_count(subject):
    # The kernel's file of a process has those of its first thread alone, which in a node is the one that sleeps least.
    before = root_of(subject.pid)
    subject.do("import time; naps = lambda: [time.sleep(0.0001) for _ in range(500)] + [threading.Event().wait()]")
    subject.do("threading.Thread(target=naps, daemon=True).start()")
    wait_for("500 sleeps of another thread", lambda: root_of(subject.pid).switches_voluntary - before.switches_voluntary >= 500)


def test_what_it_writes_to_a_disk_is_seen(tmp_path, subject):
    before = root_of(subject.pid)
    subject.do(f"f = open({str(tmp_path / 'file')!r}, 'wb'); f.write(bytes(4 << 20)); f.flush(); os.fsync(f.fileno())")
    after = root_of(subject.pid)
    if after.written_bytes == 0:
        pytest.skip("the temporary directory is on no disk")
    assert after.written_bytes - before.written_bytes >= 4 * MIB


def test_nice_and_affinity(subject):
    cpu = min(os.sched_getaffinity(0))
    subject.do(f"os.nice(3); os.sched_setaffinity(0, [{cpu}])")
    found = root_of(subject.pid)
    assert (found.nice, found.affinity) == (os.nice(0) + 3, [cpu])


def test_the_cpu_share_is_that_of_the_time_between_begin_and_inspect(subject):
    usage = Usage(Clock())
    begin([subject.pid], usage)
    used_s = root_of(subject.pid).cpu_s
    subject.do("import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass".replace("\n", "; exec('") + "')")
    tree = look(subject.pid, usage)
    assert tree.processes[0].cpu_s - used_s == pytest.approx(0.5, abs=0.06)
    assert tree.total.cpu_percent > 5
    assert look(subject.pid, usage).total.cpu_percent < tree.total.cpu_percent, "and then it did nothing"


def test_children_and_theirs_are_summed_up_and_stand_below_who_has_started_them(subject):
    subject.do("child = subprocess.Popen([sys.executable, '-c', 'import subprocess; subprocess.run([\"sleep\", \"1000\"])'])")
    tree = wait_for(
        "a child and a grandchild",
        lambda: len((found := look(subject.pid)).processes) == 3 and found.processes[2].command == ["sleep", "1000"] and found,
    )
    assert [one.parent for one in tree.processes[1:]] == [one.pid for one in tree.processes[:2]]
    assert tree.total.threads == sum(one.threads for one in tree.processes)
    assert tree.processes[2].name == "sleep"


def test_a_program_in_the_background_belongs_to_the_leader_of_its_session(subject):
    # As ffmpeg does that a shell has started: its parent is gone, its memory is not.
    subject.do("subprocess.run(['sh', '-c', 'sleep 1000 &'])")
    # The shell has ended by then; its child may still be a copy of it that has not become `sleep` yet.
    tree = wait_for("an orphan", lambda: (found := look(subject.pid)).processes[-1].command == ["sleep", "1000"] and found)
    assert len(tree.processes) == 2
    assert tree.processes[1].name == "sleep" and tree.processes[1].parent != subject.pid


def test_state_is_a_word_and_a_stopped_process_answers_like_any_other(subject):
    assert root_of(subject.pid).state in ("sleeping", "running")
    os.kill(subject.pid, signal.SIGSTOP)
    found = wait_for("it to be stopped", lambda: (one := root_of(subject.pid)).state == "stopped" and one)
    assert None not in (found.uss_bytes, found.pss_bytes, found.fds, found.read_bytes, found.command)


def test_age_is_that_of_the_process_and_not_of_its_number(subject):
    first = root_of(subject.pid).age_s
    assert 0 <= first < DEADLINE_S
    assert root_of(os.getpid()).age_s > first


def test_a_zombie_has_a_state_and_no_memory_and_makes_no_sum_partial(subject):
    subject.do("child = subprocess.Popen(['true'])")
    tree = wait_for("a zombie", lambda: len((found := look(subject.pid)).processes) == 2 and found.processes[1].state == "zombie" and found)
    zombie = tree.processes[1]
    assert [getattr(zombie, name) for name in ("rss_bytes", "uss_bytes", "pss_bytes", "fds", "command", "affinity")] == [None] * 6
    assert tree.partial == []
    assert tree.total.uss_bytes == tree.processes[0].uss_bytes


def test_a_process_that_is_gone_is_not_there():
    process = subprocess.Popen(["true"])
    process.wait(DEADLINE_S)
    assert inspect([process.pid, os.getpid()], Usage(Clock())).keys() == {os.getpid()}


def test_processes_that_come_and_go_while_one_looks_are_no_error(subject):
    subject.do("brief = lambda: [subprocess.run(['sleep', '0.02']) for _ in range(10_000)]")
    subject.do("[threading.Thread(target=brief, daemon=True).start() for _ in range(10)]")
    usage, met = Usage(Clock()), set()

    def thirty_met():
        tree = look(subject.pid, usage)
        assert tree.processes[0].pid == subject.pid
        met.update(one.pid for one in tree.processes)
        return len(met) > 30

    wait_for("30 processes of 20 ms", thirty_met)


def test_secrets_of_a_command_line_are_masked():
    with new_subject("rtsp://admin:hunter2@cam/1", "--password", "hunter2", "token=hunter2") as made:
        command = root_of(made.pid).command
    assert command[3:] == ["rtsp://***@cam/1", "--password", "***", "token=***"]


BECOME_NOBODY = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
LOOK = """
import os, sys, msgspec, psutil
from streamcore.clock import Clock
from streamcore.supervisor.inspection import inspect
from streamcore.supervisor.usage import Usage

def look(pid):
    return msgspec.json.encode(inspect([pid], Usage(Clock()))[pid])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else needs root")
def test_of_another_users_process_null_stands_for_what_may_not_be_read(subject):
    script = f"{LOOK}\n{BECOME_NOBODY}\nsys.stdout.buffer.write(look({subject.pid}))"
    raw = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE_S)
    assert raw.returncode == 0, raw.stderr
    tree = msgspec.json.decode(raw.stdout, type=inspection.Tree)
    found = tree.processes[0]
    assert [getattr(found, name) for name in ("uss_bytes", "pss_bytes", "fds", "read_bytes", "written_bytes")] == [None] * 5
    assert found.rss_bytes > MIB and found.threads == 1 and found.user == "root" and found.command[-2:] == ["-c", SERVER]
    assert tree.total.uss_bytes is None


@pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else needs root")
def test_a_sum_names_what_it_leaves_out(subject, tmp_path):
    # The child of a node that runs as another user: a sum without a word about it would be taken for the whole.
    (tmp_path / "look.py").write_text(LOOK)
    subject.do("child = subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL)")
    subject.do(f"sys.path.append({str(tmp_path)!r}); from look import look; out = open({str(tmp_path / 'seen')!r}, 'wb')")
    subject.do(f"{BECOME_NOBODY}; out.write(look(os.getpid())); out.close()")
    tree = msgspec.json.decode((tmp_path / "seen").read_bytes(), type=inspection.Tree)
    itself, child = tree.processes
    assert child.uss_bytes is None and tree.total.uss_bytes == itself.uss_bytes > MIB
    assert "uss_bytes" in tree.partial and "rss_bytes" not in tree.partial


def test_a_read_that_the_kernel_holds_up_leaves_the_rest(subject, monkeypatch):
    # The address space of a process that waits for a dead device or server cannot be read, and the reader must not wait with it.
    monkeypatch.setattr(inspection, "READ_S", 0.05)
    release = inspection.threading.Event()
    monkeypatch.setattr(inspection, "_slow_facts", lambda pid: release.wait(DEADLINE_S))
    tree = look(subject.pid)
    release.set()
    assert tree.processes[0].rss_bytes > MIB and tree.processes[0].uss_bytes is None


def test_families_of_several_roots_are_each_whole(subject):
    found = families([os.getpid(), subject.pid])
    assert found[subject.pid] == [subject.pid]
    assert found[os.getpid()][0] == os.getpid() and subject.pid in found[os.getpid()]
