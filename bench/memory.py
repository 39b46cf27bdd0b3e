"""Memory over many packets: `python bench/memory.py [--packets 2000000]`. Prints RSS per process, which should be a flat line.

Also prints the physical memory of the rings of a frame pipeline: slots in use times frame bytes, whatever `slot_bytes` is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from graphs import HERE, SIZES, spec_of


def watch(spec: dict[str, Any], every_s: float) -> tuple[list[dict[str, int]], list[int]]:
    """RSS in KiB per process, and KiB of shared memory that the run added, once per `every_s` until the run has ended."""
    with tempfile.TemporaryDirectory(prefix="sb-") as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(json.dumps(spec))
        env = {**os.environ, "XDG_RUNTIME_DIR": folder, "PYTHONPATH": str(HERE)}
        before_kib = shmem_kib()
        run = subprocess.Popen([sys.executable, "-m", "streamcore", "up", str(path)], env=env, stdout=subprocess.DEVNULL)
        rss, shared = [], []
        while run.poll() is None:
            rss.append(rss_kib(run.pid))
            shared.append(shmem_kib() - before_kib)
            time.sleep(every_s)
        if run.returncode:
            raise RuntimeError(f"the run ended with {run.returncode}")
    return rss, shared


def rss_kib(coordinator: int) -> dict[str, int]:
    found = {}
    for process in [psutil.Process(coordinator), *psutil.Process(coordinator).children()]:
        try:
            words = process.cmdline()
            name = words[-2].partition("/")[2] if "streamcore.node" in words else "guardian" if "-I" in words else "coordinator"
            found[name] = process.memory_info().rss // 1024
        except psutil.NoSuchProcess:
            continue
    return found


def shmem_kib() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Shmem:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=2_000_000)
    args = parser.parse_args()

    rss, _ = watch(spec_of("bench_nodes:Small", {"count": args.packets}), every_s=1.0)
    running = [row for row in rss if "source" in row and "sink" in row][1:]
    print(f"{args.packets} small packets; RSS in KiB per second of the run")
    for name in running[0]:
        values = [row[name] for row in running if name in row]
        step = max(1, len(values) // 10)
        print(f"  {name:<12} {' '.join(str(value) for value in values[::step])}   growth {values[-1] - values[0]:+d}")

    height, width = SIZES["1080p"]
    _, shared = watch(spec_of("bench_nodes:Frames", {"height": height, "width": width, "count": 3000}), every_s=0.1)
    frame_kib = height * width * 3 / 1024
    print(f"3000 frames of 1080p flat out: at most {max(shared)} KiB of shared memory, {max(shared) / frame_kib:.1f} frames")


if __name__ == "__main__":
    main()
