"""How fast a recorder is, next to a plain file that is appended to and synced as often: `tools/durable recording` prints JSON lines.

Both write the same sizes in the same groups to the same disk, in turns. `node` is a whole run: a source that makes packets as fast as they
are taken, and durable.record with a depth and a batch that fit their size; the time is that of the records' own stamps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from streamcore.durable.record import Entry, Head
from streamcore.durable.recorder import Recorder
from streamcore.durable.recording import Recording

FRAME = (1080, 1920, 3)
CASES = ((1024, 1, 400), (1024, 16, 8_000), (1024, 64, 32_000), (1024, 256, 64_000), (FRAME[0] * FRAME[1] * FRAME[2], 1, 120))
SPEC = """
version: 2
name: recording-speed
nodes:
  - {{id: source, plugin: synthetic.frames, config: {config}}}
  - {{id: recorder, plugin: durable.record, config: {{path: rec, segment_bytes: {segment}, batch: {batch}}}}}
edges:
  - {{from: source, to: recorder, depth: {depth}}}
"""
RUNS = {
    "1 KiB JSON": ("{payload: json, bytes: 1024, count: 60000, burst: 64}", "64MiB", 128, 128),
    "1080p raw frames": ("{count: 300}", "512MiB", 8, 32),
}


def plain(folder: Path, nbytes: int, group: int, count: int) -> float:
    """Writes per second, each of one record, synced once a group."""
    part = [memoryview(np.random.default_rng(1).bytes(nbytes))] * group
    fd = os.open(folder / "plain", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    began = time.perf_counter()
    for number in range(0, count, group):
        os.pwritev(fd, part, number * nbytes)
        os.fdatasync(fd)
    took_s = time.perf_counter() - began
    os.close(fd)
    (folder / "plain").unlink()
    return count / took_s


def recorder(folder: Path, nbytes: int, group: int, count: int) -> float:
    payload = memoryview(np.random.default_rng(1).bytes(nbytes))
    head = Head("event", "source", "bytes", "source.out", {"frame": 1}, 1)
    with Recorder(folder / "rec", Recorder.Options(max_bytes=8 << 30)) as made:
        began = time.perf_counter()
        for number in range(0, count, group):
            made.append([Entry(n.to_bytes(16, "big"), n, head, payload) for n in range(number, number + group)])
        took_s = time.perf_counter() - began
    shutil.rmtree(folder / "rec")
    return count / took_s


def node(folder: Path, config: str, segment: str, depth: int, batch: int) -> float:
    (folder / "spec.yaml").write_text(SPEC.format(config=config, segment=segment, depth=depth, batch=batch))
    subprocess.run([sys.executable, "-m", "streamcore", "up", "spec.yaml"], cwd=folder, check=True, capture_output=True, timeout=600)
    times = [record.stored_ns for record in Recording(folder / "rec").read(payloads=False)]
    shutil.rmtree(folder / "rec")
    return len(times) / ((times[-1] - times[0]) / 1e9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is printed (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="on which disk (default: the one for temporary files)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sc-speed-", dir=given.folder))
    try:
        for case in CASES:
            pairs = [(plain(folder, *case), recorder(folder, *case)) for _ in range(given.rounds)]
            file, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(mine / other for other, mine in pairs)
            facts = {
                "bytes": case[0],
                "group": case[1],
                "plain_per_s": round(file),
                "recorder_per_s": round(ours),
                "ratio": round(ratio, 2),
            }
            sys.stdout.write(json.dumps(facts) + "\n")
        for name, run in RUNS.items():
            rates = [node(folder, *run) for _ in range(given.rounds)]
            sys.stdout.write(json.dumps({"node": name, "per_s": round(statistics.median(rates))}) + "\n")
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
