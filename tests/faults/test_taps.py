"""Taps and kill -9, of either side: no torn frame is ever shown, no edge loses a packet, and nothing is held for long or for ever."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from boxes import Box, wait_until
from fault_kit import OFTEN, Ledger
from flows import Content

from streamcore import limits
from streamcore.control.client import connect
from streamcore.control.ports import find
from streamcore.control.tapping import Tap
from streamcore.wire import tapping

FRAMES = Content("frames", 640, 480)
SPEC = f"""
version: 2
name: tapped
nodes:
  - {{id: camera, plugin: synthetic.frames, config: {{width: 640, height: 480}}, {OFTEN}}}
  - {{id: sink, plugin: debug.hash, config: {{path: hashes.jsonl}}}}
edges:
  - {{from: camera, to: sink}}
"""


@pytest.fixture
def run(box: Box, monkeypatch) -> Box:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(box.runtime))
    box.start("up", box.write_spec(SPEC))
    box.wait_running("tapped")
    return box


def stats(node: str) -> dict[str, Any]:
    with connect("tapped") as client:
        return next(row for row in client.request("stats")["nodes"] if row["id"] == node)


def kill_camera() -> None:
    """The process that is there, or the next one: a tap may still print frames of one that was killed before."""
    os.kill(wait_until("a process of the camera", lambda: stats("camera")["pid"]), signal.SIGKILL)


def start_tap(box: Box, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamcore", "tap", "camera", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env, cwd=box.folder)


def check_frames(box: Box, said: str) -> int:
    """Every frame that was shown is whole; how many."""
    shown = [json.loads(line) for line in said.splitlines()]
    for each in shown:
        found = cv2.imread(str(box.folder / each["saved"]))
        assert np.array_equal(found, FRAMES.packet(each["meta"]["frame"])), f"frame {each['sequence']} is torn"
    return len(shown)


def check_run(box: Box) -> None:
    """Ends it; nothing was lost, and the account does not know of any tap."""
    with connect("tapped") as client:
        wait_until("the account to balance", lambda: client.request("account")["balanced"])
        (edge,) = client.request("account")["edges"]
        assert edge["dropped"] == edge["failed"] == 0
    assert box.run("down", "tapped").returncode == 0
    box.assert_nothing_left()
    consumed = len({line["packet_id"] for line in Ledger(box.folder / "hashes.jsonl").lines()})
    assert consumed >= edge["completed"]


class Mute(Tap):
    """Copies a frame, and never says so: as if it was stopped just then."""

    def _say(self, kind: int, number: int = 0) -> None:
        if kind != tapping.DONE:
            super()._say(kind, number)


def tap_in_this_process(kind: type[Tap], client: Any, stop_fd: int) -> Tap:
    info = client.request("info")
    return kind(client, find(info["plan"], "camera"), info["run_id"], frames=True, every_ns=0, stop_fd=stop_fd)


def test_a_tap_goes_on_with_the_next_incarnation_and_shows_no_torn_frame(run: Box):
    chance = random.Random(1)
    tap = start_tap(run, "--save", "out", "--json", "--every", 0, "-n", 150)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(tap.stdout or ()))
    reader.start()
    for _ in range(5):
        before = len(seen)
        wait_until("frames after the last kill", lambda before=before: len(seen) > before + chance.randrange(5) or tap.poll() is not None)
        if tap.poll() is None:
            kill_camera()
    assert tap.wait(60) == 0
    reader.join()
    assert check_frames(run, "".join(seen)) == 150
    assert len({json.loads(line)["incarnation"] for line in seen}) >= 3
    assert tap.stderr is not None and tap.stdout is not None
    tap.stderr.close()
    tap.stdout.close()
    check_run(run)


def test_a_tap_that_is_stopped_again_and_again_shows_no_torn_frame_and_holds_nobody_up(run: Box):
    chance = random.Random(2)
    tap = start_tap(run, "--save", "out", "--json", "--every", 0, "-n", 120)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(tap.stdout or ()))
    reader.start()
    wait_until("the first frame", lambda: seen)
    for _ in range(6):
        if tap.poll() is not None:
            break
        tap.send_signal(signal.SIGSTOP)
        before = stats("sink")["consumed"]
        wait_until("the sink to go on", lambda before=before: stats("sink")["consumed"] > before + 100 + chance.randrange(1500))
        tap.send_signal(signal.SIGCONT)
    assert tap.wait(60) == 0
    reader.join()
    assert check_frames(run, "".join(seen)) == 120
    assert tap.stderr is not None and tap.stdout is not None
    tap.stderr.close()
    tap.stdout.close()
    check_run(run)


def test_a_tap_that_hangs_while_it_copies_is_let_go_and_told_nothing(run: Box):
    stop_fd = os.eventfd(0)
    with connect("tapped") as client, tap_in_this_process(Mute, client, stop_fd) as mute:
        taken: list[Any] = []
        taking = threading.Thread(target=lambda: taken.append(mute.take()))
        taking.start()
        log = Path(client.info.path) / "logs" / "camera.log"
        wait_until("the tap to be let go", lambda: "a tap of port out is detached" in log.read_text())
        before = stats("sink")["consumed"]
        wait_until("the sink to go on", lambda: stats("sink")["consumed"] > before + 500)
        os.eventfd_write(stop_fd, 1)
        taking.join(60)
        assert taken == [None], "what nobody vouches for is not shown"
    os.close(stop_fd)
    check_run(run)


def test_taps_that_are_killed_leave_room_for_others_and_no_socket(run: Box):
    for _ in range(3):
        taps = [start_tap(run, "--json", "--save", "out", "--every", 0) for _ in range(limits.TAPS_PER_PORT_MAX)]
        for tap in taps:
            assert tap.stdout is not None and tap.stderr is not None
            assert tap.stdout.readline()
            tap.kill()
            tap.wait(60)
            tap.stdout.close()
            tap.stderr.close()
    done = run.run("tap", "camera", "-n", 2, "--json", "--save", "last")
    assert done.returncode == 0, done.stderr
    assert check_frames(run, done.stdout) == 2
    assert not list(run.runtime.rglob("_tap.*"))
    check_run(run)


def test_both_killed_at_once_leave_nothing_that_waits_for_ever(run: Box):
    for _ in range(3):
        tap = start_tap(run, "--json", "--save", "out", "--every", 0)
        assert tap.stdout is not None and tap.stderr is not None
        assert tap.stdout.readline()
        pid = stats("camera")["pid"]
        tap.send_signal(signal.SIGSTOP)  # perhaps with a frame under way
        os.kill(pid, signal.SIGKILL)
        tap.kill()
        tap.wait(60)
        tap.stdout.close()
        tap.stderr.close()
        before = stats("sink")["consumed"]
        wait_until("the sink to go on", lambda before=before: stats("sink")["consumed"] > before + 200)
    check_run(run)  # `down` drains: a packet that waited for ever would keep it


def test_the_end_of_a_coordinator_ends_its_taps(run: Box):
    tap = start_tap(run, "--json")
    assert tap.stdout is not None
    assert tap.stdout.readline()
    os.kill(run.ps("tapped")["pid"], signal.SIGKILL)  # type: ignore[index]
    _, told = tap.communicate(timeout=60)
    assert "run 'tapped' has ended" in told
    assert tap.returncode == 0
    run.assert_nothing_left()


def test_a_tap_of_a_node_that_has_failed_for_good_says_so(box: Box):
    spec = SPEC.replace(OFTEN, "restart: {policy: never, on_give_up: isolate}")
    box.start("up", box.write_spec(spec))
    pid = next(node["pid"] for node in box.wait_running("tapped")["nodes"] if node["id"] == "camera")
    tap = start_tap(box, "--json")
    assert tap.stdout is not None
    assert tap.stdout.readline()
    os.kill(pid, signal.SIGKILL)
    _, told = tap.communicate(timeout=60)
    assert tap.returncode in (0, 1)
    assert "has failed for good" in told or "has ended" in told
