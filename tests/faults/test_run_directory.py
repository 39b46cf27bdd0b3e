"""What lies in the way of a run, or is taken from under it: stale directories, a second run of its name, its directory deleted."""

from __future__ import annotations

import os
import shutil
import signal
import socket

import pytest
from boxes import Box, wait_until
from fault_kit import Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def chain(count: int = 0) -> str:
    nodes = [
        node("src", "synthetic.frames", frames(300, count)),
        node("mid", "flow.forward"),
        node("sink", "debug.hash", "path: sink.jsonl"),
    ]
    return spec(nodes, [("src", "mid"), ("mid", "sink")])


def test_a_stale_run_directory_is_swept_and_used_again(box: Box):
    stale = box.runtime / "streamcore" / "again"
    for folder in (stale, stale / "logs", stale / "incidents"):
        folder.mkdir(mode=0o700, parents=True)
    (stale.parent).chmod(0o700)
    (stale / "coordinator.pid").write_text('{"run": "again", "pid": 1}')
    for name in ("control", "src.1", "mid.7"):  # sockets without anybody behind them
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(stale / name))
        left.close()
    (stale / "logs" / "src.log").write_text("old\n")
    run = Run(box, "again", chain(200))
    run.end(how="end of stream")
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"], expected=200)


def test_a_second_run_of_the_same_name_is_refused_while_nodes_are_being_killed(box: Box):
    run = Run(box, "one", chain())
    run.wait_up()
    for _ in range(3):
        run.hurt(signal.SIGKILL, {"mid": 1})
        second = box.run("up", box.folder / "one.yaml", "--name", "one")
        assert second.returncode == 2 and "one" in second.stderr
    run.end()
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])


def test_a_run_whose_directory_is_deleted_goes_on_and_ends_in_order(box: Box):
    run = Run(box, "gone", chain())
    run.wait_up()
    ledger = Ledger(box.folder / "sink.jsonl")
    # A node that is READY was told to connect, and connects in a moment of its own; without the directory it could not.
    wait_until("the first packets: every edge is connected", lambda: len(ledger.lines()) > 5)
    shutil.rmtree(box.runtime / "streamcore" / "gone")
    before = len(ledger.lines())
    wait_until("packets to go on", lambda: len(ledger.lines()) > before + 50 or run.process.poll() is not None)
    wait_until("the run to say so", lambda: "was removed: `ps`" in run.output)
    run.process.send_signal(signal.SIGINT)
    run.process.wait(90)
    run.nothing_left()
    ledger.check(repeats_max=0, sources=["src"])


def test_a_node_killed_after_its_run_directory_was_deleted_does_not_leave_a_run_that_hangs(box: Box):
    run = Run(box, "gone", chain())
    run.wait_up()
    pids = {name: row["pid"] for name, row in run.nodes().items()}
    shutil.rmtree(box.runtime / "streamcore" / "gone")
    os.kill(pids["mid"], signal.SIGKILL)
    wait_until("the run to notice", lambda: run.process.poll() is not None or "mid: killed by SIGKILL" in run.output)
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(90) in (0, 1), run.output
    run.nothing_left()
