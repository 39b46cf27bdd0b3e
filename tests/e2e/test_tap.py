"""streamctl tap on real runs: what it saves is what the source drew, and the run does not notice."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from boxes import Box, wait_until
from flows import Content, apply

from streamcore import limits

WIDTH, HEIGHT = 320, 200
CROP = (16, 20, 100, 60)
FRAMES = Content("frames", WIDTH, HEIGHT)
SPEC = f"""
version: 2
name: tapped
nodes:
  - {{id: camera, plugin: synthetic.frames, config: {{width: {WIDTH}, height: {HEIGHT}, rate: 200}}}}
  - {{id: cut, plugin: vision.crop, config: {{x: 16, y: 20, width: 100, height: 60}}}}
  - {{id: hash, plugin: debug.null}}
  - {{id: slow, plugin: debug.slow, config: {{work_ms: 20}}}}
  - {{id: end, plugin: debug.null}}
edges:
  - {{from: camera, to: cut}}
  - {{from: cut, to: hash}}
  - {{from: camera, to: slow, policy: latest}}
  - {{from: slow, to: end}}
"""
ODD = """
import numpy as np
from streamcore import Port, Sink, Source, StreamPacket


class Odd(Source):
    outputs = {"floats": Port("floats", "any"), "deep": Port("deep", "any"), "words": Port("words", "any"), "left": Port("any", "any")}

    def run(self):
        for number in range(1_000_000):
            yield StreamPacket.new(kind="floats", source_id="../odd/\\x1b[2J", payload=np.full((3, 4), number / 2), port="floats")
            yield StreamPacket.new(kind="deep", source_id="s", payload=np.full((6, 5), 1000, np.uint16), port="deep")
            yield StreamPacket.new(kind="words", source_id="s", payload={"n": number, "text": "a\\x1b[31mb" * 10}, port="words")
            yield StreamPacket.new(kind="left", source_id="s", payload=b"l" * 3000, port="left")
            if not self.wait(0.005):
                return

    def wait(self, seconds):
        import time
        return self.wait_until(time.monotonic_ns() + round(seconds * 1e9))


class Sinks(Sink):
    inputs = {"in": Port("any", "any")}

    def process(self, packet):
        pass
"""
ODD_SPEC = """
version: 2
name: tapped
allow: [odd_tapped]
nodes:
  - {id: odd, plugin: "odd_tapped:Odd"}
  - {id: sink, plugin: "odd_tapped:Sinks"}
edges:
  - {from: odd.floats, to: sink}
