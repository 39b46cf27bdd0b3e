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

if TYPE_CHECKING:
    from streamcore.coordinator.coordinator import Coordinator


def answer(run: Coordinator, request: protocol.Request) -> dict[str, Any] | Later:
    """The body of the reply, or the promise of one."""
    if isinstance(request, protocol.Ps):
        names = {"graph": run.plan.graph, "graph_version": run.plan.graph_version, "started": iso_utc(run.started_wall_ns)}
        return _head(run) | names | _rows(run, True)
    if isinstance(request, protocol.Stats):
        return _head(run) | _rows(run, False)
    if isinstance(request, protocol.Info):
        return _info(run)
    if isinstance(request, protocol.Account):
        return _head(run) | run.account()
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
    return {"pid": os.getpid(), "refused": run.requests_refused, "orders": run.orders.under_way}


def _head(run: Coordinator) -> dict[str, Any]:
    return {"run": run.plan.run, "state": run.phase, "uptime_s": round(run.uptime_s(), 3)}


def _rows(run: Coordinator, with_usage: bool) -> dict[str, Any]:
    taken = run.snapshot()
    if with_usage:
        for row in taken.nodes:
            if row.pid is not None:
                row.cpu_percent, row.rss_bytes = run.usage.read(row.pid)
                row.rss_growth_bytes_per_s = run.members[row.id].memory.growth_bytes_per_s
    rows: dict[str, Any] = msgspec.to_builtins(taken)
    return rows


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
