"""The peers: which there are, and an environment for each, made when it is first needed and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamcore_bench.programs import CannotDo, Failed, Program, Stop, folder, take_json
from streamcore_bench.shared_work import PEERS

CANNOT = 3  # exit status of a peer's program that has no such case
INSTALL_TIMEOUT_S = 600.0
READY = "ready"  # a file in an environment that is whole


def names() -> list[str]:
    return sorted(path.parent.name for path in PEERS.glob("*/peer.py"))


def cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "streamcore" / "bench"


def stamp(requirements: str, version: str) -> str:
    """Names an environment: another set of packages, or another Python, is another environment."""
    wanted = sorted(line.split("#")[0].strip() for line in requirements.splitlines() if line.split("#")[0].strip())
    return hashlib.sha256("\n".join([version, *wanted]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Environment:
    """A Python with some packages."""

    name: str
    requirements: str

    @property
    def path(self) -> Path:
        return cache() / f"{self.name}-{stamp(self.requirements, sys.version)}"

    @property
    def python(self) -> str:
        return str(self.path / "bin" / "python")

    @property
    def exists(self) -> bool:
        return (self.path / READY).exists()

    def make(self, stop: Stop, say: Callable[[str], None]) -> None:
        """If it is not there. One that was left half made is made again. Raises Failed in one line."""
        if self.exists:
            return
        say(f"{self.name}: making its environment in {self.path} (about a minute)")
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._run(stop, sys.executable, "-m", "venv", str(self.path))
            listed = self.path / "requirements.txt"
            listed.write_text(self.requirements)
            self._run(stop, self.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(listed))
            (self.path / READY).touch()
        finally:
            if not self.exists:
                shutil.rmtree(self.path, ignore_errors=True)

    def _run(self, stop: Stop, *command: str) -> None:
        with folder() as place:
            program = Program(stop, command, place, _plain_environment())
            status = program.wait(INSTALL_TIMEOUT_S)
            if status:
                errors = [line for line in program.tail().splitlines() if line.lower().startswith("error")] or program.tail().splitlines()
                raise Failed(f"its environment could not be made: {errors[-1] if errors else f'status {status}'}")


@dataclass
class Peer:
    """Another program that moves packets between processes. `version` is known once it has run."""

    name: str
    version: str = ""

    @property
    def environment(self) -> Environment:
        return Environment(self.name, (PEERS / self.name / "requirements.txt").read_text("utf-8"))

    def run(self, stop: Stop, job: dict[str, Any]) -> dict[str, Any]:
        """The result of one job. Raises CannotDo, or Failed."""
        with folder() as place:
            command = [self.environment.python, str(PEERS / self.name / "peer.py"), json.dumps(job)]
            program = Program(stop, command, place, _plain_environment())
            try:
                status = program.wait(job["timeout_s"] + 30)
            finally:
                program.end()
            if status == CANNOT:
                raise CannotDo((program.stderr.strip().splitlines() or [f"{self.name} has no such case"])[-1])
            if status:
                raise Failed(f"status {status}: {(program.stderr.strip().splitlines() or ['no message'])[-1]}")
            found: dict[str, Any] = take_json(program.stdout)
            self.version = found.get("version", self.version)
            return found


def _plain_environment() -> dict[str, str]:
    """Ours without what would lead another Python to our packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
