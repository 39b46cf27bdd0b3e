"""Flame graphs of our side of a point, one per process: `tools/profile CASE [POINT]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from streamcore_bench.cases import CASES
from streamcore_bench.environments import Environment
from streamcore_bench.flows import Flow, spec_of
from streamcore_bench.lives import nodes_of
from streamcore_bench.points import Options
from streamcore_bench.programs import Failed, Program, Stop, Stopped, folder, streamctl

PY_SPY = Environment("py-spy", "py-spy==0.4.1\n")
ENDLESS = 10**9
READY_S = 60.0
NOTHING = "No stack counts found"
FORBIDDEN = """py-spy may not look at these processes. One of:
  run this as root;
  sudo sysctl kernel.yama.ptrace_scope=0;
  in a container: --cap-add SYS_PTRACE.
Or with perf and Python 3.12 or newer: PYTHONPERFSUPPORT=1 perf record -g streamctl up SPEC, then perf report."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/profile", description=__doc__)
    parser.add_argument("case", choices=[name for name in CASES if any(point.flow for point in CASES[name].points(Options()))])
    parser.add_argument("point", nargs="?", help="as `streamctl bench list --json` names it; the first one if not given")
    parser.add_argument("--seconds", type=int, default=8, help="how long to look (default: 8)")
    parser.add_argument("--out", default="profiles", help="folder for the graphs (default: profiles)")
    args = parser.parse_args(words)
    points = {point.name: point.flow for point in CASES[args.case].points(Options()) if point.flow}
    name = args.point or next(iter(points))
    if name not in points:
        parser.error(f"found {name!r}, expected one of: {'; '.join(points)}")
    with Stop() as stop:
        try:
            PY_SPY.make(stop, lambda text: print(text, file=sys.stderr))
            for path in record(stop, points[name], Path(args.out), f"{args.case} {name}", args.seconds):
                print(path)
        except Failed as error:
            print(f"tools/profile: {error}", file=sys.stderr)
            return 1
        except Stopped:
            return 128 + int(stop.signals[0])
    return 0


def record(stop: Stop, flow: Flow, out: Path, title: str, seconds: int) -> list[Path]:
    """Looks at every node and the coordinator at the same time, once the measured part has begun. Raises Failed."""
    out.mkdir(parents=True, exist_ok=True)
    with folder() as place:
        path = place / "bench.yaml"
        path.write_text(json.dumps(spec_of(flow, ENDLESS, place)))
        with streamctl(stop, place, "up", str(path)) as run:
            run.wait_for(place / "source0.begin", READY_S)
            processes = nodes_of(run) | {"coordinator": run.process.pid}
            graphs = {node: out / (re.sub(r"[^a-z0-9]+", "-", f"{title} {node}".lower()) + ".svg") for node in processes}
            watchers = []
            for node, pid in processes.items():
                (place / node).mkdir()
                words = (str(PY_SPY.path / "bin" / "py-spy"), "record", "--native", "--threads", "--rate", "200")
                command = [*words, "--duration", str(seconds), "--pid", str(pid), "--output", str(graphs[node].resolve())]
                watchers.append(Program(stop, command, place / node, {}))
            worked = _wait(watchers, seconds)
        for graph, worth in zip(graphs.values(), worked, strict=True):
            if not worth:
                graph.unlink(missing_ok=True)
        return [graph for graph, worth in zip(graphs.values(), worked, strict=True) if worth]


def _wait(watchers: list[Program], seconds: int) -> list[bool]:
    """Whether each has seen its process do anything: the coordinator of a healthy run sleeps."""
    found = []
    try:
        for watcher in watchers:
            status = watcher.wait(seconds + READY_S)
            text = watcher.tail()
            found.append(not status)
            if status and NOTHING not in text:
                denied = "permission" in text.lower() or "not permitted" in text.lower()
                raise Failed(FORBIDDEN if denied else f"py-spy ended with status {status}\n{text}")
    finally:
        for watcher in watchers:
            watcher.end()
    return found


if __name__ == "__main__":
    sys.exit(main())
