"""What can be found out about a node that hangs or has died: from its status page, its input ring, its log, /proc. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.clock import iso_utc
from streamcore.errors import MessageError
from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.packet import Meta, decode_meta
from streamcore.shm.entries import Entry, pending_on, read_entry, read_slot
from streamcore.shm.status import NodeStatus
from streamcore.supervisor import picture

PICTURES_MAX = 3
_PROC_FIELDS = ("State", "Threads", "VmRSS", "VmHWM", "RssAnon", "RssShmem", "VmSwap", "SigBlk", "SigIgn", "SigCgt")


@dataclass(frozen=True)
class Packets:
    """The packet under work, as JSON, and small pictures of frames that were waiting, by sequence; empty where there is nothing."""

    current: dict[str, Any] | None = None
    pictures: Mapping[int, bytes] | None = None


def packets(plan: Plan, node: NodePlan, page: NodeStatus | None, ring_fds: Mapping[int, int]) -> Packets:
    """What the node works on and what waits for it, read from the rings; `ring_fds` are descriptors of those that it may read.

    Fields of the packet: incident.py. Its payload is described only.
    """
    edge = current_edge(plan, node, page)
    if edge is None or page is None or edge.ring not in ring_fds:
        return Packets()
    fd, ring = ring_fds[edge.ring], plan.rings[edge.ring]
    row = read_entry(fd, ring, page.current_entry)
    if row is None or row.sequence != page.current_sequence:
        return Packets({"edge": edge.name, "sequence": page.current_sequence, "note": "its entry has been used again"})
    waiting = [row, *(other for other in pending_on(fd, ring, edge.bit) if other.sequence > row.sequence)]
    pictures = {other.sequence: drawn for other in waiting[:PICTURES_MAX] if (drawn := _picture(plan, other, ring_fds))}
    return Packets(_packet(edge, row), pictures)


def current_edge(plan: Plan, node: NodePlan, page: NodeStatus | None) -> EdgePlan | None:
    """The edge of the packet in process(); None if it was in none, or in one that came by no edge."""
    if page is None or not page.busy_since_ns or node.role == "source" or page.current_edge not in node.in_edges:
        return None
    return plan.edges[page.current_edge]


def _packet(edge: EdgePlan, row: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"edge": edge.name, "sequence": row.sequence, "redelivered": row.redelivered}
    meta = _decoded(row)
    if meta is None:
        return found | {"note": "its metadata cannot be read"}
    return found | {
        "packet_id": meta.id16.hex(),
        "kind": meta.kind,
        "source_id": meta.source_id,
        "ts": iso_utc(meta.wall_ns),
        "position": meta.position,
        "meta": meta.meta,
        "payload": _payload(meta),
    }


def _payload(meta: Meta) -> dict[str, Any]:
    """What it is, never what is in it."""
    ref = meta.ref
    if ref is None:
        return {"type": type(meta.value).__name__}
    kind = {"": "bytes", "msgpack": "json"}.get(ref.dtype, "array")
    return {"type": kind, "nbytes": ref.nbytes} | ({"dtype": ref.dtype, "shape": list(ref.shape)} if kind == "array" else {})


def _decoded(row: Entry) -> Meta | None:
    try:
        return decode_meta(row.meta)
    except MessageError:
        return None


def _picture(plan: Plan, row: Entry, ring_fds: Mapping[int, int]) -> bytes | None:
    meta = _decoded(row)
    ref = meta.ref if meta else None
    if ref is None or ref.ring not in ring_fds or not picture.can_show(ref.dtype, ref.shape, ref.strides):
        return None
    fd, ring = ring_fds[ref.ring], plan.rings[ref.ring]
    return picture.png(ref.shape, ref.strides, lambda offset, count: read_slot(fd, ring, ref.slot, ref.offset + offset, count))


def process_facts(pid: int) -> dict[str, str]:
    """Fields of /proc/PID/status and the number of descriptors; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name: fields[name].strip() for name in _PROC_FIELDS if name in fields}
    try:
        return facts | {"descriptors": str(len(os.listdir(f"/proc/{pid}/fd")))}
    except OSError:
        return facts


def environment(pid: int) -> dict[str, str]:
    """Of a live process as it was started; else of this one, whose environment its nodes inherit."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().decode("utf-8", "replace").split("\0")
    except OSError:
        entries = []
    found = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return found or dict(os.environ)
