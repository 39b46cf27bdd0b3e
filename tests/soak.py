"""Many packets through runs that are watched from outside: tools/soak. Memory, descriptors, threads and shared memory must stay flat.

Three graphs, one after the other: small JSON packets from source to sink, small ones by way of a forwarding node, and frames, source →
forward → crop → sink. Every process is looked at once a second. Of each number the median of the tenth after the warm-up is held against
that of the last tenth: private memory, for resident memory holds what a process has touched of the rings as well. Those may only take what
is planned for them. The sink knows which packet comes next, so a lost, repeated or overtaken one is counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from boxes import Box, new_box
from fault_kit import FOLDER, Broken, Run

EVERY_S = 1.0
WARM_UP_SHARE = 0.1  # of the samples: pages, caches and the interpreter's free lists fill
PRIVATE_GROWTH_KIB_MAX = 1024  # from the first tenth to the last: what the C library's arenas do
SHARES = {"small": 0.84, "relay": 0.15, "frames": 0.01}  # of all packets, so that each takes some minutes
DEPTH = 256  # of edges for small packets
WIDTH, HEIGHT = 640, 480
Row = dict[str, int]


def graph(kind: str, packets: int) -> dict[str, Any]:
    """The spec of one of SHARES."""
    small = {"payload": "json", "bytes": 64, "count": packets, "burst": 16}
    frames = {"width": WIDTH, "height": HEIGHT, "fill": "touch", "count": packets}
    names = {"small": ["source", "sink"], "relay": ["source", "forward", "sink"], "frames": ["source", "forward", "crop", "sink"]}[kind]
    plugins = {"source": "synthetic.frames", "forward": "flow.forward", "crop": "vision.crop", "sink": "fault_nodes:Count"}
    configs: dict[str, Any] = {"source": frames if kind == "frames" else small, "crop": {"width": WIDTH // 2, "height": HEIGHT // 2}}
    nodes = [{"id": name, "plugin": plugins[name], "config": configs.get(name, {})} for name in names]
    edges = [{"from": a, "to": b, **({} if kind == "frames" else {"depth": DEPTH})} for a, b in itertools.pairwise(names)]
    return {"version": 2, "name": "soak", "allow": ["fault_nodes"], "nodes": nodes, "edges": edges}


def look(coordinator: int) -> Iterator[tuple[str, Row]]:
    """(name, numbers) of the coordinator and each node's process."""
    parent = psutil.Process(coordinator)
    for process in [parent, *parent.children()]:
        try:
            with process.oneshot():
                words = [word for word in process.cmdline() if word]  # what a forked node's command line does not need is empty
                name = "coordinator" if process.pid == coordinator else words[-2].partition("/")[2] if "streamcore.node" in words else ""
                if name:
                    memory = process.memory_info()
                    numbers = {"descriptors": process.num_fds(), "threads": process.num_threads()}
                    yield name, {"private_kib": (memory.rss - memory.shared) >> 10, "rss_kib": memory.rss >> 10, **numbers}
        except psutil.NoSuchProcess:
            continue


def shared_kib(coordinator: int) -> int:
    """What the run's memory files occupy: the coordinator holds them all."""
    total = 0
    for link in Path(f"/proc/{coordinator}/fd").iterdir():
        try:
            if "memfd:streamcore:" in os.readlink(link):
                total += os.stat(link).st_blocks // 2
        except OSError:
            continue
    return total


