"""The metrics of a run as text for Prometheus (exposition format 0.0.4), from its rows. Pure.

Written here line by line: a run of 100 nodes has 11,000 lines, for which prometheus-client needs ten times as long, and a tenth of a second
to be imported. Its parser reads them back in the tests. Durations are put together into the few buckets of
BOUNDS. A fine bucket counts where its upper end lies: a `le` never counts a duration that is longer, and misses at most those of the one
fine bucket in which the bound lies, which is 6.3 % wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import msgspec

from streamcore import __version__
from streamcore.shm.distribution import Distribution
from streamcore.shm.histogram import BUCKETS, lower_ns
from streamcore.telemetry import names
from streamcore.telemetry.names import HISTOGRAM, NANO, Metric
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# 1, 2.5 and 5 of each decade from 10 us to 100 s: (what `le` says, nanoseconds).
BOUNDS = tuple((f"{digit * 10.0**power:.6g}", round(digit * 10 ** (power + 9))) for power in range(-5, 2) for digit in (1, 2.5, 5))
BOUNDS += (("100", 100 * 10**9),)
_READY = ("READY", "DRAINING", "DONE")


def _bound_of(bucket: int) -> int:
    """The first of BOUNDS that no duration of a fine bucket exceeds; len(BOUNDS): none."""
    if bucket == BUCKETS - 1:  # and everything above it
        return len(BOUNDS)
    return next((index for index, (_, bound_ns) in enumerate(BOUNDS) if lower_ns(bucket + 1) <= bound_ns), len(BOUNDS))


_BOUND_OF = tuple(_bound_of(bucket) for bucket in range(BUCKETS))
_HERE = "\0"  # where the labels of a row go
_LE = (*(text for text, _ in BOUNDS), "+Inf")


class Run(msgspec.Struct, frozen=True):
    """What the labels say of the run, and its times: since 1970, and since its start."""

    graph: str
    name: str
    graph_version: str
    started_s: float
    uptime_s: float


class Vitals(msgspec.Struct, frozen=True):
    """Of the process of a node, as the kernel counts it; what could not be read is None."""

    cpu_s: float | None = None
    started_s: float | None = None
    rss_bytes: int | None = None
    fds: int | None = None
    threads: int | None = None
    context_switches: int | None = None


def exposition(run: Run, taken: Snapshot, processes: Mapping[str, Vitals]) -> str:
    """`taken` with distributions; `processes` by node, those that could be looked at."""
    lines: list[str] = []
    of_run = f'graph="{_escaped(run.graph)}",run="{_escaped(run.name)}"'
    of_node = {row.id: f'{of_run},node="{_escaped(row.id)}"' for row in taken.nodes}
    of_edge = [
        f'{of_run},edge="{_escaped(row.name)}",from_node="{row.from_node}",to_node="{row.to_node}",policy="{row.policy}"'
        for row in taken.edges
    ]
    nodes = [(of_node[row.id], row) for row in taken.nodes]
    edges = list(zip(of_edge, taken.edges, strict=True))
    vitals = [(of_node[row.id], processes[row.id]) for row in taken.nodes if row.id in processes]
    published = {of: [(labels, row.metrics) for labels, row in nodes if names.PUBLISHED.get(row.plugin) == of] for of in names.OF_PLUGINS}
    plain: dict[str, Any] = {names.NODE: nodes, names.EDGE: edges, names.PROCESS: vitals}
    for metric in names.METRICS:
        if metric.of == names.RUN:
            found: Iterable[str] = _of_run(metric, run, of_run)
        elif metric.kind == HISTOGRAM:
            found = _histograms(metric, nodes if metric.of == names.NODE else edges)
        elif metric.of in published:
            found = _published(metric, published[metric.of])
        else:
            found = _plain(metric, plain[metric.of])
        _family(lines, metric, found)
    _family(lines, names.OTHER, _others(nodes))
    lines.append("")
    return "\n".join(lines)


def _family(lines: list[str], metric: Metric, found: Iterable[str]) -> None:
    """One without a value is left out."""
    first = len(lines)
    lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
    lines += found
    if len(lines) == first + 2:
        del lines[first:]


def _of_run(metric: Metric, run: Run, labels: str) -> Iterator[str]:
    if metric.name == names.RUN_INFO:
        yield f'{metric.name}{{{labels},version="{__version__}",graph_version="{_escaped(run.graph_version)}"}} 1'
    else:
        yield f"{metric.name}{{{labels}}} {number(getattr(run, metric.field))}"


def _plain(metric: Metric, rows: Iterable[tuple[str, Any]]) -> Iterator[str]:
    name, read, scale = metric.name, _READ.get(metric.name) or _field(metric.field), metric.scale
    for labels, row in rows:
        value = read(row)
        if value is None:
            continue
        if scale == NANO:
            yield f"{name}{{{labels}}} {_seconds(value)}"
        else:
            yield f"{name}{{{labels}}} {value + 0}"  # True and False are numbers


def _field(name: str) -> Callable[[Any], Any]:
    return lambda row: getattr(row, name)


_READ: dict[str, Callable[[Any], Any]] = {
    names.NODE_UP: lambda row: row.pid is not None,
    names.NODE_READY: lambda row: row.state in _READY,
}


def _histograms(metric: Metric, rows: Iterable[tuple[str, NodeRow | EdgeRow]]) -> Iterator[str]:
    name, field = metric.name, metric.field
    lines = [f'{name}_bucket{{{_HERE},le="{le}"}} %d' for le in _LE]
    block = "\n".join((*lines, f"{name}_sum{{{_HERE}}} %s", f"{name}_count{{{_HERE}}} %d"))
    for labels, row in rows:
        found: Distribution = getattr(row, field)
        counts = cumulative(found)
        yield (block % (*counts, _seconds(found.sum_ns), counts[-1])).replace(_HERE, labels)


def cumulative(found: Distribution) -> list[int]:
    """How many durations lie at or below each of BOUNDS, and at last how many there are."""
    counts = [0] * len(_LE)
    for bucket, count in found.buckets:
        counts[_BOUND_OF[bucket]] += count
    return list(accumulate(counts))


def _published(metric: Metric, rows: Iterable[tuple[str, Mapping[str, float]]]) -> Iterator[str]:
    for labels, values in rows:
        value = values.get(metric.field)
        if value is not None:  # the node has not come so far, or its page is that of another version
            yield f"{metric.name}{{{labels}}} {number(value * metric.scale)}"


def _others(nodes: Iterable[tuple[str, NodeRow]]) -> Iterator[str]:
    for labels, row in nodes:
        named = names.fields_of(names.PUBLISHED.get(row.plugin, ""))
        for name, value in row.metrics.items():
            if name not in named:
                yield f'{names.OTHER.name}{{{labels},name="{_escaped(name)}"}} {number(value)}'


def _seconds(ns: int) -> str:
    """Exact: a float would lose the last digits of a sum after some months."""
    whole, rest = divmod(ns, 1_000_000_000)
    return f"{whole}.{rest:09d}"


def number(value: float) -> str:
    """As Prometheus writes it; what a plugin publishes may be no finite number."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
