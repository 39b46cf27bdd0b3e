"""Our side of every case in which packets flow: the graph of a job, its run through `streamctl up`, and what came of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streamcore_bench.programs import Failed, Stop, folder, run_streamctl
from streamcore_bench.shared_work import LARGE_BYTES, Job, result_of

SMALL_BELOW_BYTES = 4096  # what an author would send as bytes; from here on a loan
NODES = "streamcore_bench.flow_nodes"
CHAIN_PACKETS = 1024  # under way in a whole chain: more would take longer to fill than a measurement lasts


@dataclass(frozen=True)
class Flow:
    """One job of the peers' contract (see docs/benchmarks.md) without its count.

    `hops` nodes forward between source and sink. Only ours: `sources` beyond one, `copies` instead of references, `loan` against what the
    size says.
    """

    nbytes: int
    rate: float = 0.0
    receivers: int = 1
    hops: int = 0
    sources: int = 1
    copies: bool = False
    loan: bool | None = None

    @property
    def warmup(self) -> int:
        """Packets before the measured part: at least one through every slot, whose first touch costs eight copies."""
        if self.nbytes >= LARGE_BYTES:
            return 30 + 12 * self.hops
        return 100 if self.rate else max(600, self.under_way)

    @property
    def depth(self) -> int:
        """Of every edge: that of the peers' queues, less in long chains."""
        return min(Job(nbytes=self.nbytes, count=1).depth, CHAIN_PACKETS // (self.hops + 1))

    @property
    def under_way(self) -> int:
        """Packets in the whole graph when every edge is full."""
        return self.depth * (self.hops + 1)

    @property
    def loans(self) -> bool:
        return self.nbytes >= SMALL_BELOW_BYTES if self.loan is None else self.loan

    def job(self, count: int, timeout_s: float) -> dict[str, Any]:
        """As the peers' programs take it: they refuse what they do not know."""
        job = {
            "case": "flow",
            "nbytes": self.nbytes,
            "count": count,
            "warmup": self.warmup,
            "rate": self.rate,
            "receivers": self.receivers,
            "hops": self.hops,
            "timeout_s": timeout_s,
        }
        more = {"sources": self.sources if self.sources > 1 else None, "loan": self.loan, "copies": self.copies or None}
        return job | {name: value for name, value in more.items() if value is not None}


def spec_of(flow: Flow, count: int, place: Path) -> dict[str, Any]:
    """Sources -> a chain of `hops` nodes -> sinks. Every edge blocks and is as deep as the queues of the peers."""
    job = {"nbytes": flow.nbytes, "count": count, "warmup": flow.warmup, "rate": flow.rate, "receivers": flow.receivers, "hops": flow.hops}
    config = {"job": job, "folder": str(place)}
    sources = [f"source{i}" for i in range(flow.sources)]
    hops, sinks = [f"hop{i}" for i in range(flow.hops)], [f"sink{i}" for i in range(flow.receivers)]
    plugin = {"source": "Frames" if flow.loans else "Small", "hop": "Copy" if flow.copies else "Forward"}
    plugin["sink"] = "TouchMany" if flow.sources > 1 else "Touch"
    nodes: list[dict[str, Any]] = []
    for name in (*sources, *hops, *sinks):
        role = name.rstrip("0123456789")
        node: dict[str, Any] = {"id": name, "plugin": f"{NODES}:{plugin[role]}"}
        nodes.append(node | ({} if role == "hop" else {"config": config}))
    for node in nodes[: len(sources) + len(hops)]:
        node["ring"] = {"slot_bytes": max(flow.nbytes, 4096)}
    into = hops[0] if hops else None
    pairs = [(name, into) for name in sources] if into else []
    pairs += list(itertools.pairwise(hops))
    pairs += [(name, sink) for name in (hops[-1:] or sources) for sink in sinks]
    edges = [{"from": one, "to": other, "depth": flow.depth} for one, other in pairs]
    return {"version": 2, "name": "bench", "allow": ["streamcore_bench"], "nodes": nodes, "edges": edges}


def run(stop: Stop, flow: Flow, count: int, timeout_s: float = 120.0) -> dict[str, Any]:
    """The result of a job, in the form that the peers give it."""
    with folder() as place:
        path = place / "bench.yaml"
        path.write_text(json.dumps(spec_of(flow, count, place)))
        program = run_streamctl(stop, place, "up", str(path), timeout_s=timeout_s)
        try:
            return result(place, flow)
        except ValueError as error:  # a sink that never saw its last packet
            raise Failed(f"{error}\n{program.tail()}") from None


def result(place: Path, flow: Flow) -> dict[str, Any]:
    begins = [json.loads(path.read_text())["cpu_s"] for path in sorted(place.glob("*.begin"))]
    ends = {path: json.loads(path.read_text()) for path in sorted(place.glob("*.end"))}
    if len(ends) != flow.receivers * flow.sources:
        raise ValueError(f"found {len(ends)} sinks that had seen everything, expected {flow.receivers * flow.sources}")
    begin_s = {pid: min(one[pid] for one in begins if pid in one) for pid in begins[0]}
    # A sink's clock is what it says itself: later it has written its report, or ended. Of the others, the most that anybody saw.
    cpu_s = 0.0
    for pid, began in begin_s.items():
        own = [end for end in ends.values() if str(end["pid"]) == pid]
        cpu_s += max(max(end["cpu_s"].get(pid, 0.0) for end in own or ends.values()) - began, 0.0)
    reports = [end["report"] | {"latencies_ns": path.with_suffix(".latencies").read_bytes()} for path, end in ends.items()]
    desk = SimpleNamespace(
        reports=reports,
        cpu_s=cpu_s,
        uss_mib=max(end["uss_mib"] for end in ends.values()),
        threads=max(end["threads"] for end in ends.values()),
    )
    found: dict[str, Any] = result_of(desk)
    if flow.sources > 1:  # all that arrived, from the first of any source to the last
        packets = sum(one["measured"] for one in reports)
        span_ns = max(one["last_ns"] for one in reports) - min(one["first_ns"] for one in reports)
        found |= {"measured": packets, "rate": (packets - 1) / max(span_ns / 1e9, 1e-9)}
    return found


def measures(found: dict[str, Any]) -> dict[str, float]:
    """What is shown of a result, ours or a peer's. Raises Failed if a packet had the wrong content."""
    if found["wrong"]:
        raise Failed(f"{found['wrong']} packets had the wrong content or came out of order")
    shown = {name: float(found[name]) for name in ("rate", "p50_us", "p99_us", "uss_mib", "threads")}
    packets = max(found["measured"], 1)
    shown |= {"cpu_us": 1e6 * found["cpu_s"] / packets, "cpu_per_1000_s": 1000 * found["cpu_s"] / packets, "lost": float(found["lost"])}
    return shown
