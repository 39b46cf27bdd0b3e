"""From a valid spec to the plan: processes, edges, rings, who may read which ring, memory. Arithmetic only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.errors import SpecError
from streamcore.graph.delivery import plan_delivery
from streamcore.graph.describe import describe
from streamcore.graph.loops import feedback_edges, producers_first
from streamcore.graph.model import EdgePlan, HttpPlan, NodePlan, Plan, RestartPlan, RingPlan, Term
from streamcore.graph.validate import check
from streamcore.graph.windows import PortKey, Window, plan_windows
from streamcore.graph.wiring import Graph, Manifests, WiredEdge, WiredNode, wire
from streamcore.node.api import forwarded_inputs, number_of
from streamcore.packet import carries_arrays
from streamcore.plugins.configs import Checked
from streamcore.shm.layout import Geometry, round_up
from streamcore.spec.freeze import digest_of
from streamcore.spec.model import Spec
from streamcore.spec.scalars import size_text

SLOT_BYTES_SMALL = 1 * limits.MIB  # of rings for JSON and bytes, where a payload beyond `meta_bytes` is the exception
META_ALIGN_BYTES = 64  # as the layout rounds it, so that plan and ring name the same number
VERSION_CHARS = 12  # of the digest: enough to tell specs apart in a log
INCARNATION_DIGITS = 6  # a node restarted every second needs 11 days to get a seventh


def make_plan(
    spec: Spec,
    manifests: Manifests,
    run: str | None = None,
    run_dir: Path | str | None = None,
    checked: Mapping[int, Checked] = {},
) -> Plan:
    """Plan a run of `spec`; `run` is its name, `run_dir` its directory (without it, the length of socket paths is not checked).

    `manifests` and `checked` are those of `wire`.

    Raises:
      SpecError: the spec has problems, or needs more than a limit allows.
    """
    graph = wire(spec, manifests, checked)
    problems = check(graph)
    if problems:
        raise SpecError(problems)
    return plan_graph(graph, run, run_dir)


def plan_graph(graph: Graph, run: str | None, run_dir: Path | str | None) -> Plan:
    """As make_plan, of a wired graph that was checked and has no problem."""
    spec = graph.spec
    plan_delivery(graph)
    ordered = producers_first(graph)
    windows, slots = plan_windows(ordered[::-1], graph.edges)
    rings, ring_ids = _rings(graph, slots)
    _check_entries(graph, rings)
    _check_inbox_paths(graph, run_dir)
    if not graph.problems:
        _check_shm(graph, rings)
    if graph.problems:
        raise SpecError(graph.problems.listed())
    edges = _edges(graph, windows, ring_ids)
    return Plan(
        run=run or spec.name,
        graph=spec.name,
        graph_version=(spec.digest or digest_of(spec))[:VERSION_CHARS],
        nodes=_nodes(graph, ordered, edges, ring_ids),
        edges=edges,
        rings=rings,
        start_order=tuple(node.spec.id for node in ordered[::-1]),
        shm_bytes_max=sum(map(ring_bytes_max, rings)),
        drain_s=spec.drain_s,
        shm_limit=spec.limits.shm,
        http=HttpPlan(spec.http.host, spec.http.port, spec.http.exposed) if spec.http else None,
    )


def ring_bytes_max(ring: RingPlan) -> int:
    """Memory of a ring if all its slots were full."""
    return Geometry.of(ring.entry_count, ring.meta_bytes, ring.slot_count, ring.slot_bytes).segment_bytes


def _rings(graph: Graph, slots: dict[PortKey, tuple[Term, ...]]) -> tuple[tuple[RingPlan, ...], dict[PortKey, int]]:
    """One ring per declared output port, connected or not, in the order of the spec."""
    rings: list[RingPlan] = []
    ids: dict[PortKey, int] = {}
    for node in graph.nodes.values():
        assert node.manifest
        asked = node.spec.ring
        for name, port in node.manifest.outputs.items():
            terms = slots[node.spec.id, name]
            count = sum(term.value for term in terms)
            if asked.slots is not None and asked.slots > count:
                terms = (*terms, Term("ring.slots", asked.slots - count))
                count = asked.slots
            small = not carries_arrays(port.profile)
            slot_bytes = asked.slot_bytes or (SLOT_BYTES_SMALL if small else limits.SLOT_BYTES)
            ids[node.spec.id, name] = len(rings)
            rings.append(
                RingPlan(
                    id=len(rings),
                    port=f"{node.spec.id}.{name}",
                    entry_count=max(2, count),
                    meta_bytes=round_up(asked.meta_bytes or limits.META_BYTES, META_ALIGN_BYTES),
                    slot_count=count,
                    slot_bytes=round_up(slot_bytes, limits.PAGE_BYTES),
                    slot_terms=terms,
                )
            )
    return tuple(rings), ids


def _edges(graph: Graph, windows: list[Window], ring_ids: dict[PortKey, int]) -> tuple[EdgePlan, ...]:
    used: dict[PortKey, int] = {}
    feedback = feedback_edges(graph)
    edges = []
    for index, (edge, window) in enumerate(zip(graph.edges, windows, strict=True)):
        key = (edge.producer.spec.id, edge.from_port)
        bit = used.get(key, 0)
        used[key] = bit + 1
        edges.append(
            EdgePlan(
                id=index,
                bit=bit,
                from_node=edge.producer.spec.id,
                from_port=edge.from_port,
                to_node=edge.consumer.spec.id,
                to_port=edge.to_port,
                ring=ring_ids[key],
                policy=edge.spec.policy,
                depth=window.depth,
                window=window.packets,
                window_terms=window.terms,
                kept=window.kept,
                rate=edge.spec.rate or 0.0,
                completion=edge.spec.completion,
                passed_on=_is_passed_on(edge),
                feedback=index in feedback,
            )
        )
    return tuple(edges)


def _is_passed_on(edge: WiredEdge) -> bool:
    manifest = edge.consumer.manifest
    assert manifest
    return any(edge.to_port in forwarded_inputs(manifest, port) for port in manifest.outputs)


def _nodes(graph: Graph, ordered: list[WiredNode], edges: tuple[EdgePlan, ...], ring_ids: dict[PortKey, int]) -> tuple[NodePlan, ...]:
    incoming: dict[str, list[EdgePlan]] = {node_id: [] for node_id in graph.nodes}
    outgoing: dict[str, list[EdgePlan]] = {node_id: [] for node_id in graph.nodes}
    for edge in edges:
        incoming[edge.to_node].append(edge)
        outgoing[edge.from_node].append(edge)
    reach = _reach(ordered, incoming, ring_ids)
    plans = []
    for node_id, node in graph.nodes.items():
        assert node.manifest
        reads = 0
        for edge in incoming[node_id]:
            reads |= reach[edge.ring]
        plans.append(
            NodePlan(
                id=node_id,
                plugin=node.spec.plugin,
                target=node.manifest.target,
                role=node.manifest.role,
                config=node.config,
                outputs={name: ring_ids[node_id, name] for name in node.manifest.outputs},
                reads=tuple(_members(reads)),
                in_edges=tuple(edge.id for edge in incoming[node_id]),
                out_edges=tuple(edge.id for edge in outgoing[node_id]),
                batch_max=number_of(node.manifest, "batch_max", node.config),
                retention=number_of(node.manifest, "retention", node.config),
                startup_s=node.spec.startup_s,
                env=dict(node.spec.process.env),
                cpu_affinity=node.spec.process.cpu_affinity,
                nice=node.spec.process.nice,
                hidden=node.spec.hidden,
                **{"checks": graph.spec.checks, **_care(node)},
            )
        )
    return tuple(plans)


def _care(node: WiredNode) -> dict[str, Any]:
    """What a spec gives of NodePlan's fields on supervision; the rest keeps NodePlan's defaults.

    A source without outputs is a job: it gives no packets, so only the spec can say how long it may take.
    """
    assert node.manifest
    care = node.spec.care
    given: dict[str, Any] = {"progress_s": 0.0} if node.manifest.role == "source" and not node.manifest.outputs else {}
    given |= {name: value for name, value in vars(care).items() if value is not None and name not in ("restart", "rss")}
    if care.rss is not None:
        given["rss_bytes_max"] = care.rss
    restart = {name: value for name, value in vars(care.restart).items() if value is not None}
    return given | ({"restart": RestartPlan(**restart)} if restart else {})


def _reach(ordered: list[WiredNode], incoming: dict[str, list[EdgePlan]], ring_ids: dict[PortKey, int]) -> dict[int, int]:
    """For each ring the rings that a packet of its port may point into: its own and, by forwarding, those before it. Sets as bit masks."""
    reach: dict[int, int] = {}
    for node in ordered:
        assert node.manifest
        for port in node.manifest.outputs:
            ring = ring_ids[node.spec.id, port]
            reach[ring] = 1 << ring
            forwarded = forwarded_inputs(node.manifest, port)
            for edge in incoming[node.spec.id]:
                if edge.to_port in forwarded:
                    reach[ring] |= reach[edge.ring]
    return reach


def _members(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set; of 2,000 rings a node reads a few."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _check_entries(graph: Graph, rings: tuple[RingPlan, ...]) -> None:
    for ring in rings:
        if ring.slot_count > limits.ENTRIES_MAX:
            node_id = ring.port.rpartition(".")[0]
            terms = " + ".join(f"{term.name} {term.value}" for term in ring.slot_terms)
            found = f"{ring.slot_count} slots for {ring.port} ({terms})"
            hint = "lower the depth of the edges behind it, or let a node between make a copy"
            graph.problems.add(graph.nodes[node_id].spec.where, found, f"at most {limits.ENTRIES_MAX} slots", hint)


def _check_shm(graph: Graph, rings: tuple[RingPlan, ...]) -> None:
    """`limits.shm` against what the user stated. A planned slot_bytes is an upper bound that costs nothing until touched, so nothing can
    be concluded from it before the run: there the coordinator watches."""
    stated = [ring for ring in rings if graph.nodes[ring.port.rpartition(".")[0]].spec.ring.slot_bytes is not None]
    total = sum(map(_slots_bytes, stated))
    allowed = graph.spec.limits.shm
    if allowed is not None and total > allowed:
        largest = sorted(stated, key=_slots_bytes, reverse=True)[:3]
        parts = ", ".join(f"{ring.port}: {ring.slot_count} x {size_text(ring.slot_bytes)}" for ring in largest)
        found = f"{size_text(allowed)}, but the rings with a slot_bytes of their own take up to {size_text(total)} ({parts})"
        graph.problems.add(("limits", "shm"), found, f"at least {-(-total // limits.MIB)}MiB", "lower slot_bytes or the depth of edges")


def _slots_bytes(ring: RingPlan) -> int:
    return ring.slot_count * ring.slot_bytes


def _check_inbox_paths(graph: Graph, run_dir: Path | str | None) -> None:
    """SYNC: wire.sockets.inbox_path names them RUN_DIR/NODE.INCARNATION. Found out here, not when a process binds."""
    if run_dir is None or not graph.nodes:
        return
    longest = max(graph.nodes, key=len)
    path = f"{run_dir}/{longest}.{'9' * INCARNATION_DIGITS}"
    nbytes = len(os.fsencode(path))
    if nbytes > limits.IPC_PATH_BYTES_MAX:
        where = (*graph.nodes[longest].spec.where, "id")
        found = f"a socket path of {nbytes} bytes: {path}"
        hint = "use shorter ids, a shorter run name, or a shorter XDG_RUNTIME_DIR"
        graph.problems.add(where, found, f"at most {limits.IPC_PATH_BYTES_MAX} bytes", hint)


__all__ = ["describe", "make_plan", "plan_graph", "ring_bytes_max"]
