"""One hop, process to process: `python bench/hop.py [--size 1080p] [--repeat 5]`. Prints medians, spread, and ratios within this run.

Cases: frames flat out against a memcpy loop measured between the runs; small JSON packets; a chain of 3 forwarding nodes against one
hop; CPU of source and sink at 60 frames per second.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

from graphs import SIZES, memcpy_rate, rate_of, run, spec_of


def frames(size: str, count: int, rate: float = 0.0, forwards: int = 0) -> dict[str, float]:
    height, width = SIZES[size]
    return run(spec_of("bench_nodes:Frames", {"height": height, "width": width, "count": count, "rate": rate}, forwards))


def small(count: int, nbytes: int, depth: int | None) -> dict[str, float]:
    return run(spec_of("bench_nodes:Small", {"count": count, "nbytes": nbytes}, depth=depth))


def alternating(repeat: int, cases: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Every case once, then all again: what else the machine does falls on all of them."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeat):
        for name, case in cases.items():
            found[name].append(case())
    return found


def line(name: str, values: list[float], unit: str, note: str = "") -> None:
    middle = statistics.median(values)
    print(f"{name:<34}{middle:>12,.4g} {unit:<10} {min(values):,.4g} .. {max(values):,.4g}   {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="1080p")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--packets", type=int, default=300_000)
    parser.add_argument("--nbytes", type=int, default=64, help="size of a small packet")
    parser.add_argument("--depth", type=int, help="of the edge with small packets; the default of the spec if not given")
    args = parser.parse_args()
    height, width = SIZES[args.size]

    flat = alternating(
        args.repeat,
        {
            "memcpy": lambda: memcpy_rate(height, width),
            "hop": lambda: rate_of(frames(args.size, args.frames)),
            "chain": lambda: rate_of(frames(args.size, args.frames, forwards=3)),
            "small": lambda: rate_of(small(args.packets, args.nbytes, args.depth)),
        },
    )
    hop, copy = statistics.median(flat["hop"]), statistics.median(flat["memcpy"])
    print(f"{'':<34}{'median':>12} {'':<10} spread of {args.repeat}")
    line(f"memcpy loop, {args.size}", flat["memcpy"], "frames/s")
    line(f"one hop, {args.size}, flat out", flat["hop"], "frames/s", f"{hop / copy:.2f} of memcpy")
    line("3 forwarding nodes", flat["chain"], "frames/s", f"{statistics.median(flat['chain']) / hop:.2f} of one hop")
    line(f"one hop, {args.nbytes} byte JSON", flat["small"], "packets/s")

    def cpu_ms() -> float:
        found = frames(args.size, 600, rate=60.0)
        return 1000 * (found["node.source.metric.cpu_s"] + found["node.sink.metric.cpu_s"]) / found["node.sink.metric.measured"]

    line("CPU at 60/s, source plus sink", [cpu_ms() for _ in range(args.repeat)], "ms/frame")


if __name__ == "__main__":
    main()