def planned_kib(run: Run, frame_bytes: int) -> int:
    """The most that its rings may occupy: each table, each room for metadata, and each slot with a frame in it."""
    rings = run.ask("info")["plan"]["rings"]
    page = 4096
    frame = -(-frame_bytes // page) * page if frame_bytes else 0
    return sum(2 * page + ring["entry_count"] * (64 + ring["meta_bytes"]) + ring["slot_count"] * frame for ring in rings) >> 10


class Watch:
    """The numbers of one run, second by second."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.shared: list[int] = []
        self.counted: list[tuple[float, int]] = []

    def sample(self, run: Run) -> None:
        rows = run.nodes()
        if not rows or any(row["state"] != "READY" for row in rows.values()):
            return  # it starts, or comes to its end
        for name, row in look(run.process.pid):
            self.rows.setdefault(name, []).append(row)
        self.shared.append(shared_kib(run.process.pid))
        self.counted.append((time.monotonic(), int(rows["sink"]["metrics"].get("counted", 0))))

    def growth(self) -> dict[str, dict[str, list[int]]]:
        """By process and number: [after the warm-up, at the end, most]."""
        found: dict[str, dict[str, list[int]]] = {
            name: {key: _ends([row[key] for row in rows]) for key in rows[0]} for name, rows in self.rows.items()
        }
        return found | {"all rings": {"shared_kib": _ends(self.shared)}}

    def rate(self) -> float:
        (began, first), (ended, last) = self.counted[0], self.counted[-1]
        return (last - first) / (ended - began)


def _ends(values: list[int]) -> list[int]:
    rest = values[int(len(values) * WARM_UP_SHARE) :]
    tenth = max(1, len(rest) // 10)
    return [round(statistics.median(rest[:tenth])), round(statistics.median(rest[-tenth:])), max(rest)]


def soak(box: Box, kind: str, packets: int) -> dict[str, Any]:
    """Raises Broken if the run does not end well or a packet is not where it belongs."""
    run, watch, began = Run(box, "soak", json.dumps(graph(kind, packets)), 0), Watch(), time.monotonic()
    run.wait_up()
    most_kib = planned_kib(run, WIDTH * HEIGHT * 3 if kind == "frames" else 0)
    while run.process.poll() is None:
        time.sleep(EVERY_S)
        watch.sample(run)
        if sys.stderr.isatty() and watch.counted:
            print(f"\r{kind}: {time.monotonic() - began:6.0f} s  {watch.counted[-1][1]:,} of {packets:,} packets ", end="", file=sys.stderr)
    report = run.end(how="end of stream")
    metrics = report["metrics"]
    if metrics["node.sink.metric.counted"] != packets or metrics["node.sink.metric.wrong"]:
        raise Broken(f"{kind}: {metrics['node.sink.metric.counted']} of {packets} packets, {metrics['node.sink.metric.wrong']} out of turn")
    if len(watch.shared) < 10:
        raise Broken(f"{kind}: {len(watch.shared)} looks are too few to say anything; more --packets")
    return {
        "graph": kind,
        "packets": packets,
        "seconds": round(time.monotonic() - began, 1),
        "packets_per_s": round(watch.rate()),
        "looks": len(watch.shared),
        "planned_kib": most_kib,
        "growth": watch.growth(),
    }


def not_flat(found: dict[str, Any]) -> list[str]:
    allowed = {"private_kib": PRIVATE_GROWTH_KIB_MAX, "descriptors": 0, "threads": 0}
    wrong = [
        f"{found['graph']}: {name}: {key} grew from {numbers[key][0]} to {numbers[key][1]}, at most {most} is flat"
        for name, numbers in found["growth"].items()
        if name != "all rings"
        for key, most in allowed.items()
        if numbers[key][1] - numbers[key][0] > most
    ]
    occupied = found["growth"]["all rings"]["shared_kib"][2]
    if occupied > found["planned_kib"]:
        wrong.append(f"{found['graph']}: the rings occupied {occupied} KiB, {found['planned_kib']} are planned")
    return wrong


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['graph']}: {found['packets']:,} packets in {found['seconds']:.0f} s, {found['packets_per_s']:,}/s, {found['looks']} looks"
    )
    for name, numbers in found["growth"].items():
        print(f"  {name:<12} " + "   ".join(f"{key} {first:,} to {last:,}, most {most:,}" for key, (first, last, most) in numbers.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=20_000_000, help="of all graphs together (default: %(default)s)")
    parser.add_argument("--graph", choices=SHARES, action="append", help="only this one; may be given more than once (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers into this file")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    try:
        for kind in given.graph or SHARES:
            with new_box() as box:
                box.env["PYTHONPATH"] = str(FOLDER)
                found.append(soak(box, kind, round(given.packets * SHARES[kind])))
                show(found[-1])
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    except Broken as broken:
        print(broken)
        return 1
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2) + "\n")
    wrong = [line for each in found for line in not_flat(each)]
    print("\n".join(wrong) or "flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
