"""Our side of the cases that are no flow: start, restart, memory, rest, freshness, and how long a spec takes to check."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamcore_bench import proc
from streamcore_bench.life_nodes import first_file
from streamcore_bench.points import Found, Options
from streamcore_bench.programs import Failed, Program, Stop, folder, run_streamctl, streamctl
from streamcore_bench.results import OURS

NODES = "streamcore_bench.life_nodes"
FRAME_BYTES = 1920 * 1080 * 3
RATE = 60.0
DEADLINE_S = 60.0
PAUSE_S = 1.0  # before each kill, so that it finds a graph at work
WORK_S = 0.040


def chain(nodes: list[dict[str, Any]], edge: dict[str, Any] | None = None) -> dict[str, Any]:
    edges = [{"from": one["id"], "to": other["id"]} | (edge or {}) for one, other in itertools.pairwise(nodes)]
    return {"version": 2, "name": "bench", "allow": ["streamcore_bench"], "nodes": nodes, "edges": edges}


def camera() -> dict[str, Any]:
    return {"id": "source", "plugin": f"{NODES}:Camera", "config": {"nbytes": FRAME_BYTES, "rate": RATE}}


def forwards(count: int) -> list[dict[str, Any]]:
    return [{"id": f"hop{i}", "plugin": f"{NODES}:Forward"} for i in range(count)]


def sink(kind: str, **config: Any) -> dict[str, Any]:
    return {"id": "sink", "plugin": f"{NODES}:{kind}"} | ({"config": config} if config else {})


def write(place: Path, spec: dict[str, Any]) -> str:
    path = place / "bench.yaml"
    path.write_text(json.dumps(spec))
    return str(path)


def startup(stop: Stop, nodes: int) -> Found:
    """From the command to the first packet at the sink."""
    with folder() as place:
        spec = chain([camera(), *forwards(nodes - 2), sink("Last", folder=str(place))])
        with streamctl(stop, place, "up", write(place, spec)) as program:
            first_ns = int(program.wait_for(first_file(place, "sink"), DEADLINE_S).split()[1])
            return {OURS: {"seconds": (first_ns - program.began_ns) / 1e9}}


def restart(stop: Stop, kills: int, victim: str) -> Found:
    """From `kill -9` of a node to the first packet at its successor: the median of some kills. Lost: by the account of the run."""
    with folder() as place:
        nodes = [camera(), *forwards(victim.startswith("hop")), sink("Last")]
        for node in nodes:
            node["restart"] = {"max_restarts": 10_000, "window_s": 1}
            node.setdefault("config", {}).update(folder=str(place))
        report = place / "report.json"
        found_s: list[float] = []
        with streamctl(stop, place, "up", write(place, chain(nodes)), "--report", str(report)) as program:
            first = first_file(place, victim)
            pid = int(program.wait_for(first, DEADLINE_S).split()[0])
            for _ in range(kills):
                stop.sleep(PAUSE_S)
                first.unlink()
                began_ns = time.monotonic_ns()
                os.kill(pid, signal.SIGKILL)
                word, first_ns = program.wait_for(first, DEADLINE_S).split()
                pid = int(word)
                found_s.append((int(first_ns) - began_ns) / 1e9)
            stop.sleep(PAUSE_S)
        edges = json.loads(report.read_text())["edges"].values()
        lost = sum(edge["dropped"] + edge["failed"] + edge["in_flight"] for edge in edges)
        return {OURS: {"seconds": float(np.median(found_s)), "lost": float(lost)}}


def nodes_of(program: Program) -> dict[str, int]:
    """Node to process."""
    return {name: pid for pid in proc.descendants(program.process.pid) if (name := proc.node_name(pid))}


def memory(stop: Stop, options: Options, node: str | None) -> Found:
    """Frames at 60/s from a standard source to a standard sink; looked at once they have gone round every slot.

    Of one node, or of the whole run, whose private memory is that of all its processes.
    """
    source = {"id": "source", "plugin": "synthetic.frames", "config": {"rate": 60}}
    spec = chain([source, {"id": "sink", "plugin": "debug.hash"}])
    with folder() as place, streamctl(stop, place, "up", write(place, spec)) as program:
        until_up(stop, program)
        stop.sleep(options.seconds(3.0))
        nodes = nodes_of(program)
        if any("cv2" in Path(f"/proc/{pid}/maps").read_text() for pid in nodes.values()):
            raise Failed("a node has loaded OpenCV: its memory is not ours")
        pids = [nodes[node]] if node else [program.process.pid, *proc.descendants(program.process.pid)]
        memories = [found for found in map(proc.memory, pids) if found]
    found = {
        "uss_mib": sum(one.uss_mib for one in memories),
        "pss_mib": sum(one.pss_mib for one in memories),
        "own_mib": sum(one.pss_mib - one.pss_shmem_mib for one in memories),
        "threads": float(sum(one.threads for one in memories)),
    }
    return {OURS: found}


def idle(stop: Stop, options: Options, nodes: int) -> Found:
    """CPU of all processes of a run that has nothing to do."""
    seconds = options.seconds(20.0)
    source = {"id": "source", "plugin": f"{NODES}:Silent"}
    spec = chain([source, *forwards(nodes - 2), sink("Last")])
    with folder() as place, streamctl(stop, place, "up", write(place, spec)) as program:
        until_up(stop, program)
        stop.sleep(1.0)
        pids = [program.process.pid, *proc.descendants(program.process.pid)]
        begin_s, began_ns = {pid: proc.cpu_s(pid) for pid in pids}, time.monotonic_ns()
        stop.sleep(seconds)
        used_s = sum(max(proc.cpu_s(pid) - before_s, 0.0) for pid, before_s in begin_s.items())
        return {OURS: {"cpu_percent": 100e9 * used_s / (time.monotonic_ns() - began_ns)}}


def latest(stop: Stop, options: Options) -> Found:
    """Age of a frame when the work on it begins, behind an edge that keeps the newest. The ideal is taken from the same run: the age that
    the newest frame due at that moment had, if frames took no time to be made and to travel.
    """
    frames = round(options.seconds(5.0) / WORK_S)
    with folder() as place:
        spec = chain([camera(), sink("Slow", folder=str(place), work_s=WORK_S, frames=frames)], {"policy": "latest"})
        with streamctl(stop, place, "up", write(place, spec)) as program:
            seen = json.loads(program.wait_for(first_file(place, "sink"), DEADLINE_S, look_s=0.05))
    return ages(seen)


def ages(seen: list[tuple[int, int, int]]) -> Found:
    """From (frame, capture, begin of the work on it) in ns. The first ones, when the edge was empty, are left out."""
    period_ns = 1e9 / RATE
    begin_ns = min(capture - frame * period_ns for frame, capture, _ in seen)
    later = seen[5:] or seen
    real = [start - capture for _, capture, start in later]
    ideal = [(start - begin_ns) % period_ns for _, _, start in later]
    found = {}
    for who, ages_ns in ((OURS, real), ("ideal", ideal)):
        p50_ns, p99_ns = np.percentile(ages_ns, [50, 99])
        found[who] = {"age_p50_ms": float(p50_ns) / 1e6, "age_p99_ms": float(p99_ns) / 1e6}
    return found


def validate(stop: Stop, nodes: int) -> Found:
    """The whole command `streamctl validate` on a tree of nodes, each of which feeds at most three others."""
    specs = [{"id": "n0", "plugin": f"{NODES}:Silent"}]
    specs += [{"id": f"n{i}", "plugin": f"{NODES}:Forward"} for i in range(1, nodes)]
    spec = chain(specs)
    spec["edges"] = [{"from": f"n{(i - 1) // 3}", "to": f"n{i}"} for i in range(1, nodes)]
    with folder() as place:
        path = write(place, spec)
        program = run_streamctl(stop, place, "validate", path)
        return {OURS: {"seconds": (program.ended_ns - program.began_ns) / 1e9}}


def until_up(stop: Stop, program: Program) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while " is up: " not in program.stdout:
        stop.check()
        if program.process.poll() is not None or time.monotonic() > end_s:
            raise Failed(f"the run did not come up\n{program.tail()}")
        time.sleep(0.02)
