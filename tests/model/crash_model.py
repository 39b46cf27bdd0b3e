"""Kills between any two stores: the real host, exchanges, edges and rings of several nodes under schedules and deaths that a seed draws.

Nothing but the network, the clock, the coordinator and the node code is made up. Every simulated process is a thread that runs only when
the scheduler lets it, so one seed gives one schedule. A kill destroys what a real one destroys: private memory, and what lay in the dead
process' sockets. What survives: rings, status pages, and the file of the witness.

    python tests/model/crash_model.py --seeds 20000          explore; prints the first violation with its seed, or the counts
    python tests/model/crash_model.py --seed 17 --trace      replay one schedule, step by step

Checked after every step: each frame that node code of a live process can see shows the bytes of its own packet. At the end: everything
accepted on a `block` edge has arrived, first occurrences in order, repeats flagged and within their bound; the books balance; every row
and slot is free; sources stand at their last position; nothing was refused or logged as a fault.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from crash_process import Violation
from crash_promises import check_end
from crash_world import World


def explore(seed: int, kills: int = 6, trace: bool = False) -> Counter[str]:
    """Run one schedule. Raises Violation, with the seed and the graph in its text."""
    world = World(seed, kills, trace)
    try:
        world.run()
        check_end(world)
    except Violation as violation:
        graph = world.graph
        raise Violation(f"seed {seed}: {violation}\n  {graph.shape}, {graph.policies}, {graph.completion}\n  {graph.nodes}") from None
    finally:
        world.close()
    return world.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--all", action="store_true", help="go on after a violation")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    began = time.monotonic()
    gc.disable()  # a collection at a chance moment would let go of packets at one
    for seed in [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds):
        try:
            counts += explore(seed, given.kills, given.trace)
        except Violation as violation:
            if not given.all:
                raise SystemExit(str(violation)) from None
            print(str(violation).split("\n")[0], flush=True)
            counts["violations"] += 1
        if seed % 50 == 0:
            gc.collect()
    print(f"{counts['violations']} violations in {time.monotonic() - began:.0f} s;", dict(counts))


if __name__ == "__main__":
    main()
