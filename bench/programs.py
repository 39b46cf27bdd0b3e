"""Programs run to be measured: started in a folder of their own, watched, and ended when somebody presses Ctrl-C.

A signal sets a mark and nothing else. Rejected: an exception from the handler, which Python drops in places, and which would have to pass
through whatever was at work.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

LOOK_S = 0.05
LEAVE_S = 8.0  # after SIGTERM; a second signal shortens it
TAIL_CHARS = 2000


class Stopped(Exception):
    """The user wants to end. What ran was ended before this is raised."""


class Failed(Exception):
    """A program did not do its work; the text says which and why, in one line or a few."""


class CannotDo(Exception):
    """A program says that it has no such case."""


class Stop:
    """Signals of the user. While it is entered, SIGINT, SIGTERM and SIGHUP are remembered and change nothing else."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def check(self) -> None:
        if self.signals:
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Raises Stopped as soon as there is a signal."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left_s, LOOK_S))
        self.check()


class Program:
    """One started command, in a session of its own: the terminal's Ctrl-C reaches only us, and we end it in order."""

    def __init__(self, stop: Stop, command: Sequence[str], folder: Path, env: dict[str, str], cwd: Path | None = None) -> None:
        stop.check()
        self._stop, self._command, self._folder = stop, command, folder
        self.began_ns = self.ended_ns = time.monotonic_ns()
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd or folder, start_new_session=True
            )

    @property
    def stdout(self) -> str:
        return (self._folder / "stdout").read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return (self._folder / "stderr").read_text("utf-8", "replace")

    def wait(self, timeout_s: float) -> int:
        """Its exit status. Raises Stopped or Failed once it was ended."""
        end_s = time.monotonic() + timeout_s
        while self.process.poll() is None:
            if self._stop.signals:
                self.end()
                raise Stopped
            if time.monotonic() > end_s:
                self.end()
                raise Failed(f"not finished after {timeout_s:g} s\n{self.tail()}")
            try:
                self.process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                pass
        self.ended_ns = time.monotonic_ns()
        return self.process.returncode

    def wait_for(self, path: Path, timeout_s: float, look_s: float = 0.005) -> str:
        """The text of a file that somebody of the run writes and renames into its place."""
        end_s = time.monotonic() + timeout_s
        while not path.exists():
            self._stop.check()
            if self.process.poll() is not None:
                raise Failed(f"ended with status {self.process.returncode} before it had begun\n{self.tail()}")
            if time.monotonic() > end_s:
                raise Failed(f"no {path.name} after {timeout_s:g} s\n{self.tail()}")
            time.sleep(look_s)
        return path.read_text()

    def end(self) -> None:
        """In order if it can, else by force; it is gone afterwards."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        signals, end_s = len(self._stop.signals), time.monotonic() + LEAVE_S
        while self.process.poll() is None and time.monotonic() < end_s and len(self._stop.signals) < signals + 1:
            time.sleep(LOOK_S)
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended since
                pass
            self.process.wait()

    def tail(self) -> str:
        return (self.stdout + self.stderr)[-TAIL_CHARS:].strip()


@contextmanager
def folder() -> Iterator[Path]:
    """An empty directory, gone afterwards. Its name is short, since paths of sockets have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="sb-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def streamctl(stop: Stop, place: Path, *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """`streamctl` from this environment, its run directory in `place`; ended at the end."""
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    its_env = {**os.environ, **(env or {}), "XDG_RUNTIME_DIR": str(place)}
    program = Program(stop, [sys.executable, *safe_path, "-m", "streamcore", *words], place, its_env, cwd)
    try:
        yield program
    finally:
        program.end()


def run_streamctl(stop: Stop, place: Path, *words: str, timeout_s: float = 120.0) -> Program:
    """Until it has ended. Raises Failed with its output unless its status is 0."""
    with streamctl(stop, place, *words) as program:
        status = program.wait(timeout_s)
        if status:
            raise Failed(f"streamctl {' '.join(words)} ended with status {status}\n{program.tail()}")
        return program


def take_json(text: str) -> dict[str, Any]:
    """The JSON object in the last line. Raises Failed."""
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(f"found {lines[-1:]} as the last line, expected a JSON object")
    return found
