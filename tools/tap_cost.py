"""What a tap costs the graph that it looks at: `.venv/bin/python tools/tap_cost.py`.

One run per case, in which windows with and without a tap take turns. Prints packets/s of both and their ratio, medians of the windows.
Nothing else should run on the box.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streamcore.control.client import Client, connect

NAME = "tap-cost"
FRAME = "width: 1920, height: 1080"
CASES = {  # config of the source, and what the taps are asked for
    "64 B flat out, lines": ("payload: json", ["--json"]),
    "1080p flat out, lines": (FRAME, ["--json"]),
    "1080p flat out, frames at 30/s": (FRAME, ["--record", "{folder}/{number}.mcap"]),
    "1080p flat out, every frame that it can copy": (FRAME, ["--every", "0", "--record", "{folder}/{number}.mcap"]),
    "1080p at 60/s, every frame": (f"{FRAME}, rate: 60", ["--every", "0", "--record", "{folder}/{number}.mcap"]),
}
SPEC = """
version: 2
name: {name}
nodes:
  - {{id: camera, plugin: synthetic.frames, config: {{fill: touch, {source}}}}}
  - {{id: sink, plugin: debug.null}}
edges:
  - {{from: camera, to: sink}}
"""


def measured(client: Client, window_s: float) -> float:
    """Packets per second that came to the sink."""
    counts = []
    for pause_s in (window_s, 0.0):
        rows = client.request("stats")["nodes"]
        counts.append((time.monotonic(), next(row["consumed"] for row in rows if row["id"] == "sink")))
        time.sleep(pause_s)
    (began, first), (ended, last) = counts
    return float((last - first) / (ended - began))


def case(source: str, tap: list[str], options: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(name=NAME, source=source))
    streamctl = [sys.executable, "-m", "streamcore"]
    subprocess.run([*streamctl, "up", str(spec), "--detach"], check=True, stdout=subprocess.DEVNULL)
    alone: list[float] = []
    tapped: list[float] = []
    try:
        with connect(NAME) as client:
            measured(client, options.window)
            for number in range(options.rounds):
                alone.append(measured(client, options.window))
                words = [word.format(folder=folder, number=number) for word in tap]
                process = subprocess.Popen(
                    [*streamctl, "tap", "camera", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
                )
                assert process.stdout is not None
                process.stdout.readline()
                sunk = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
                tapped.append(measured(client, options.window))
                process.terminate()
                process.wait()
                sunk.wait()
                process.stdout.close()
                for file in folder.glob("*.mcap*"):
                    file.unlink()
    finally:
        subprocess.run([*streamctl, "down", NAME, "--now"], check=False, stdout=subprocess.DEVNULL)
    return alone, tapped


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="windows of each kind per case (5)")
    parser.add_argument("--window", type=float, default=2.0, help="seconds of a window (2)")
    parser.add_argument("--case", help="only cases whose name has this in it")
    options = parser.parse_args()
    print(f"{'case':46} {'alone/s':>10} {'tapped/s':>10} {'ratio':>6}  spread alone")
    for name, (source, tap) in CASES.items():
        if options.case and options.case not in name:
            continue
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            alone, tapped = case(source, tap, options, Path(folder))
        ratio = statistics.median(with_tap / without for without, with_tap in zip(alone, tapped, strict=True))
        spread = f"{min(alone):,.0f} to {max(alone):,.0f}"
        print(f"{name:46} {statistics.median(alone):10,.0f} {statistics.median(tapped):10,.0f} {ratio:6.3f}  {spread}", flush=True)


if __name__ == "__main__":
    main()
