"""A spec of the user's, measured: packets per second of its edges, CPU and memory of its nodes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from streamcore_bench import proc
from streamcore_bench.lives import nodes_of
from streamcore_bench.points import Found, Point
from streamcore_bench.programs import Failed, Stop, folder, streamctl
from streamcore_bench.results import OURS

CASE = "spec file"
FIRST_LOOK_S, LOOK_S = 0.01, 0.2  # until the run is up, and from then on
DRAIN_S = 60.0  # beyond --for: start and drain


def points(path: str, for_s: float) -> list[tuple[str, Point]]:
    """One point per run of `run_once`; its nodes and edges become points of their own (see results)."""
    name = os.path.basename(path)
    measures = ("rate", "cpu_percent", "pss_mib")
    return [(f"{CASE} {name}", Point(name, measures, ours=lambda stop, options: run_once(stop, path, for_s)))]


def run_once(stop: Stop, path: str, for_s: float) -> Found:
    """{edge or node: measures}: rates from the account of the report and the time that the run was up, the rest from /proc meanwhile.

    It runs where the user called, so that relative paths in its config mean what they mean there.
    """
    with folder() as place:
        report = place / "report.json"
        words = ("up", os.path.abspath(path), "--for", f"{round(for_s * 1000)}ms", "--report", str(report))
        with streamctl(stop, place, *words, cwd=Path.cwd()) as program:
            began_ns = last_ns = 0
            first_s: dict[str, float] = {}
            cpu_s: dict[str, float] = {}
            memory_mib: dict[str, float] = {}
            end_s = time.monotonic() + for_s + DRAIN_S
            while program.process.poll() is None:
                stop.check()
                if time.monotonic() > end_s:
                    raise Failed(f"{path} has not ended {DRAIN_S:g} s after --for")
                if " is up: " in program.stdout:
                    nodes = nodes_of(program)
                    now_s = {name: proc.cpu_s(pid) for name, pid in nodes.items()}
                    memory_mib |= _memories(nodes)
                    if not began_ns:
                        began_ns, first_s = time.monotonic_ns(), now_s
                    cpu_s |= {name: value for name, value in now_s.items() if value}
                    last_ns = time.monotonic_ns() if nodes else last_ns
                time.sleep(LOOK_S if began_ns else FIRST_LOOK_S)
            if not report.exists():
                raise Failed(f"streamctl up {path} ended with status {program.process.returncode}\n{program.tail()}")
            found = json.loads(report.read_text())
    span_s = max((last_ns - began_ns) / 1e9, LOOK_S)
    rates = {f"edge {name}": {"rate": edge["completed"] / span_s} for name, edge in found["edges"].items()}
    costs = {
        f"node {name}": {"cpu_percent": 100 * max(used - first_s.get(name, 0.0), 0.0) / span_s, "pss_mib": memory_mib.get(name, 0.0)}
        for name, used in cpu_s.items()
    }
    return {OURS: {}} | rates | costs


def _memories(nodes: dict[str, int]) -> dict[str, float]:
    looks = {name: proc.memory(pid) for name, pid in nodes.items()}
    return {name: found.pss_mib for name, found in looks.items() if found}
