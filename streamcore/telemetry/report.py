"""The run report: one JSON object that says how a run went. `metrics` is flat, string to number, for whoever draws or compares them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import msgspec

from streamcore import __version__
from streamcore.clock import iso_utc
from streamcore.graph.model import Plan
from streamcore.telemetry.account import AccountRow, account, lost, statement
from streamcore.telemetry.bottleneck import of_run
from streamcore.telemetry.history import quantiles
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot
from streamcore.whole_file import whole_file

OK, DEGRADED, ERROR = "ok", "degraded", "error"
EVENTS_MAX = 200  # the newest; a report is read by people as well
_LIBRARIES = ("numpy", "pyzmq", "msgspec")
_EDGE_METRICS = ("sent", "taken", "completed", "dropped", "failed", "in_flight", "redelivered", "bytes")
_NODE_METRICS = ("consumed", "produced", "emitted", "failed", "work_ns", "credit_wait_ns", "copied", "restarts")


@dataclass(frozen=True)
class Ending:
    """What only the coordinator knows of a run that has ended.

    `active_ns`: from when all nodes were ready, 0 if that never was. `failures`: one sentence per node that failed for good.
    `incidents`: node to the files that were written about it. `warnings`: what is wrong with its logs. `events`: the newest of
    telemetry/journal.py. `cores`: on which the nodes could run.
    """

    wall_ns: int
    duration_ns: int
    active_ns: int
    reason: str
    failures: tuple[str, ...] = ()
    incidents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    events: Sequence[Mapping[str, Any]] = ()
    cores: int = 1


def make_report(plan: Plan, snapshot: Snapshot, ending: Ending, timeline: dict[str, Any] | None = None) -> dict[str, Any]:
    """The report of an ended run, in the shape of report_shape.py. `timeline`: of timeline.py, if one was kept.

    status: error if a node failed for good; degraded if a packet failed in a node, or on an edge whose producer forgets it then, if the
    account does not balance, or if packets were under way when the last process ended; else ok. A drop that the edge's policy allows is
    no degradation, and is counted.
    """
    rows = account(snapshot.edges)
    held_back = of_run(snapshot, ending.active_ns, ending.cores)
    return {
        "ts": iso_utc(ending.wall_ns),
        "status": _status(snapshot, rows, ending),
        "engine": f"streamcore {__version__}",
        "versions": _versions(),
        "graph": plan.graph,
        "graph_version": plan.graph_version,
        "run": plan.run,
        "duration_s": round(ending.duration_ns / 1e9, 6),
        "ended": ending.reason,
        "failures": list(ending.failures),
        "warnings": list(ending.warnings),
        "metrics": _metrics(snapshot),
        "nodes": {row.id: _node(row) | {"incidents": list(ending.incidents.get(row.id, ()))} for row in snapshot.nodes},
        "edges": {row.name: _edge(row) for row in snapshot.edges},
        "account": _account(snapshot, rows),
        "bottleneck": held_back.sentence,
        "bottleneck_detail": msgspec.to_builtins(held_back),
        "events": list(ending.events),
        **({} if timeline is None else {"timeline": timeline}),
    }


def write_report(path: str, report: dict[str, Any]) -> None:
    """Write it whole or not at all: a reader never sees half a report. Raises OSError."""
    with whole_file(path) as file:
        file.write(_text(report, "") + b"\n")


def _text(value: Any, indent: str) -> bytes:
    """JSON to be read by people too: an object in lines, a list of numbers or texts in one."""
    inner = f"\n{indent}  ".encode()
    if isinstance(value, dict) and value:
        lines = (inner + msgspec.json.encode(key) + b": " + _text(item, indent + "  ") for key, item in value.items())
        return b"{" + b",".join(lines) + f"\n{indent}}}".encode()
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return b"[" + b",".join(inner + msgspec.json.encode(item) for item in value) + f"\n{indent}]".encode()
    return msgspec.json.encode(value)


def _status(snapshot: Snapshot, rows: tuple[AccountRow, ...], ending: Ending) -> str:
    if ending.failures:
        return ERROR
    failed = any(row.failed for row in snapshot.nodes) or any(row.failed_for_good for row in snapshot.edges)
    return DEGRADED if failed or lost(rows) or not all(row.balanced for row in rows) else OK


def _account(snapshot: Snapshot, rows: tuple[AccountRow, ...]) -> dict[str, Any]:
    """The final `statement`, with the names of the edges that do not balance and of those on which packets were lost."""
    return {**statement(snapshot), "unbalanced": [row.edge for row in rows if not row.balanced], "lost": dict(lost(rows))}


def _metrics(snapshot: Snapshot) -> dict[str, float]:
    nodes, edges = snapshot.nodes, snapshot.edges
    found: dict[str, float] = {
        "packets.source_emitted_total": sum(row.emitted for row in nodes if row.role == "source"),
        "packets.consumed_total": sum(row.consumed for row in nodes),
        "packets.produced_total": sum(row.produced for row in nodes),
        "packets.dropped_total": sum(row.dropped for row in edges),
        "packets.failed_total": sum(row.failed for row in nodes),
    }
    for node in nodes:
        found |= {f"node.{node.id}.{name}": getattr(node, name) for name in _NODE_METRICS}
        found |= {f"node.{node.id}.metric.{name}": value for name, value in node.metrics.items()}
    for edge in edges:
        found |= {f"edge.{edge.name}.{name}": getattr(edge, name) for name in _EDGE_METRICS}
    return found


def _node(row: NodeRow) -> dict[str, Any]:
    wanted = ("plugin", "role", "state", "exit", "cause", "incarnation", "restarts", "consumed", "produced", "failed")
    durations = {"work": quantiles(row.work), "end_to_end": quantiles(row.end_to_end)}
    found = {name: getattr(row, name) for name in wanted}
    return {**found, "metrics": dict(row.metrics), **msgspec.to_builtins(durations)}


def _edge(row: EdgeRow) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(row)
    del found["name"]
    return found | {"wait": msgspec.to_builtins(quantiles(row.wait))}


def _versions() -> dict[str, str]:
    found = {"streamcore": __version__, "python": platform.python_version(), "kernel": platform.release(), "machine": platform.machine()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:  # run from a bundle without metadata
            found[library] = "unknown"
    return found
