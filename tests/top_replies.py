"""Replies of the verb `stats` for tests of `top`, made with the real rows and windows of two moments."""

from __future__ import annotations

from typing import Any

import msgspec

from streamcore.shm.distribution import Distribution
from streamcore.shm.histogram import bucket_of
from streamcore.telemetry.history import between
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

MS = 1_000_000


def took(ns: int, count: int) -> Distribution:
    return Distribution(ns * count, ((bucket_of(ns), count),))


def node(node_id: str, role: str = "node", **fields: Any) -> NodeRow:
    return NodeRow(node_id, f"test.{role}", role, **{"pid": 41, "state": "READY", "incarnation": 1, **fields})


def edge(from_node: str, to_node: str, **fields: Any) -> EdgeRow:
    placed = {"policy": "block", "depth": 8, "window": 12, "credit": 8, **fields}
    return EdgeRow(f"{from_node}.out->{to_node}.in", from_node, to_node, **placed)


def reply(nodes: list[NodeRow], edges: list[EdgeRow], seconds: float | None = 10.0, **head: Any) -> dict[str, Any]:
    """All of it happened in the last `seconds`; None: the run is too young for a window."""
    now = Snapshot(tuple(nodes), tuple(edges))
    window = None if seconds is None else msgspec.to_builtins(between(Snapshot((), ()), now, seconds))
    found = {"run": "trial", "state": "READY", "uptime_s": 100.0, **head, **msgspec.to_builtins(now)}
    return {**found, "windows": dict.fromkeys(("1", "10", "60"), window)}


def slow_graph(**detector: Any) -> tuple[list[NodeRow], list[EdgeRow]]:
    """Of 10 s: a camera that is held back by a detector that works 40 ms for each packet."""
    busy = {"consumed": 250, "produced": 250, "work_ns": 10_000 * MS, "work": took(40 * MS, 250), **detector}
    nodes = [
        node("camera", "source", produced=250, emitted=250, work_ns=100 * MS, credit_wait_ns=9_800 * MS, pid=40),
        node("detector", **busy),
        node("sink", "sink", consumed=250, work_ns=10 * MS, wait_ns=9_900 * MS, pid=42, end_to_end=took(400 * MS, 250)),
    ]
    edges = [
        edge("camera", "detector", sent=260, taken=250, completed=250, in_flight=10, waiting=8, credit=0, wait=took(320 * MS, 250)),
        edge("detector", "sink", sent=250, taken=250, completed=250, policy="latest", depth=1, dropped=20),
    ]
    return nodes, edges