"""


@pytest.fixture
def run(box: Box) -> Box:
    box.start("up", box.write_spec(SPEC))
    box.wait_running("tapped")
    return box


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def account(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.run("account", "tapped", "--json").stdout)
    return found


def assert_undisturbed(box: Box) -> None:
    """Everything balances, and no block edge has lost or failed a packet."""
    found = account(box)
    assert found["balanced"]
    for edge in found["edges"]:
        assert edge["failed"] == edge["redelivered"] == 0, edge
        assert edge["dropped"] == 0 or edge["policy"] == "latest", edge


def start_tap(box: Box, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamcore", "tap", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env, cwd=box.folder)


def test_it_saves_the_very_frames_that_pass_and_the_run_does_not_notice(run: Box):
    before = account(run)["edges"][0]["completed"]
    done = run.run("tap", "camera", "--count", 3, "--save", "out", "--json")
    assert done.returncode == 0, done.stderr
    shown = objects(done.stdout)
    assert [(each["port"], each["kind"], each["source_id"], each["dtype"]) for each in shown] == [
        ("camera.out", "frame", "camera", "uint8")
    ] * 3
    assert before <= shown[0]["sequence"] < shown[1]["sequence"] < shown[2]["sequence"]
    assert all(each["age_ms"] < 10_000 for each in shown)
    for each in shown:
        assert each["saved"] == f"out/camera.out-camera-{each['sequence']:08}.png"
        assert np.array_equal(cv2.imread(str(run.folder / each["saved"])), FRAMES.packet(each["meta"]["frame"]))
    assert "3 packets shown" in done.stderr
    assert "3 files saved" in done.stderr
    assert_undisturbed(run)


def test_a_port_that_forwards_shows_what_it_forwards(run: Box):
    done = run.run("tap", "cut.out", "-n", 3, "--save", "out", "--json", "--every", 0)
    for each in objects(done.stdout):
        expected = apply(("crop", *CROP), FRAMES.packet(each["meta"]["frame"]))
        assert np.array_equal(cv2.imread(str(run.folder / each["saved"])), expected)
    assert_undisturbed(run)


def test_a_file_is_never_written_over(run: Box):
    folder = run.folder / "out"
    first = start_tap(run, "camera", "-n", 40, "--save", "out", "--json")
    second = start_tap(run, "camera", "-n", 40, "--save", "out", "--json")  # at the same time, in part the same frames
    shown = [each for tap in (first, second) for each in objects(tap.communicate(timeout=60)[0])]
    assert len({each["saved"] for each in shown}) == len(shown) == 80 == len(list(folder.iterdir()))
    for each in shown:
        assert np.array_equal(cv2.imread(str(run.folder / each["saved"])), FRAMES.packet(each["meta"]["frame"]))


def test_several_taps_at_one_time_and_one_too_many(run: Box):
    taps = [start_tap(run, "camera", "--json", "--every", 0.01) for _ in range(limits.TAPS_PER_PORT_MAX)]
    taps.append(start_tap(run, "cut", "--json"))
    for each in taps:
        assert json.loads(each.stdout.readline())["port"] in ("camera.out", "cut.out")
    late = run.run("tap", "camera", "-n", 1)
    assert late.returncode == 1
    assert "port camera.out has 4 taps, the most there may be; end one" in late.stderr
    for each in taps:
        each.send_signal(signal.SIGINT)
        said, told = each.communicate(timeout=60)
        assert each.returncode == 0, told
        assert len(said.splitlines()) > 1 or "packets shown" in told
    assert not list(run.runtime.rglob("_tap.*"))
    assert run.run("tap", "camera", "-n", 1).returncode == 0
    assert_undisturbed(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_in_order(run: Box, number: signal.Signals):
    tap = start_tap(run, "camera", "--record", "all.mcap", "--save", "out")
    tap.stdout.readline()
    tap.send_signal(number)
    _, told = tap.communicate(timeout=60)
    assert tap.returncode == 0, told
    assert "all.mcap written" in told
    assert (run.folder / "all.mcap").stat().st_size
    assert not list(run.runtime.rglob("_tap.*"))


def test_what_is_recorded_can_be_read(run: Box):
    from mcap.reader import make_reader

    done = run.run("tap", "camera", "-n", 5, "--record", "a.mcap", "--json")
    assert done.returncode == 0, done.stderr
    shown = objects(done.stdout)
    with open(run.folder / "a.mcap", "rb") as file:
        found = [(schema.name, channel.topic, message) for schema, channel, message in make_reader(file).iter_messages()]
    pictures = [message for name, _, message in found if name == "foxglove.RawImage"]
    assert len(pictures) == 5
    for message, each in zip(pictures, shown, strict=True):
        assert FRAMES.packet(each["meta"]["frame"]).tobytes() in message.data
    assert {topic for _, topic, _ in found} == {"/camera/camera.out", "/camera/camera.out/packet"}
    again = run.run("tap", "camera", "-n", 1, "--record", "a.mcap")
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("nosuch", "expected one of: camera.out, cut.out, slow.out"),
        ("camera.nosuch", "node 'camera' has no output port 'nosuch', it has out"),
        ("cut.in", "what reaches its input in leaves at camera.out"),
        ("hash", "node 'hash' is a sink and has no output port; what reaches it leaves at cut.out"),
        ("", "expected one of: camera.out"),
        ("camera.out.more", "expected one of: camera.out"),
    ],
)
def test_a_port_that_does_not_exist_is_told_which_do(run: Box, port: str, said: str):
    done = run.run("tap", port)
    assert done.returncode == 2
    assert said in done.stderr


def test_wrong_command_lines(run: Box):
    for args, said in (
        (("camera", "--view"), "needs a terminal"),
        (("camera", "--record", "no/such/a.mcap"), "there is no folder"),
        (("camera", "--count", "0"), "--count"),
        (("camera", "--every", "-1"), "--every"),
        (("camera", "--save", "/proc/nothing"), "cannot be made"),
    ):
        done = run.run("tap", *args)
        assert done.returncode == 2, args
        assert said in done.stderr


def test_without_a_run_it_says_so(box: Box):
    done = box.run("tap", "camera", "--run", "nosuch")
    assert done.returncode == 3
    assert "no run 'nosuch' found" in done.stderr


def test_the_end_of_the_stream_ends_it(box: Box):
    spec = SPEC.replace("rate: 200", "rate: 200, count: 2000")
    box.start("up", box.write_spec(spec))
    box.wait_running("tapped")
    all_of_it, too_few = start_tap(box, "cut", "--json", "--every", 0), start_tap(box, "camera", "--json", "-n", 100_000)
    said, told = all_of_it.communicate(timeout=60)
    assert all_of_it.returncode == 0
    assert objects(said)[-1]["sequence"] == 1999
    assert "has ended" in told
    said, told = too_few.communicate(timeout=60)
    assert too_few.returncode == 1
    assert "has ended" in told


def test_a_run_that_is_taken_down_ends_its_taps(run: Box):
    tap = start_tap(run, "slow", "--json")
    tap.stdout.readline()
    assert run.run("down", "tapped").returncode == 0
    _, told = tap.communicate(timeout=60)
    assert tap.returncode == 0
    assert "has ended" in told
    run.assert_nothing_left()


def test_a_tap_waits_for_a_run_that_is_starting(box: Box):
    slow = "import time\nfrom streamcore_nodes.witness import Null\n\n\nclass Late(Null):\n    def setup(self):\n        time.sleep(3)\n"
    box.folder.joinpath("late_tapped.py").write_text(slow)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), box.env.get("PYTHONPATH", "")]))
    spec = SPEC.replace("name: tapped", "name: tapped\nallow: [late_tapped]")
    box.start("up", box.write_spec(spec.replace("id: end, plugin: debug.null", 'id: end, plugin: "late_tapped:Late"')))
    wait_until("the run to be there", lambda: box.ps("tapped"))
    done = box.run("tap", "camera", "-n", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_what_is_no_picture_is_saved_as_what_it_is(box: Box):
    box.folder.joinpath("odd_tapped.py").write_text(ODD)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), box.env.get("PYTHONPATH", "")]))
    box.start("up", box.write_spec(ODD_SPEC))
    box.wait_running("tapped")
    several = box.run("tap", "odd")
    assert several.returncode == 2
    assert "say which: odd.floats, odd.deep, odd.words, odd.left" in several.stderr
    saved = {}
    for port in ("floats", "deep", "words", "left"):
        done = box.run("tap", f"odd.{port}", "-n", 1, "--save", "out", "--json", "--format", "jpeg")
        assert done.returncode == 0, done.stderr
        (saved[port],) = objects(done.stdout)
    paths = {port: box.folder / each["saved"] for port, each in saved.items()}
    assert {path.parent for path in paths.values()} == {box.folder / "out"}, "a source cannot lead out of the folder"
    assert {port: path.suffix for port, path in paths.items()} == {"floats": ".npy", "deep": ".png", "words": ".json", "left": ".bin"}
    assert np.load(paths["floats"]).shape == (3, 4)
    assert np.array_equal(cv2.imread(str(paths["deep"]), cv2.IMREAD_UNCHANGED), np.full((6, 5), 1000, np.uint16))
    assert json.loads(paths["words"].read_text()) == saved["words"]["value"]
    assert paths["left"].read_bytes() == b"l" * 3000
    assert saved["words"]["sequence"] is None, "no edge takes it"
    line = box.run("tap", "odd.words", "-n", 1).stdout + box.run("tap", "odd.floats", "-n", 1).stdout
    assert "\x1b" not in line, "what a packet carries must not steer the terminal"
    assert "dropped" in line


def test_frames_are_shown_in_a_terminal(run: Box):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamcore", "tap", "camera", "--view", "-n", "2"]
    env = {**run.env, "COLUMNS": "60", "LINES": "20", "TERM": "xterm"}
    tap = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=env, cwd=run.folder)
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert tap.wait(60) == 0
    assert tap.stderr is not None
    tap.stderr.close()
    text = seen.decode()
    assert text.count("▀") >= 2 * 18 * 18
    assert "\x1b[38;2;" in text
    assert_undisturbed(run)


def test_nothing_of_it_costs_a_run_that_is_not_tapped(run: Box):
    # The spare slots are address space: no page of them exists before somebody taps.
    page = Path("/proc") / str(run.ps("tapped")["nodes"][0]["pid"]) / "fd"
    rings = [fd for fd in page.iterdir() if "streamcore:camera.out" in os.readlink(fd)]
    assert rings
    status = os.stat(rings[0])
    assert status.st_size > status.st_blocks * 512
