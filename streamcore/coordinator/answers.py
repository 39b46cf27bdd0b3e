"""What a live run answers on its control socket. Shapes: control/protocol.py and telemetry/snapshot.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from streamcore.clock import iso_utc
from streamcore.control import protocol
from streamcore.control.server import Later
from streamcore.node import channel
from streamcore.secret import mask_hook
from streamcore.supervisor.usage import cores
from streamcore.telemetry.bottleneck import bottleneck
from streamcore.telemetry.snapshot import Snapshot

SPANS_MAX = 20_000  # in one reply: a tenth of a second for the coordinator

if TYPE_CHECKING:
    from streamcore.coordinator.coordinator import Coordinator

JUDGED_S = 10  # of WINDOWS_S: what holds the graph back is said of them


def answer(run: Coordinator, request: protocol.Request) -> dict[str, Any] | Later:
    """The body of the reply, or the promise of one."""
    if isinstance(request, protocol.Ps):
        names = {
            "graph": run.plan.graph,
            "graph_version": run.plan.graph_version,
            "started": iso_utc(run.started_wall_ns),
            "http": run.door.url,
        }
        taken = run.view.snapshot()
        for row in taken.nodes:
            if row.pid is not None:
                row.cpu_percent, row.rss_bytes = run.usage.read(row.pid)
                row.rss_growth_bytes_per_s = run.members[row.id].memory.growth_bytes_per_s
        return _head(run) | names | _rows(taken)
    if isinstance(request, protocol.Stats):
        taken, now_ns = run.view.snapshot(), run.clock.monotonic_ns()
        windows = run.view.windows(taken)
        held_back = bottleneck(windows[JUDGED_S], taken, now_ns, cores())
        told = {str(seconds): msgspec.to_builtins(window) for seconds, window in windows.items()}
        return _head(run) | _rows(taken) | {"windows": told, "bottleneck": msgspec.to_builtins(held_back)}
    if isinstance(request, protocol.Trace):
        return _head(run) | _spans(run)
    if isinstance(request, protocol.Info):
        return _info(run)
    if isinstance(request, protocol.Account):
        return _head(run) | run.view.account()
    if isinstance(request, protocol.Down):
        return run.answer_down(request)
    if isinstance(request, protocol.Restart):
        return run.orders.restart(request.node, run.phase)
    if isinstance(request, protocol.Pause):
        return run.orders.pause(request.node, run.phase)
    if isinstance(request, protocol.Resume):
        return run.orders.resume(request.node, run.phase)
    if isinstance(request, protocol.Redrive):
        return run.orders.redrive(request.node, request.record)
    if isinstance(request, protocol.Order):
        return run.orders.order(request.node, request.name, request.arguments)
    if isinstance(request, protocol.Tap):
        return run.orders.tap(request.node, channel.Tap(request.socket, request.port, request.frames, request.every_ns))
    if isinstance(request, protocol.Events):
        return run.following.answer(request.since, request.wait_s)
    return {"pid": os.getpid(), "refused": run.requests_refused, "orders": run.orders.under_way}


def _head(run: Coordinator) -> dict[str, Any]:
    return {"run": run.plan.run, "state": run.phase, "uptime_s": round(run.uptime_s(), 3)}


def _rows(taken: Snapshot) -> dict[str, Any]:
    rows: dict[str, Any] = msgspec.to_builtins(taken)
    return rows


def _spans(run: Coordinator) -> dict[str, Any]:
    return {
        "monotonic_ns": run.clock.monotonic_ns(),
        "wall_ns": run.clock.wall_ns(),
        "spans": msgspec.to_builtins(run.view.spans(SPANS_MAX // len(run.plan.nodes))),
        "edges": {str(edge.id): [edge.name, edge.from_node] for edge in run.plan.edges},
        "roles": {node.id: node.role for node in run.plan.nodes},
    }


def _info(run: Coordinator) -> dict[str, Any]:
    info: dict[str, Any] = msgspec.to_builtins(run.info())
    for not_wanted in ("v", "path"):
        del info[not_wanted]
    return info | {"plan": _without_config(run.plan)}


def _without_config(plan: Any) -> dict[str, Any]:
    """The plan as JSON. A node's config may hold secrets: it stays in the run."""
    shown: dict[str, Any] = msgspec.to_builtins(plan, enc_hook=mask_hook)
    for node in shown["nodes"]:
        del node["config"]
    return shown
