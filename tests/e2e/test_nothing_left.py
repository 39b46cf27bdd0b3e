"""Every way to end a run leaves no process, no shared memory and no socket."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from boxes import ENDLESS, Box, holders_of, memory_of, wait_until


def ctrl_c(box: Box) -> int:
    box.started[0].send_signal(signal.SIGINT)
    return 0


def two_ctrl_c(box: Box) -> int:
    box.started[0].send_signal(signal.SIGINT)
    time.sleep(0.15)  # what comes within a tenth of a second counts as one
    try:
        box.started[0].send_signal(signal.SIGINT)
    except ProcessLookupError:  # it has drained already
        pass
    return 0


def terminate(box: Box) -> int:
    box.started[0].send_signal(signal.SIGTERM)
    return 0


def down(box: Box) -> int:
    done = box.run("down", "endless")
    assert done.returncode == 0, done.stderr
    return 0


def kill_the_coordinator(box: Box) -> int:
    box.started[0].send_signal(signal.SIGKILL)
    return -signal.SIGKILL


def kill_a_node(box: Box) -> int:
    found = box.ps()
    assert found
    os.kill(next(node["pid"] for node in found["nodes"] if node["id"] == "pass"), signal.SIGKILL)
    wait_until("the next incarnation", lambda: "pass: starting" in box.output().partition("is up")[2])
    box.wait_running()
    return down(box)


WAYS = [ctrl_c, two_ctrl_c, terminate, down, kill_the_coordinator, kill_a_node]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_process_memory_or_socket_is_left_after(way: Callable[[Box], int], box: Box) -> None:
    process = box.start("up", box.write_spec(ENDLESS))
    running = box.wait_running()
    assert len({node["pid"] for node in running["nodes"]}) == 3
    memory = memory_of(process.pid)
    assert box.sockets() and memory
    expected = way(box)
    assert process.wait(30) == expected, box.output()
    box.assert_nothing_left()
    wait_until("its shared memory to be given back", lambda: not holders_of(memory))
    assert box.ps() is None


def test_a_node_that_may_not_be_restarted_ends_the_run_when_it_is_killed(box: Box) -> None:
    process = box.start("up", box.write_spec(ENDLESS.replace("plugin: flow.forward", "plugin: flow.forward, restart: never")))
    os.kill(next(node["pid"] for node in box.wait_running()["nodes"] if node["id"] == "pass"), signal.SIGKILL)
    assert process.wait(30) == 1, box.output()
    box.assert_nothing_left()


def test_the_next_run_of_that_name_starts_after_a_killed_coordinator(box: Box) -> None:
    spec = box.write_spec(ENDLESS)
    first = box.start("up", spec)
    box.wait_running()
    first.kill()
    first.wait(10)
    box.assert_nothing_left()
    done = box.run("up", spec, "--for", "500ms")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_run_of_a_live_name_is_refused_and_the_first_goes_on(box: Box) -> None:
    spec = box.write_spec(ENDLESS)
    box.start("up", spec)
    before = box.wait_running()
    again = box.run("up", spec)
    assert again.returncode == 2 and "endless" in again.stderr
    after = box.ps()
    assert after and [node["pid"] for node in after["nodes"]] == [node["pid"] for node in before["nodes"]]


def test_ctrl_c_during_start_up_ends_everything(box: Box) -> None:
    process = box.start("up", box.write_spec(ENDLESS))
    wait_until("the first node", lambda: ": starting" in box.output())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, box.output()
    box.assert_nothing_left()


def test_a_detached_run_lives_on_and_down_ends_it(box: Box) -> None:
    done = box.run("up", box.write_spec(ENDLESS), "--detach")
    assert done.returncode == 0, done.stderr
    running = box.wait_running()
    assert all(psutil.pid_exists(node["pid"]) for node in running["nodes"])
    assert box.run("down", "endless").returncode == 0
    box.assert_nothing_left()
