"""Faults and what must hold after them: a run that can be hurt by seed, what its witnesses got, and leftovers.

Used by tests/faults/, by tools/faults and by tools/soak.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boxes import Box, holders_of, memory_of, wait_until
from flows import Broken, Content, Flow, Line, Witness, read_lines

from streamcore.control import client, rundir
from streamcore.errors import RunError

WIDTH, HEIGHT = 32, 24
CROP = (4, 2, 16, 12)  # x, y, width, height
OFTEN = "restart: {max_restarts: 10000, window_s: 60, backoff_s: 0.01, backoff_max_s: 0.05}"
FOLDER = Path(__file__).parent / "faults"
PATIENCE_S = 60.0  # with what takes milliseconds: others may keep both cores busy meanwhile


@dataclass
class Ledger:
    """What one witness of synthetic.frames' frames wrote, whole ones or cut by CROP: `lines` of debug.hash."""

    path: Path
    cropped: bool = False

    def lines(self) -> list[Line]:
        return read_lines(self.path)

    def check(self, *, repeats_max: int, sources: Iterable[str], expected: int | None = None) -> dict[str, int]:
        """Every frame of every source as flows.py wants it. `expected`: frames per source; without it up to the last one seen.

        Raises Broken.
        """
        ops = (("crop", *CROP),) if self.cropped else ()
        witness = Witness(self.path.name, [Flow(source, Content("frames", WIDTH, HEIGHT), ops) for source in sources])
        lines = self.lines()
        counts = {source: reached if expected is None else expected for source, reached in witness.frames(lines).items()}
        found = witness.check(lines, counts, repeats_max)
        return {"arrived": found.arrived, "repeats": found.repeats}


@dataclass
class Run:
    """A run under faults, started by `streamctl up` as a process of its own."""

    box: Box
    name: str
    spec: str
    seed: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.report_path = self.box.folder / f"{self.name}.json"
        paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.box.env["PYTHONPATH"] = os.pathsep.join(paths)
        self.memory: set[tuple[int, int]] = set()  # of the run, as far as it was seen
        self.which = len(self.box.started)
        self.process: subprocess.Popen[str] = self.box.start(
            "up", self.box.write_spec(self.spec, f"{self.name}.yaml"), "--name", self.name, "--report", self.report_path, *self.options
        )
        self._client: client.Client | None = None

    # --- looking

    @property
    def output(self) -> str:
        return self.box.output(self.which)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        if self._client is None:
            info = rundir.live_info(self.box.runtime / "streamcore" / self.name)
            if info is None:
                raise RunError(f"no run {self.name}")
            self._client = client.Client(info)
        return self._client.request(verb, 20.0, **arguments)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """By id; empty while the run cannot be reached."""
        try:
            return {row["id"]: row for row in self.ask("stats")["nodes"]}
        except RunError:
            return {}

    def until(self, what: str, true: Callable[[], Any], deadline_s: float = 60.0) -> Any:
        """Poll for something that sends no event; Broken, with the end of the run's output, if it does not come, or the run ends first."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if found := true():
                return found
            if self.process.poll() is not None:
                if found := true():
                    return found
                raise Broken(f"{self.name} ended with {self.process.returncode} while waiting for {what}:\n{self.output[-3000:]}")
            time.sleep(0.01)
        raise Broken(f"waited {deadline_s} s for {what}:\n{self.output[-3000:]}")

    def wait_up(self) -> None:
        def at_work() -> bool:
            rows = self.nodes().values()
            return bool(rows) and all(row["state"] in ("READY", "DRAINING", "DONE") for row in rows)

        self.until("every node to be ready", at_work)
        self.descriptors_before = self.descriptors()
        self.see_memory()

    def see_memory(self) -> None:
        self.memory |= memory_of(self.process.pid)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    # --- hurting

    def hurt(self, how: signal.Signals, kills: dict[str, int], pause_s: float = 0.1, deadline_s: float = 240.0) -> None:
        """Send a signal to each of these nodes so often, each time to a new process of it that is at work, after a moment by chance."""
        left, hit, due = dict(kills), dict.fromkeys(kills, 0), dict.fromkeys(kills, 0.0)
        end = time.monotonic() + deadline_s
        while any(left.values()):
            if time.monotonic() > end:
                raise Broken(f"only {self.counts} in {deadline_s} s:\n{self.output[-3000:]}")
            rows = self.nodes()
            if not rows:
                raise Broken(f"{self.name} ended, {left} to go:\n{self.output[-3000:]}")
            now = time.monotonic()
            for name in sorted(left):
                row = rows[name]
                if not left[name] or row["state"] not in ("READY", "DRAINING") or row["pid"] == hit[name]:
                    continue
                if not due[name]:
                    due[name] = now + self.rng.uniform(0, pause_s)
                elif now >= due[name]:
                    due[name], hit[name] = 0.0, row["pid"]
                    left[name] -= 1
                    self.counts[f"{how.name} {name}"] += 1
                    os.kill(row["pid"], how)
            time.sleep(0.02)

    @property
    def hurts(self) -> int:
        return sum(self.counts.values())

    # --- the end

    def end(self, how: str = "down", status: int = 0) -> dict[str, Any]:
        """Drain, or wait for the end of the stream; then nothing is left, the account balances, descriptors have not grown. The report."""
        if how == "down":
            self.until("every node to be back", lambda: all(row["state"] in ("READY", "DRAINING", "DONE") for row in self.nodes().values()))
            grown = self.descriptors() - self.descriptors_before
            if grown > 2:
                raise Broken(f"the coordinator has {grown} descriptors more than at the start")
            self.ask("down")
        found = self.process.wait(90)
        if found != status:
            raise Broken(f"{self.name} ended with {found}, expected {status}:\n{self.output[-3000:]}")
        self.nothing_left()
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        if not report["account"]["balanced"] or report["account"]["lost"]:
            raise Broken(f"the account does not balance: {report['account']}")
        return report

    def nothing_left(self, deadline_s: float = PATIENCE_S, *, sockets: bool = True) -> None:
        self.forget()
        wait_until("every process of the run to be gone", lambda: not self.box.processes(), deadline_s)
        if sockets:
            self.box.assert_nothing_left(deadline_s)
        wait_until("its shared memory to be given back", lambda: not holders_of(self.memory), deadline_s)

    def forget(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def node(name: str, plugin: str, config: str = "", more: str = "") -> str:
    """A line of a spec's nodes, restarted as often as it takes and at once."""
    parts = [f"id: {name}", f'plugin: "{plugin}"', *([f"config: {{{config}}}"] if config else []), OFTEN, *([more] if more else [])]
    return f"  - {{{', '.join(parts)}}}"


def spec(nodes: Iterable[str], edges: Iterable[tuple[str, str]], drain_s: float = 60) -> str:
    lines = ["version: 2", "name: faults", f"drain_s: {drain_s}", "allow: [fault_nodes, fault_import]", "nodes:", *nodes, "edges:"]
    return "\n".join([*lines, *(f"  - {{from: {source}, to: {target}}}" for source, target in edges)]) + "\n"


def frames(rate: float, count: int = 0) -> str:
    return f"width: {WIDTH}, height: {HEIGHT}, rate: {rate}, count: {count}"
