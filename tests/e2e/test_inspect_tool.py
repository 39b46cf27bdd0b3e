"""tools/inspect: what any process uses, with all that it has started, and what is said where it cannot be looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from boxes import DEADLINE_S, ROOT, wait_until

MIB = 1 << 20
PROGRAM = [sys.executable, "-m", "streamcore.cli.pids"]  # what tools/inspect runs, without the making of an environment
NOBODY = 65534
FAMILY = "import subprocess, sys; block = bytearray(32 << 20); subprocess.run([sys.executable, '-c', 'input()'])"


def look(*words: object, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT, **more)


@pytest.fixture
def family() -> Iterator[int]:
    """The pid of a process with 32 MiB and one child."""
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, start_new_session=True)
    wait_until("its child", lambda: len(trees(process.pid)[0]["processes"]) == 2)
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_S)
    process.stdin.close()


def trees(*words: object) -> list[dict]:
    done = look(*words, "--json", "--interval", "0s")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["trees"]


def test_a_process_and_its_child_are_shown_and_summed_up(family):
    (tree,) = trees(family)
    first, child = tree["processes"]
    assert (tree["pid"], first["pid"], child["parent"]) == (family, family, family)
    assert first["uss_bytes"] > 32 * MIB > child["uss_bytes"] > MIB
    assert tree["total"]["uss_bytes"] == first["uss_bytes"] + child["uss_bytes"] and tree["partial"] == []
    lines = look(family).stdout.splitlines()
    assert max(map(len, lines)) <= 80, lines
    assert lines[0].split() == ["PID", "STATE", "CPU", "RSS", "USS", "PSS", "THREADS", "FDS", "NAME"]
    assert lines[1].split()[0] == str(family) and lines[2].split()[0] == str(child["pid"]) and "2 in all" in lines[3]
    assert "SWITCHES" in look(family, "--wide").stdout and "2 processes in all" in look(family, "--details").stdout


def test_a_process_named_beside_the_one_that_has_started_it_has_the_same_share_in_both(family):
    child = trees(family)[0]["processes"][1]["pid"]
    both = trees(family, child)
    assert both[0]["processes"][1] == both[1]["processes"][0]


def test_what_does_not_exist_is_named_and_the_others_are_shown(family):
    gone = subprocess.Popen(["true"])
    gone.wait(DEADLINE_S)
    done = look(gone.pid, family, "--interval", "0s")
    assert done.returncode == 3 and str(family) in done.stdout
    assert done.stderr == f"tools/inspect: there is no process {gone.pid}\n"


def test_a_thread_is_no_process_and_its_process_is_named():
    end, told = threading.Event(), []
    thread = threading.Thread(target=lambda: (told.append(threading.get_native_id()), end.wait()))
    thread.start()
    try:
        tid = wait_until("the thread", lambda: told and told[0])
        assert look(tid).stderr == f"tools/inspect: {tid} is a thread of process {os.getpid()}: name that\n"
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize(
    "words", [[], ["abc"], ["0"], ["-1"], ["1", "--interval", "5"], ["1", "--interval", "0s", "--watch"]], ids=" ".join
)
def test_a_wrong_command_line_is_status_2(words):
    done = look(*words)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("Usage: tools/inspect")


@pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else needs root")
def test_what_may_not_be_read_of_another_users_process_is_said_and_the_rest_shown(family):
    become = "import os, sys, psutil, streamcore.supervisor.inspection, streamcore.cli.pids as p; "
    become += f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
    become += f"sys.argv = ['', '{family}', '--interval', '0s']; sys.exit(p.main())"
    done = subprocess.run([sys.executable, "-c", become], capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT)
    assert done.returncode == 1 and done.stdout.count("python") == 2, done.stderr
    found = f"not read of 2 processes ({family} "
    assert found in done.stderr and "USS, PSS, descriptors, disks; they belong to root: run this as that user or as root" in done.stderr


def test_watching_goes_on_until_none_of_them_lives(family):
    watching = subprocess.Popen(
        [*PROGRAM, str(family), "--watch", "--interval", "50ms", "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
    assert all(look["trees"][0]["pid"] == family for look in looks)
    os.killpg(family, signal.SIGKILL)
    rest = watching.communicate(timeout=DEADLINE_S)[0]
    assert watching.returncode == 0, rest


def test_ctrl_c_is_the_orderly_end_of_watching(family):
    watching = subprocess.Popen(
        [*PROGRAM, str(family), "--watch", "--interval", "50ms", "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=DEADLINE_S)
    assert watching.returncode == 0


def test_the_script_is_a_program_that_says_what_it_runs():
    script = ROOT / "tools" / "inspect"
    assert os.access(script, os.X_OK) and f'"$PY" -m {PROGRAM[-1]} "$@"' in script.read_text()
