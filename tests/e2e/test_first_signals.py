"""Signals to `streamctl` before a run is there to be ended in order, and what of them must not reach its children."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import ENDLESS, Box, signals_of, wait_until

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# A plugin whose import takes for ever, and that does not let an exception through.
SLOW = """
import time
from pathlib import Path
from streamcore import Sink
Path("importing").touch()
while True:
    try:
        time.sleep(0.05)
    except BaseException:
        pass
"""
SPEC = """
version: 2
name: slow
allow: [slow_import]
nodes:
  - {id: camera, plugin: synthetic.frames}
  - {id: sink, plugin: "slow_import:Slow"}
edges:
  - {from: camera, to: sink}
"""


@pytest.fixture
def slow(box: Box) -> Path:
    """A spec of which the check does not end."""
    (box.folder / "slow_import.py").write_text(SLOW)
    box.env["PYTHONPATH"] = str(box.folder)
    return box.write_spec(SPEC)


def wait_importing(box: Box) -> None:
    wait_until("the plugin to be imported", (box.folder / "importing").exists)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
@pytest.mark.parametrize("verb", ["up", "validate"])
def test_a_signal_while_the_spec_is_checked_ends_the_command_at_once_and_without_a_word(verb, number, slow, box: Box) -> None:
    process = box.start(verb, slow)
    wait_importing(box)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert box.output() == ""
    assert not box.processes() and not (box.runtime / "streamcore" / "slow").exists()


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_signal_to_the_starter_of_a_detached_run_leaves_no_run(number, slow, box: Box) -> None:
    process = box.start("up", slow, "--detach")
    wait_importing(box)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert "Traceback" not in box.output()
    assert not box.processes()


def test_a_signal_that_is_ignored_on_purpose_stays_ignored_until_there_is_a_run(slow, box: Box) -> None:
    # `nohup streamctl ...`: the terminal goes, the command does not.
    command = f"import os, signal, sys; signal.signal({signal.SIGHUP:d}, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "streamcore", "validate", str(slow)]
    process = subprocess.Popen([sys.executable, "-c", command, *words], env=box.env, cwd=box.folder)
    box.started.append(process)
    wait_importing(box)
    assert signal.SIGHUP in signals_of(process.pid, "SigIgn")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM


def test_signals_are_caught_before_anything_but_the_interpreter_is_loaded() -> None:
    # What is imported before is time in which a signal ends the process as Python does, with a traceback.
    command = [sys.executable, "-X", "importtime", "-m", "streamcore", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    names = [line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line]
    before = names[names.index("streamcore") : names.index("click.core")]
    assert [name for name in before if name.startswith("streamcore")] == ["streamcore", "streamcore.cli", "streamcore.cli.entry"]


def test_nodes_and_guardian_block_and_ignore_nothing_that_they_did_not_choose(box: Box) -> None:
    process = box.start("up", box.write_spec(ENDLESS))
    pids = {node["id"]: node["pid"] for node in box.wait_running()["nodes"]}
    for pid in [process.pid, *pids.values()]:
        assert not signals_of(pid, "SigBlk")
    for pid in pids.values():
        assert signals_of(pid, "SigIgn") & set(NUMBERS) == {signal.SIGINT}  # a node leaves Ctrl-C to the coordinator
