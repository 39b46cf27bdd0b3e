"""From kill -9 of a node to the first packet through its successor: `python bench/restart.py [--kills 30]`. Prints median and spread.

The node imports numpy only. The time holds the whole way: the kernel reaps, the coordinator waits the first backoff (50 to 100 ms by
default) and starts an interpreter, it imports, adopts its rings and is sent again what its predecessor had not completed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from graphs import HERE, spec_of

DEADLINE_S = 30.0
LOOK_S = 0.002
RATE = 200.0  # packets per second
PAUSE_S = 1.0  # between two kills, so that each finds a graph at work
VICTIMS = {"sink": "sink", "middle": "forward0", "source": "source"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="of each node")
    args = parser.parse_args()
    for what, node in VICTIMS.items():
        times_ms = [1000 * value for value in measure(node, args.kills)]
        middle, late = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
        print(
            f"{what:<8} median {middle:6.0f} ms   95 % {late:6.0f} ms   {min(times_ms):.0f} .. {max(times_ms):.0f}   {len(times_ms)} kills",
            flush=True,
        )


def measure(node: str, kills: int) -> list[float]:
    spec = spec_of("bench_nodes:Frames", {"height": 480, "width": 640, "count": 10**9, "rate": RATE}, forwards=1)
    for entry in spec["nodes"]:
        entry["restart"] = {"max_restarts": 10_000, "window_s": 1, "backoff_s": 0.1}
    with tempfile.TemporaryDirectory(prefix="sb-") as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(json.dumps(spec))
        os.environ["XDG_RUNTIME_DIR"], os.environ["PYTHONPATH"] = folder, os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        run = subprocess.Popen([sys.executable, "-m", "streamcore", "up", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _kill_and_wait(node, kills)
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(DEADLINE_S)


def _kill_and_wait(node: str, kills: int) -> list[float]:
    from streamcore.control import client
    from streamcore.errors import RunError

    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            connected = client.connect("bench")
            break
        except RunError:
            if time.monotonic() > end:
                raise
            time.sleep(LOOK_S)
    found = []
    with connected:
        for _ in range(kills):
            time.sleep(PAUSE_S)
            before = _until(connected, node, 0, 0)
            os.kill(before["pid"], signal.SIGKILL)
            began = time.perf_counter()
            _until(connected, node, before["incarnation"] + 1, 1)
            found.append(time.perf_counter() - began)
    return found


def _until(connected: Any, node: str, incarnation: int, packets: int) -> dict[str, Any]:
    """Ask until that incarnation of the node, or a later one, has handled so many packets."""
    end, first = time.monotonic() + DEADLINE_S, None
    while time.monotonic() < end:
        row: dict[str, Any] = next(row for row in connected.request("stats")["nodes"] if row["id"] == node)
        count = row["consumed"] + row["emitted"]
        if row["pid"] is not None and row["state"] == "READY" and row["incarnation"] >= incarnation:
            first = count if first is None else first
            if count >= first + packets:
                return row
        time.sleep(LOOK_S)
    raise TimeoutError(f"node {node}: found {row}, expected incarnation {incarnation} at work within {DEADLINE_S:g} s")


if __name__ == "__main__":
    main()
