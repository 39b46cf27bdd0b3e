"""What `ps` says of the processes of real runs, also of those that are stopped, killed, in restart, or gone while one looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from boxes import DEADLINE_S, ENDLESS, Box, wait_until

MIB = 1 << 20
WITH_A_PROGRAM = ENDLESS.replace(
    "edges:", '  - {id: program, plugin: job.command, config: {command: [sh, -c, "sleep 1000 & sleep 1000"]}}\nedges:'
)
SLOW_RESTART = ENDLESS.replace("flow.forward}", "flow.forward, restart: {policy: on_failure, backoff_s: 100, backoff_max_s: 100}}")
ANSWERS_WITHIN_S = 30.0  # on a box whose cores are busy; a node that hung it would hold it for ever


def inspected(box: Box, *more: str) -> dict:
    done = box.run("ps", "endless", "--wide", "--json", *more, timeout_s=ANSWERS_WITHIN_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found | {"nodes": {row["id"]: row for row in found["nodes"]}}


def test_the_processes_of_a_run_are_inspected_from_outside(box: Box) -> None:
    coordinator = box.start("up", box.write_spec(WITH_A_PROGRAM))
    box.wait_running()
    before = inspected(box)["nodes"]
    found = inspected(box, "--interval", "100ms")
    for name, row in found["nodes"].items():
        tree = row["process"]
        first, total = tree["processes"][0], tree["total"]
        assert (first["pid"], first["parent"]) == (row["pid"], coordinator.pid), name
        assert first["command"][-2] == f"endless/{name}", (
            "a node renames itself; what is left of its old command line is no part of the new"
        )
        assert MIB < first["uss_bytes"] < first["pss_bytes"] < first["rss_bytes"]
        assert first["fds"] < first["fds_max"] and first["threads"] >= 2 and first["switches_voluntary"] > 0
        assert tree["partial"] == [] and None not in {**total, "gpu_memory_bytes": 0, "gpu_percent": 0}.values()
        assert total["pss_bytes"] == sum(one["pss_bytes"] for one in tree["processes"])
        assert total["cpu_s"] >= before[name]["process"]["total"]["cpu_s"]
    started = [one["name"] for one in found["nodes"]["program"]["process"]["processes"]]
    assert started == ["python", "sh", "sleep", "sleep"]
    assert found["coordinator"]["processes"][0]["pid"] == coordinator.pid
    assert len(found["coordinator"]["processes"]) == 1, "its nodes have lines of their own"
    # Frames are shared: what a consumer has of them is resident in it, and not its own.
    sink = found["nodes"]["sink"]["process"]["total"]
    assert sink["rss_bytes"] - sink["uss_bytes"] > 640 * 480 * 3


def test_tables_for_a_terminal(box: Box) -> None:
    box.start("up", box.write_spec(WITH_A_PROGRAM))
    box.wait_running()
    nodes = [row["id"] for row in (box.ps() or {})["nodes"]]
    narrow = box.run("ps", "endless").stdout.splitlines()
    assert max(map(len, narrow)) <= 80, narrow
    assert [line.split()[0] for line in narrow[2:]] == nodes
    wide = box.run("ps", "endless", "--children", "--interval", "0s").stdout.splitlines()
    nodes.insert(nodes.index("program") + 1, "sh sleep sleep")
    assert " ".join(line.split()[0] for line in wide[2:]) == " ".join([*nodes, "(coordinator)"])
    details = box.run("ps", "endless", "--node", "program", "--interval", "0s").stdout
    assert "  command      sh -c sleep 1000 & sleep 1000\n" in details and "4 processes in all" in details
    wrong = box.run("ps", "endless", "--node", "programme")
    assert wrong.returncode == 2 and "there is" in wrong.stderr


def test_a_stopped_node_is_shown_like_any_other(box: Box) -> None:
    box.start("up", box.write_spec(ENDLESS))
    pid = {row["id"]: row["pid"] for row in box.wait_running()["nodes"]}["pass"]
    os.kill(pid, signal.SIGSTOP)
    try:
        found = wait_until(
            "the node to be stopped",
            lambda: (one := inspected(box)["nodes"]["pass"]["process"]["processes"][0])["state"] == "stopped" and one,
        )
        assert found["uss_bytes"] > MIB and found["fds"] > 0
        for words in ([], ["--children"], ["--node", "pass"]):
            done = box.run("ps", "endless", *words, timeout_s=ANSWERS_WITHIN_S)
            assert done.returncode == 0 and "pass" in done.stdout, done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_node_that_waits_for_its_restart_has_no_process(box: Box) -> None:
    box.start("up", box.write_spec(SLOW_RESTART))
    os.kill({row["id"]: row["pid"] for row in box.wait_running()["nodes"]}["pass"], signal.SIGKILL)
    row = wait_until("the node to be in BACKOFF", lambda: (one := inspected(box)["nodes"]["pass"])["state"] == "BACKOFF" and one)
    assert (row["pid"], row["process"]) == (None, None)
    assert inspected(box)["nodes"]["sink"]["process"]
    line = next(line for line in box.run("ps", "endless").stdout.splitlines() if "BACKOFF" in line)
    assert line.split()[:6] == ["pass", "BACKOFF", "-", "0", "-", "-"], "the restart is still to come"
    for form in ([], ["--json"]):
        done = box.run("ps", "endless", "--node", "pass", *form)
        assert done.returncode == 1, done.stderr
    assert "it has no process at this moment" in box.run("ps", "endless", "--node", "pass").stdout


def start_ps(box: Box, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamcore", "ps", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env, cwd=box.folder)


def test_a_run_that_dies_while_it_is_asked_is_said_to_have_ended(box: Box) -> None:
    coordinator = box.start("up", box.write_spec(ENDLESS))
    box.wait_running()
    os.kill(coordinator.pid, signal.SIGSTOP)
    asking = start_ps(box, "endless", "--wide")
    wait_until("ps to have its socket", lambda: psutil.Process(asking.pid).num_threads() >= 3)  # ZeroMQ's threads
    coordinator.kill()
    out, error = asking.communicate(timeout=DEADLINE_S)
    assert (asking.returncode, out) == (3, ""), error
    assert error == "streamctl: run 'endless' ended before it answered `ps`\n"
    wait_until("the guardian to have cleaned up", lambda: not box.sockets())
    stale = box.run("ps", "endless")
    assert stale.returncode == 3 and f"it is not up; what it left is in {box.runtime}/streamcore/endless" in stale.stderr


def test_a_run_that_does_not_answer_does_not_hide_another(box: Box) -> None:
    hung = box.start("up", box.write_spec(ENDLESS), "--name", "hung")
    box.start("up", box.write_spec(ENDLESS))
    box.wait_running("hung")
    box.wait_running()
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = box.run("ps", "--wide")
        assert time.monotonic() - began < ANSWERS_WITHIN_S
        assert done.returncode == 3 and "run endless  READY" in done.stdout
        assert f"run 'hung' (pid {hung.pid}) lives but did not answer `ps`" in done.stderr
    finally:
        os.kill(hung.pid, signal.SIGCONT)


@pytest.mark.skipif(os.getuid() != 0, reason="giving a directory away needs root")
def test_the_run_of_another_user_is_refused_in_a_word(box: Box) -> None:
    box.start("up", box.write_spec(ENDLESS))
    box.wait_running()
    path = box.runtime / "streamcore" / "endless"
    os.chown(path, 65534, -1)
    done = box.run("ps", str(path))
    os.chown(path, 0, -1)
    assert done.returncode == 3 and "owner found uid 65534, expected 0" in done.stderr
    assert box.run("ps", str(path)).returncode == 0
