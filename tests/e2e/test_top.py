"""`streamctl top` on a real terminal and as one picture, of real runs: what it shows, what keys do, and every way out of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from boxes import ENDLESS, Box, signals_of, wait_until
from screens import Tty

SLOW = """
version: 2
name: slow
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 64, height: 48, rate: 100}}
  - {id: detector, plugin: debug.slow, config: {work_ms: 40}}
  - {id: sink, plugin: debug.null}
edges:
  - {from: camera, to: detector}
  - {from: detector, to: sink}
"""
STREAMCTL = [sys.executable, "-m", "streamcore"]


def top(box: Box, *words: str, columns: int = 80, lines: int = 24, **env: str) -> Tty:
    kept = {name: value for name, value in box.env.items() if name not in ("COLUMNS", "LINES")}
    return Tty([*STREAMCTL, "top", *words], {**kept, "LANG": "C.UTF-8", **env}, columns, lines)


@pytest.fixture
def slow(box: Box) -> Box:
    box.start("up", box.write_spec(SLOW))
    box.wait_running("slow")
    return box


def test_the_slow_node_is_named_while_the_run_is_young(slow: Box) -> None:
    # The window need not be full: somebody who has just started a graph wants to know.
    def named() -> dict:
        found = slow.look("top", "slow", "--once") or {"bottleneck": ""}
        busy = {node["id"]: node["busy"] for node in found.get("nodes", ())}
        return found if "'detector' holds the graph back" in found["bottleneck"] and busy["detector"] > 0.5 else {}

    found = wait_until("the slow node to be named", named)
    assert found["window"]["asked_s"] == 10
    assert 0 < found["window"]["seconds"] <= found["uptime_s"]
    nodes, edges = {node["id"]: node for node in found["nodes"]}, {edge["to_node"]: edge for edge in found["edges"]}
    assert list(nodes) == ["camera", "detector", "sink"]
    assert nodes["detector"]["busy"] > 0.5 > nodes["sink"]["busy"]
    assert nodes["detector"]["work"]["p50_ns"] >= 38e6
    assert nodes["camera"]["blocked"] > nodes["sink"]["blocked"]
    assert nodes["camera"]["rss_bytes"] > 1e6
    assert (edges["detector"]["waiting"], edges["detector"]["depth"]) == (8, 8)


def test_one_picture_as_text_shows_all_rows_and_no_keys(slow: Box) -> None:
    slow.env["COLUMNS"] = "80"
    done = slow.run("top", "--once")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith("run slow  ready  up ")
    assert [line.split()[0] for line in lines[4:7]] == ["camera", "detector", "sink"]
    assert max(map(len, lines)) <= 80
    assert "quit" not in done.stdout
    assert "\x1b" not in done.stdout


def test_80_by_24_and_every_key(slow: Box) -> None:
    with top(slow) as tty:
        rows = tty.until("the last row", lambda rows: "q quit" in rows[23] and rows)
        assert rows[3].startswith("NODE")
        assert any(row.startswith("camera->detector") for row in rows)
        tty.press("j")
        tty.press("t")
        tty.until_shown("slow.py")  # where the slow node is all the time
        tty.press("\x1b")
        tty.until("the tables again", lambda rows: "NODE" in rows[3])
        tty.press("l")
        tty.until_shown("log of detector")
        tty.press("\x1b")
        tty.press("p")
        tty.until_shown("paused")
        wait_until("the node to be paused", lambda: slow.ps("slow")["nodes"][1]["paused"])  # type: ignore[index]
        tty.press("p")
        tty.until_shown("detector is resumed")
        tty.until_shown("q quit")  # an answer gives its place back
        assert not slow.ps("slow")["nodes"][1]["paused"]  # type: ignore[index]
        tty.press("/sin\r")
        tty.until("only what was typed", lambda rows: rows[4].startswith("sink") and not rows[5])
        tty.press("\x1b")
        tty.until("all nodes again", lambda rows: rows[5].startswith("detector"))
        tty.press("w")
        tty.until_shown("w 60s")
        tty.press("?")
        tty.until_shown("leave; the run goes on")
        tty.press("\x1b[D?")  # a key that means nothing here, and the same one again
        tty.press("\t\t")
        tty.until("the table of edges alone", lambda rows: rows[3].startswith("EDGE"))
        tty.press("q")
        assert tty.end() == 0
        assert tty.is_as_before()
        assert tty.screen.overflows == 0
    assert slow.ps("slow") is not None


def test_a_terminal_that_changes_its_size_is_filled_anew(slow: Box) -> None:
    with top(slow) as tty:
        tty.until_shown("quit")
        assert not any("WORK50" in row and "RESTARTS" in row for row in tty.screen.rows)
        for columns, lines in ((170, 40), (60, 16), (20, 6), (2, 1), (80, 24)):
            tty.resize(columns, lines)
            tty.until("the header", lambda rows, shown="run slow"[:columns]: rows[0].startswith(shown))
            if columns == 170:
                tty.until_shown("RESTARTS")
        tty.until("the last row", lambda rows: "quit" in rows[23])
        tty.screen.overflows = 0  # what was under way when the size changed was for another one
        tty.press("w")
        tty.until_shown("w 60s")
        tty.press("q")
        assert tty.end() == 0
        assert tty.screen.overflows == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)], ids=str
)
def test_a_signal_ends_it_and_the_terminal_is_as_before(slow: Box, number: signal.Signals, status: int) -> None:
    with top(slow) as tty:
        tty.until_shown("quit")
        assert not tty.is_as_before()
        tty.process.send_signal(number)
        assert tty.end() == status
        assert tty.is_as_before()


def test_ctrl_c_at_any_moment_leaves_the_terminal_clean(box: Box) -> None:
    box.start("up", box.write_spec(ENDLESS))
    box.wait_running()
    began = time.monotonic()
    with top(box) as tty:
        tty.until_shown("quit")
    whole_s = time.monotonic() - began
    for step in range(12):
        with top(box) as tty:
            # Before its first line the interpreter's own start is interrupted, which is not ours to answer for.
            tty.until("its first line", lambda rows, pid=tty.process.pid: signal.SIGTERM in signals_of(pid, "SigCgt"))
            end = time.monotonic() + whole_s * step / 10
            tty.until("the moment", lambda rows, end=end: time.monotonic() >= end)
            tty.press("\x03")
            assert tty.end() in (0, 130), "\n".join(tty.screen.rows)
            assert tty.is_as_before()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs a shell with job control")
def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(slow: Box) -> None:
    env = {**slow.env, "LANG": "C.UTF-8", "PS1": "ready> "}
    with Tty([shutil.which("bash") or "", "--norc", "--noprofile", "--noediting", "-i"], env) as tty:
        tty.until_shown("ready>")
        tty.press(f"{' '.join(STREAMCTL)} top\r")
        tty.until_shown("q quit")
        tty.press("\x1a")
        tty.until_shown("Stopped")
        assert not tty.screen.alternate
        assert tty.screen.shows_cursor
        tty.press("fg\r")
        tty.until("the tables again", lambda rows: tty.screen.alternate and any("q quit" in row for row in rows))
        tty.press("q")
        tty.until("the shell", lambda rows: not tty.screen.alternate)
        tty.press("echo $((40 + 2))\r")
        tty.until_shown("42")


def test_a_terminal_that_goes_away_ends_it(slow: Box) -> None:
    tty = top(slow)
    with tty:
        tty.until_shown("quit")
        tty.hang_up()
        assert tty.process.wait(60) == 129


def test_the_end_of_the_run_ends_it_and_is_said(slow: Box) -> None:
    with top(slow) as tty:
        tty.until_shown("quit")
        assert slow.run("down", "slow").returncode == 0
        assert tty.end() == 0
        assert tty.is_as_before()
        assert any("run slow has ended" in row for row in tty.screen.rows)


def test_a_coordinator_that_does_not_answer_is_shown_and_asked_again(slow: Box) -> None:
    coordinator = slow.started[0]
    with top(slow, "--interval", "200ms") as tty:
        tty.until_shown("quit")
        coordinator.send_signal(signal.SIGSTOP)
        try:
            tty.until_shown("no answer for")
            tty.press("?")  # keys are answered all the same
            tty.until_shown("leave; the run goes on")
            tty.press("?")
        finally:
            coordinator.send_signal(signal.SIGCONT)
        tty.until("an answer", lambda rows: not any("no answer" in row for row in rows))
        coordinator.send_signal(signal.SIGSTOP)
        try:
            tty.until_shown("no answer for")
            tty.press("q")
            assert tty.end() == 0
            assert tty.is_as_before()
        finally:
            coordinator.send_signal(signal.SIGCONT)


def test_where_it_cannot_draw_it_says_what_to_do(slow: Box) -> None:
    done = slow.run("top", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--once" in done.stderr
    command = [*STREAMCTL, "top"]
    with Tty(["env", "TERM=dumb", *command], slow.env) as tty:
        assert tty.end() == 2
        assert any("--once" in row for row in tty.screen.rows)
    with Tty([*command, "no-such-run"], slow.env) as tty:
        assert tty.end() == 3
        assert tty.is_as_before()


def test_without_colours_and_without_utf_8(slow: Box) -> None:
    colours = set(range(30, 38)) | set(range(90, 98))
    with top(slow, LANG="C", LC_ALL="C", NO_COLOR="1") as tty:
        rows = tty.until("a full bar", lambda rows: any("#####" in row for row in rows) and rows)
        assert all(row.isascii() for row in rows)
        assert not tty.screen.styles & colours
    del slow.env["NO_COLOR"]
    with top(slow) as tty:
        tty.until("a full bar", lambda rows: any("━━━━━" in row for row in rows))
        assert tty.screen.styles & colours


def test_stats_of_a_window_fit_80_columns_and_are_also_json(slow: Box) -> None:
    slow.env["COLUMNS"] = "80"
    done = wait_until("a window", lambda: (found := slow.run("stats", "slow", "--window", "1")).returncode == 0 and found)
    lines = done.stdout.splitlines()
    assert " over the last " in lines[0]
    assert lines[1].split() == ["NODE", "IN/S", "OUT/S", "FAIL/S", "BUSY", "BLOCKED", "WORK50", "WORK95", "WORK99", "AGE95"]
    assert [line.split()[0] for line in lines[2:5]] == ["camera", "detector", "sink"]
    assert lines[6].startswith("EDGE")
    tables, said = lines[: lines.index("", 6)], lines[lines.index("", 6) + 1 :]
    assert max(map(len, tables)) <= 80
    assert said[0].startswith("'detector' holds the graph back: ")  # whole, whatever its length: a pipe has no columns
    found = json.loads(slow.run("stats", "slow", "--json").stdout)
    assert set(found["windows"]) == {"1", "10", "60"}
    assert found["windows"]["1"]["nodes"]["detector"]["work"]["p50_ns"] >= 38e6
    assert slow.run("stats", "slow", "--window", "2").returncode == 2


@pytest.mark.parametrize("words", [("stats",), ("account",), ("top", "--once")], ids=" ".join)
def test_a_run_that_dies_before_it_answers_is_status_3_and_a_word(slow: Box, words: tuple[str, ...]) -> None:
    coordinator = slow.started[0]
    coordinator.send_signal(signal.SIGSTOP)
    asking = subprocess.Popen(
        [*STREAMCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=slow.env, cwd=slow.folder
    )
    # It has asked when its end of the control socket is there.
    wait_until("the question", lambda: any(end.type == socket.SOCK_STREAM for end in psutil.Process(asking.pid).net_connections("unix")))
    coordinator.kill()
    _, error = asking.communicate(timeout=60)
    assert asking.returncode == 3
    assert error.startswith("streamctl: ")
    assert "'slow'" in error


def test_a_node_that_was_killed_is_a_notice(slow: Box) -> None:
    pid = next(node["pid"] for node in slow.ps("slow")["nodes"] if node["id"] == "detector")  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)

    def seen() -> list[str]:
        found = json.loads(slow.run("top", "--once", "--json").stdout)
        return [notice["text"] for notice in found["notices"] if notice["about"] == "detector" and "restarted 1 time" in notice["text"]]

    (text,) = wait_until("the restart to be told", seen)
    assert "SIGKILL" in text
