"""How long a scrape of /metrics takes: a real run of many nodes, each with packets. `python tests/scrape_speed.py [NODES]`; prints JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.request

import psutil
from boxes import Box, new_box, wait_until

SCRAPES = 30
QUIET_S = 10.0
RATE = 5  # packets per second through all nodes


def spec(nodes: int) -> str:
    lines = [
        "version: 2",
        "name: many",
        "http: 0",
        "nodes:",
        f"  - {{id: n0, plugin: synthetic.frames, config: {{payload: json, rate: {RATE}}}}}",
    ]
    lines += [f"  - {{id: n{number}, plugin: flow.forward}}" for number in range(1, nodes - 1)]
    lines += [f"  - {{id: n{nodes - 1}, plugin: debug.null}}", "edges:"]
    lines += [f"  - {{from: n{number}, to: n{number + 1}}}" for number in range(nodes - 1)]
    return "\n".join(lines) + "\n"


def measure(box: Box, nodes: int) -> dict[str, object]:
    coordinator = box.start("up", box.write_spec(spec(nodes)))
    seen = wait_until("the run to be up", lambda: (found := box.ps("many")) and found["state"] == "READY" and found, 300.0)
    process, times_ms, nbytes, lines = psutil.Process(coordinator.pid), [], 0, 0
    urllib.request.urlopen(f"{seen['http']}/metrics").read()
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(QUIET_S)
    used = process.cpu_times()
    of_its_own = (used.user + used.system - before.user - before.system) / (time.perf_counter() - began)
    began_all = time.perf_counter()
    for _ in range(SCRAPES):
        time.sleep(0.2)  # as one who scrapes: the last snapshot is not fresh any more
        began = time.perf_counter()
        body = urllib.request.urlopen(f"{seen['http']}/metrics").read()
        times_ms.append(1e3 * (time.perf_counter() - began))
        nbytes, lines = len(body), body.count(b"\n")
    after = process.cpu_times()
    of_scrapes = after.user + after.system - used.user - used.system - of_its_own * (time.perf_counter() - began_all)
    box.run("down", "many", "--now")
    return {
        "nodes": nodes,
        "lines": lines,
        "bytes": nbytes,
        "scrape_ms": {"median": round(statistics.median(times_ms), 1), "max": round(max(times_ms), 1)},
        "cpu_ms_per_scrape": round(1e3 * of_scrapes / SCRAPES, 1),
        "cpu_share_without": round(of_its_own, 3),
        "load": psutil.getloadavg()[0],
    }


if __name__ == "__main__":
    with new_box() as box:
        print(json.dumps(measure(box, int(sys.argv[1]) if len(sys.argv) > 1 else 100)))
