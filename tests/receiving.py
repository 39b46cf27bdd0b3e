"""tools/receiver as a process of its own, and what it has logged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from boxes import ROOT, wait_until

PROGRAM = ROOT / "tools/receiver.py"
WAIT_S = 30.0


class Receiving:
    """Started in `folder` on a port of its own; the same port, and the same log, after `kill` and `start`."""

    def __init__(self, folder: Path, *arguments: str):
        self.log, self._arguments = folder / "received.jsonl", arguments
        self.port = 0
        self.start(*arguments)

    def start(self, *arguments: str) -> None:
        command = [sys.executable, PROGRAM, "--port", self.port, "--log", self.log, "--dedupe", *arguments]
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", self.url)
        assert found, f"its first line is {self.url!r}"
        self.port = int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def tell(self, *rules: str) -> dict[str, Any]:
        return self._ask("control", "\n".join(rules).encode())

    def stats(self, keys: bool = False) -> dict[str, Any]:
        return self._ask("stats?keys=1" if keys else "stats")

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, body, timeout=WAIT_S) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def events(self) -> list[dict[str, Any]]:
        """What it has taken, in order, without repeats."""
        raw = self.log.read_bytes() if self.log.exists() else b""
        return [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]  # it may be writing one

    def wait_for(self, count: int) -> None:
        wait_until(f"{count} events to arrive", lambda: len(self.events()) >= count)
