"""Runs one measured graph through `streamctl up` and returns what its sink and source published."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SIZES = {"vga": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}


def spec_of(source: str, config: dict[str, Any], forwards: int = 0, depth: int | None = None) -> dict[str, Any]:
    """source -> `forwards` nodes that pass frames on -> sink, all edges block; JSON is YAML, so the dict is the spec."""
    names = ["source", *(f"forward{i}" for i in range(forwards)), "sink"]
    plugins = [source, *["bench_nodes:Forward"] * forwards, "bench_nodes:Touch"]
    nodes: list[dict[str, Any]] = [{"id": name, "plugin": plugin} for name, plugin in zip(names, plugins, strict=True)]
    nodes[0]["config"] = config
    edges: list[dict[str, Any]] = [{"from": a, "to": b} for a, b in itertools.pairwise(names)]
    for edge in edges if depth else ():
        edge["depth"] = depth
    return {"version": 2, "name": "bench", "allow": ["bench_nodes"], "nodes": nodes, "edges": edges}


def run(spec: dict[str, Any], timeout_s: float = 300) -> dict[str, float]:
    """The report's metrics. Raises RuntimeError with the output if the run did not end well."""
    with tempfile.TemporaryDirectory(prefix="sb-") as folder:
        path, report = Path(folder) / "bench.yaml", Path(folder) / "r.json"
        path.write_text(json.dumps(spec))
        env = {**os.environ, "XDG_RUNTIME_DIR": folder, "PYTHONPATH": str(HERE)}
        command = [sys.executable, "-m", "streamcore", "up", str(path), "--report", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout_s)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        metrics: dict[str, float] = json.loads(report.read_text())["metrics"]
    if metrics["node.sink.metric.wrong"]:
        raise RuntimeError(f"{metrics['node.sink.metric.wrong']} packets had the wrong content")
    return metrics


def rate_of(metrics: dict[str, float]) -> float:
    """Packets per second at the sink, after the warm-up."""
    return metrics["node.sink.metric.measured"] / metrics["node.sink.metric.elapsed_s"]


def memcpy_rate(height: int, width: int, seconds: float = 1.0) -> float:
    """Frames per second that one thread copies into a rotation of shared slots: what no transport that writes frames can beat."""
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    slots = [np.frombuffer(memoryview(_shared(picture.nbytes)), np.uint8).reshape(picture.shape) for _ in range(2)]
    for slot in slots:
        np.copyto(slot, picture)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        np.copyto(slots[count % 2], picture)
        count += 1
    return count / (time.perf_counter() - began)


def _shared(nbytes: int) -> Any:
    import mmap

    fd = os.memfd_create("bench")
    os.ftruncate(fd, nbytes)
    memory = mmap.mmap(fd, nbytes)
    os.close(fd)
    return memory
