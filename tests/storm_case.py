"""One storm: a random graph as a real run, random faults while packets flow, a random end, and everything that must hold afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from boxes import Box
from fault_kit import Run
from flows import Broken, Flow, Witness, read_lines
from storm_graphs import PROGRESS_S, Graph, drawn

from streamcore.errors import RunError
from streamcore_nodes.witness import payload_hash

ENDS = ("end of stream", "end of stream", "end of stream", "down", "down", "SIGINT", "SIGTERM", "kill -9")
FAULTS = {"kill": 60, "kill two": 12, "kill all": 2, "stop": 4, "restart": 8, "pause": 6, "pause all": 3, "stack": 3, "account": 6}
GAPS_S = (0.03, 0.15, 0.4)  # mean time between two faults
STORM_S = (1.0, 6.0)
END_S, QUIET_S = 150.0, 30.0  # for a run to end by itself on a busy box; for a paused one to come to rest
PAUSE_S = 0.5


@dataclass
class Outcome:
    """What one storm did and found. `broken`: the promise that did not hold, with where to look; empty if all did."""

    case: str
    shape: str = ""
    end: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    has: tuple[str, ...] = ()
    broken: str = ""
    folder: str = ""

    def time(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(round(seconds, 3))


class Storm:
    """`play` once. The seed decides the graph, the plan of faults and the end; when each of them falls, the box decides."""

    def __init__(self, box: Box, seed: str):
        self.rng = random.Random(seed)
        self.box, self.outcome = box, Outcome(seed)
        self.how = self.rng.choice(ENDS)
        self.storm_s = self.rng.uniform(*STORM_S)
        self.gap_s = self.rng.choice(GAPS_S)
        self.graph: Graph = drawn(self.rng, endless=self.how != "end of stream", seconds=self.storm_s)
        nodes, edges = self.graph.spec["nodes"], self.graph.spec["edges"]
        self.outcome.shape = f"{len(nodes)} nodes, {len(edges)} edges, {len(self.graph.flows)} witnesses"
        self.outcome.end, self.outcome.has = self.how, tuple(sorted(self.graph.shapes))
        self.witnesses = {name: Witness(name, flows) for name, flows in self.graph.flows.items()}
        self.hurt: set[str] = set()  # nodes whose process was ended by us
        self.stopped: dict[int, float] = {}  # when, by process; wall time, as incidents have it
        self.paused: set[str] = set()
        self.run: Run

    def play(self) -> Outcome:
        try:
            self.run = Run(self.box, "storm", self.graph.text(), 0)
            self._play()
        except (Broken, AssertionError, RunError, OSError, subprocess.SubprocessError) as error:
            self.outcome.broken = f"{type(error).__name__}: {error}"
            self._collect_evidence()
        return self.outcome

    def _play(self) -> None:
        if self.rng.random() < 0.8:  # else it is hurt while it starts
            self.run.wait_up()
        self._storm(self.storm_s)
        self.run.see_memory()
        if self.how == "kill -9":
            self._kill_coordinator()
            return
        report = self._end()
        self._check_report(report)
        self._check_witnesses()
        self._check_letters()

    # --- faults

    def _storm(self, seconds: float) -> None:
        rng, end = self.rng, time.monotonic() + seconds
        names, weights = list(FAULTS), list(FAULTS.values())
        while time.monotonic() < end:
            time.sleep(min(rng.expovariate(1 / self.gap_s), 2.0))  # the moment by chance is the point
            fault = rng.choices(names, weights)[0]
            victims = rng.sample(self.graph.nodes, 2 if fault == "kill two" else 1)
            rows = self.run.nodes()
            if not rows:
                if self.run.process.poll() is not None:
                    return
                continue
            try:
                self._harm(fault, victims, rows)
            except RunError:
                self.outcome.counts["orders refused"] += 1  # a node that is starting cannot be restarted, one that is done not be paused
        self._resume()

    def _harm(self, fault: str, victims: list[str], rows: dict[str, dict[str, Any]]) -> None:
        if fault.startswith("kill"):
            self._signal(signal.SIGKILL, self.graph.nodes if fault == "kill all" else victims, rows)
        elif fault == "stop":
            self._signal(signal.SIGSTOP, victims, rows)
        elif fault == "restart":
            self.run.ask("restart", node=victims[0])
            self._note(fault, victims[0])
        elif fault == "pause":
            self.run.ask("pause", node=victims[0])
            self.paused.add(victims[0])
            self._note(fault, victims[0])
            if self.rng.random() < 0.7:
                time.sleep(self.rng.uniform(0, PAUSE_S))
                self._resume()
        elif fault == "pause all":
            self._rest()
        elif fault == "stack":
            self.box.run("stack", victims[0], "storm")
            self.outcome.counts["looks at stacks"] += 1
        else:
            self.run.ask("account")
            self.outcome.counts["looks at the account"] += 1

    def _signal(self, number: signal.Signals, victims: list[str], rows: dict[str, dict[str, Any]]) -> None:
        for name in victims:
            pid = rows[name]["pid"]
            if pid is None:
                continue
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            self._note(number.name, name)
            if number == signal.SIGSTOP:
                self.stopped.setdefault(pid, time.time())

    def _note(self, what: str, name: str) -> None:
        """Count it by the role of the node."""
        edges = self.graph.spec["edges"]
        has_in, has_out = any(e["to"] == name for e in edges), any(e["from"].partition(".")[0] == name for e in edges)
        self.outcome.counts[f"{what} {'source' if not has_in else 'node' if has_out else 'sink'}"] += 1
        if what != "pause":
            self.hurt.add(name)

    def _resume(self) -> None:
        if self.paused and self.run.process.poll() is None:
            self.run.ask("resume")
        self.paused.clear()

    def _rest(self) -> None:
        """Pause everything: when nothing moves any more, every edge balances. What stands stopped, amid its counting, goes on."""
        for row in self.run.nodes().values():
            if self.stopped.pop(row["pid"], None) is not None:
                with suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGCONT)
        self.run.ask("pause")
        self.paused.add("*")
        end = time.monotonic() + QUIET_S
        while not (found := self.run.ask("account"))["balanced"]:
            if time.monotonic() > end:
                raise Broken(f"all nodes are paused and the account does not balance: {[e for e in found['edges'] if not e['balanced']]}")
        self.outcome.counts["balanced at rest"] += 1
        self._resume()

    # --- the end

    def _end(self) -> dict[str, Any]:
        if self.how != "end of stream":
            self.run.until("the run to be reachable", self.run.nodes)  # a box so busy that it has not come so far
        if self.how in ("SIGINT", "SIGTERM"):
            self.run.process.send_signal(getattr(signal, self.how))
        elif self.how == "down":
            self.run.ask("down")
            if self.rng.random() < 0.5:
                self._storm(1.0)  # also while it drains
        try:
            status = self.run.process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise Broken(f"the run did not end within {END_S:g} s") from None
        if status != 0:
            raise Broken(f"the run ended with {status}, expected 0")
        began = time.monotonic()
        self.run.nothing_left()
        self.outcome.time("until nothing is left, in order", time.monotonic() - began)
        report: dict[str, Any] = json.loads(self.run.report_path.read_text())
        return report

    def _kill_coordinator(self) -> None:
        """Nothing is left, what arrived is right, and the next run of that name works."""
        began = time.monotonic()
        self.run.process.kill()
        self.run.process.wait(10)
        self.run.nothing_left()
        self.outcome.time("until nothing is left, kill -9", time.monotonic() - began)
        self.outcome.counts["SIGKILL coordinator"] += 1
        self._check_witnesses(whole=False)
        for name in self.graph.flows:
            (self.box.folder / f"{name}.jsonl").unlink(missing_ok=True)
        self.hurt.clear()
        self.run = Run(self.box, "storm", self.graph.text(), 0)
        self.run.wait_up()
        self.run.ask("down")
        self.how = "down"
        self._check_report(self._end())
        self._check_witnesses()

    # --- what must hold

    def _check_report(self, report: dict[str, Any]) -> None:
        account = report["account"]
        if not account["balanced"] or account["lost"]:
            raise Broken(f"the account does not balance: {account}")
        for name, edge in report["edges"].items() if not self.graph.delivered else ():  # there an outcome is that of all that follows
            if edge["policy"] == "block" and edge["dropped"]:
                raise Broken(f"edge {name} blocks and dropped {edge['dropped']} packets")
            if edge["failed"] and not self.graph.poisoned:
                raise Broken(f"edge {name}: {edge['failed']} packets failed although no node refuses any")
        for name, row in report["nodes"].items():
            if row["restarts"]:
                self.outcome.counts["restarts"] += row["restarts"]
            for path in row["incidents"]:
                self._look_at_incident(name, Path(path))

    def _look_at_incident(self, name: str, path: Path) -> None:
        if not path.exists():  # the folder keeps the newest
            return
        incident = json.loads(path.read_text())
        self.outcome.counts[f"incidents, {incident['reason']}"] += 1
        if incident["reason"] == "hang":
            if not incident["stacks"]["python"] and "stopped" not in incident["cause"]:
                raise Broken(f"the incident of a hang of {name} has no stack: {path}")
            noticed = datetime.fromisoformat(incident["ts"].replace("Z", "+00:00")).timestamp()
            if incident["pid"] in self.stopped:
                self.outcome.time("a SIGSTOP until its incident, less progress_s", noticed - self.stopped[incident["pid"]] - PROGRESS_S)

    def _check_witnesses(self, *, whole: bool = True) -> None:
        lines = {name: read_lines(self.box.folder / f"{name}.jsonl") for name in self.graph.flows}
        frames = [witness.frames(lines[name]) for name, witness in self.witnesses.items()]
        # A source without end: what one witness has got all others must have, for the run has drained.
        counts = {
            source: max(found.get(source, 0) for found in frames) if count is None else count for source, count in self.graph.counts.items()
        }
        for name, witness in self.witnesses.items():
            deaths = self.outcome.counts.total()  # of any node: those of others bring repeats to a witness that was hurt as well
            repeats_max = deaths * self.graph.window_into(name) if name in self.hurt else 0
            found = witness.check(lines[name], counts, repeats_max, whole=whole)
            self.outcome.counts["packets verified"] += found.arrived
            self.outcome.counts["repeats, flagged"] += found.repeats

    def _check_letters(self) -> None:
        """Exactly the packets that kill their node are dead letters, payload and incident included."""
        found = sorted((self.box.runtime / "streamcore" / "storm" / "dead-letters").glob("*.json"))
        for path in found:
            letter = json.loads(path.read_text())
            if letter["node"] not in self.graph.poisoned:
                raise Broken(f"{letter['node']} put a packet aside that does it no harm: {path.name}")
            frame, flows = self.graph.poisoned[letter["node"]]
            content = payload_hash(np.load(path.with_suffix(".npy"), allow_pickle=False))
            if letter["meta"]["frame"] != frame or content not in {flow.hash_of(frame) for flow in flows}:
                raise Broken(f"dead letter {path.name}: found frame {letter['meta']['frame']}, expected {frame} with its pixels")
            if not letter["report"]:
                raise Broken(f"dead letter {path.name} has no incident")
        wanted = sum(_reaches(flow, frame, self.graph) for frame, flows in self.graph.poisoned.values() for flow in flows)
        if len(found) < wanted:
            raise Broken(f"{len(found)} dead letters, expected at least {wanted}")
        self.outcome.counts["dead letters"] += len(found)

    # --- when it went wrong

    def _collect_evidence(self) -> None:
        """While the run still lives: what its nodes do. The folder keeps spec, output, logs and incidents."""
        self.outcome.folder = str(self.box.folder)
        if not hasattr(self, "run") or self.run.process.poll() is not None:
            return
        looks = [["account", "storm"], ["ps", "storm", "--json"], *(["stack", name, "storm"] for name in self.graph.nodes)]
        for words in looks:
            try:
                done = self.box.run(*words, timeout_s=20)
            except subprocess.TimeoutExpired:
                continue
            (self.box.folder / f"evidence-{'-'.join(words[:2])}").write_text(done.stdout + done.stderr)


def _reaches(flow: Flow, frame: int, graph: Graph) -> bool:
    count = graph.counts[flow.source]
    return not flow.lossy and frame not in flow.without and count is not None and frame < count
