"""Storms of random faults on random graphs, for as long as asked: tools/faults.

Each case draws a graph (file, synthetic and JSON sources, nodes that forward, cut, turn, scale, copy, keep, batch, are slow or do harm to
themselves, fan-out, fan-in, every policy), runs it with `streamctl up`, kills, stops, pauses and restarts its nodes at random moments, ends
it by one of the ways to end a run, `kill -9` of the coordinator included, and checks: at each witness every packet once, or again with
`redelivered`, its hash right, order kept; dead letters are those that they should be; the account balances; nothing is left.

A case is known by seed and number. They give the same graph and the same plan of faults again; the moments are up to the box.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from boxes import Box, new_box
from storm_case import Outcome, Storm

KEPT_MAX = 20  # folders of broken cases


class Tally:
    """What all cases have done and found. Cases report from several threads."""

    def __init__(self, keep: Path, quiet: bool):
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.has: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.broken: list[Outcome] = []
        self.cases = 0
        self.interrupted = False
        self.boxes: set[Box] = set()  # of the cases that are being played
        self._keep, self._quiet, self._lock = keep, quiet, threading.Lock()
        self._began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            if self.interrupted:
                return
            self.cases += 1
            self.counts += outcome.counts
            self.ends[outcome.end] += 1
            self.has.update(outcome.has)
            for what, values in outcome.seconds.items():
                self.seconds[what] += values
            if outcome.broken:
                self.broken.append(outcome)
                _say(f"\ncase {outcome.case} ({outcome.shape}; {outcome.end}; {', '.join(outcome.has)}): {outcome.broken}")
                _say(f"  {outcome.folder}")
            if not self._quiet:
                kills = sum(value for name, value in self.counts.items() if name.startswith("SIGKILL"))
                line = f"{self.seconds_so_far():6.0f} s  {self.cases} cases  {kills} kills  {self.counts['packets verified']:,} packets"
                print(f"\r{line}  {len(self.broken)} broken ", end="", file=sys.stderr, flush=True)

    def interrupt(self) -> None:
        """End what is being played; it does not count."""
        self.interrupted = True
        for box in list(self.boxes):
            for process in box.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def seconds_so_far(self) -> float:
        return time.monotonic() - self._began

    def keep(self, folder: Path, case: str) -> str:
        """A broken case's folder, out of the way of its box, which is removed."""
        kept = self._keep / case.replace("/", "-")
        if len(self.broken) < KEPT_MAX:
            shutil.copytree(folder, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True, ignore=_sockets)
        return str(kept)

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "seconds": round(self.seconds_so_far(), 1),
            "broken": [{"case": each.case, "why": each.broken, "folder": each.folder} for each in self.broken],
            "counts": dict(sorted(self.counts.items())),
            "ends": dict(sorted(self.ends.items())),
            "graphs_with": dict(sorted(self.has.items())),
            "seconds_until": {what: _spread(values) for what, values in sorted(self.seconds.items())},
        }


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def _spread(values: list[float]) -> dict[str, float]:
    median, late = (round(float(value), 3) for value in np.quantile(values, (0.5, 0.99)))
    return {"times": len(values), "median": median, "p99": late, "most": max(values)}


def _say(text: str) -> None:
    print(text, flush=True)


def play(seed: str, tally: Tally) -> Outcome:
    with new_box() as box:
        tally.boxes.add(box)
        outcome = Storm(box, seed).play()
        if outcome.broken and not tally.interrupted:
            outcome.folder = tally.keep(box.folder, seed)
        tally.boxes.discard(box)
    tally.add(outcome)
    return outcome


def storm(given: argparse.Namespace, tally: Tally) -> None:
    """Cases until the time is over; those that have begun are played to their end."""
    numbers, lock, end = count(given.first), threading.Lock(), time.monotonic() + given.minutes * 60

    def work() -> None:
        if given.case is not None:
            play(f"{given.seed}/{given.case}", tally)
            return
        while time.monotonic() < end and not tally.interrupted and not (tally.broken and not given.go_on):
            with lock:
                number = next(numbers)
            play(f"{given.seed}/{number}", tally)

    jobs = 1 if given.case is not None else given.jobs
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in [pool.submit(work) for _ in range(jobs)]:
                done.result()
        except KeyboardInterrupt:
            tally.interrupt()


def report(tally: Tally) -> None:
    found = tally.as_json()
    _say(f"\n{found['cases']} cases in {found['seconds']:.0f} s, {len(tally.broken)} broken")
    for part in ("counts", "ends", "graphs_with"):
        _say(f"{part.replace('_', ' ')}:")
        for name, value in found[part].items():
            _say(f"  {value:>12,}  {name}")
    _say("seconds:")
    for name, row in found["seconds_until"].items():
        _say(f"  median {row['median']:7.3f}  99 % {row['p99']:7.3f}  most {row['most']:7.3f}  {row['times']:>6} times  {name}")
    for each in tally.broken:
        seed, _, case = each.case.partition("/")
        _say(f"broken: tools/faults --seed {seed} --case {case}   ({each.folder})\n  {each.broken.splitlines()[0][:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long new cases are begun (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all cases (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--case", type=int, help="play only this one")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (default: %(default)s)")
    parser.add_argument("--go-on", action="store_true", help="begin further cases after one that is broken")
    parser.add_argument("--json", metavar="FILE", help="write all counts into this file")
    parser.add_argument(
        "--keep", metavar="DIR", default="out/faults", help="for specs, logs and incidents of broken cases (default: %(default)s)"
    )
    given = parser.parse_args()
    tally = Tally(Path(given.keep).resolve(), quiet=not sys.stderr.isatty())
    storm(given, tally)
    report(tally)
    if given.json:
        Path(given.json).write_text(json.dumps(tally.as_json(), indent=2) + "\n")
    return 130 if tally.interrupted else 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
