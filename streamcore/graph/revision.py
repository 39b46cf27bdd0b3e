"""What has changed between the plan of a run and the plan of the same spec now: which nodes need a new process, and what stands in the way.

Pure. Rings, windows and edges are mapped and counted by live processes, so they stay what they are until the run ends; what a node is told
at its start can be told anew to its next incarnation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from streamcore.graph.basis import Basis
from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.spec.model import EdgeSpec, NodeSpec, Where

_TOPOLOGY = ("outputs", "reads", "in_edges", "out_edges")  # of a NodePlan: numbers that depend on where in the file other nodes stand
_CARE_KEYS = {"retries": "on_error", "rss": "limits", "on_exceed": "limits"}  # where the key of the spec is another than the field
_NOT_STATED = object()  # like no value of a config


@dataclass(frozen=True)
class Revision:
    """plan: that of the run with what can be changed in place.   nodes: those that need a new process, and why.

    obstacles: lines that say what only a new run can have, each with its place. With any, nothing is to be changed.
    """

    plan: Plan
    nodes: dict[str, tuple[str, ...]]
    obstacles: tuple[str, ...] = ()


def compare(old: Basis, new: Basis) -> Revision:
    """`old` is what the run has, `new` what its files say now."""
    obstacles = _obstacles(old, new)
    if obstacles:
        return Revision(old.plan, {}, tuple(obstacles))
    code = {path for path, digest in new.code.items() if old.code.get(path, digest) != digest}
    before, specs = {node.id: node for node in old.plan.nodes}, {node.id: node for node in old.spec.nodes}
    after = {node.id: node for node in new.plan.nodes}
    changed = {}
    for spec in new.spec.nodes:
        node = after[spec.id] = _placed(after[spec.id], before[spec.id])
        files = sorted(code & new.runs[spec.id])
        why = [f"plugin changed ({', '.join(path.removeprefix(new.folder) for path in files)})"] if files else []
        if node != before[spec.id]:
            why = [*_differences(new, specs[spec.id], spec), *why] or [f"plugin changed ({_at(new, (*spec.where, 'plugin'))})"]
        if why:
            changed[spec.id] = tuple(why)
    nodes = tuple(after[node.id] for node in old.plan.nodes)  # the run counts and shows them in its own order
    return Revision(msgspec.structs.replace(old.plan, graph=new.plan.graph, graph_version=new.plan.graph_version, nodes=nodes), changed)


def _placed(node: NodePlan, before: NodePlan) -> NodePlan:
    """With the ring and edge numbers that the run knows: a node that has only moved within the file has not changed."""
    return msgspec.structs.replace(node, **{name: getattr(before, name) for name in _TOPOLOGY})


def _differences(new: Basis, old: NodeSpec, spec: NodeSpec) -> list[str]:
    """One for each key of the node that says something else, at the first place where it does."""
    places: dict[str, Where] = {}
    for name in ("plugin", "startup_s"):
        if getattr(old, name) != getattr(spec, name):
            places[name] = (name,)
    for key, first, second in (("config", old.config, spec.config), ("env", old.process.env, spec.process.env)):
        inner = next((name for name in (*second, *first) if first.get(name, _NOT_STATED) != second.get(name, _NOT_STATED)), None)
        if inner is not None:
            places[key] = (key, inner)
    for name in ("cpu_affinity", "nice"):
        if getattr(old.process, name) != getattr(spec.process, name):
            places[name] = (name,)
    for name, value in vars(spec.care).items():
        if getattr(old.care, name) != value:
            places[_CARE_KEYS.get(name, name)] = (_CARE_KEYS.get(name, name),)
    return [f"{key} changed ({_at(new, (*spec.where, *path))})" for key, path in places.items()]


def _obstacles(old: Basis, new: Basis) -> list[str]:
    written = [*_of_nodes(old, new), *_of_edges(old, new)]
    # The windows of an edge depend on all that is behind it: what follows from a line that was written needs no line of its own.
    return [*_of_the_run(old, new), *(written or _of_plugins(old, new))]


def _of_the_run(old: Basis, new: Basis) -> Iterator[str]:
    """What the spec says of the whole."""
    for key, first, second in (
        ("name", old.plan.run, new.plan.run),
        ("drain_s", old.plan.drain_s, new.plan.drain_s),
        ("limits.shm", old.plan.shm_limit, new.plan.shm_limit),
        ("http", old.plan.http, new.plan.http),
    ):
        if first != second:
            mark = new.spec.mark(key)
            yield f"{mark.file}:{mark.line}  {key}: {_shown(second)}, was {_shown(first)}"


def _of_nodes(old: Basis, new: Basis) -> Iterator[str]:
    first, second = {node.id: node for node in old.spec.nodes}, {node.id: node for node in new.spec.nodes}
    for name, node in second.items():
        if name not in first:
            yield f"{_at(new, node.where)}  node '{name}' is new"
        elif first[name].ring != node.ring:
            yield f"{_at(new, (*node.where, 'ring'))}  node '{name}': its rings have other sizes"
    for name, node in first.items():
        if name not in second:
            yield f"{_at(old, node.where)}, as it was  node '{name}' is gone"


def _of_edges(old: Basis, new: Basis) -> Iterator[str]:
    first, second = _edges(old), _edges(new)
    for name, (edge, spec) in second.items():
        if name not in first:
            yield f"{_at(new, spec.where)}  edge {name} is new"
            continue
        for field in ("policy", "depth", "rate", "completion"):
            before, now = getattr(first[name][0], field), getattr(edge, field)
            if before != now:
                yield f"{_at(new, (*spec.where, field))}  edge {name}: {field} {_shown(now)}, was {_shown(before)}"
    for name, (_, spec) in first.items():
        if name not in second:
            yield f"{_at(old, spec.where)}, as it was  edge {name} is gone"


def _edges(basis: Basis) -> dict[str, tuple[EdgePlan, EdgeSpec]]:
    return {edge.name: (edge, spec) for edge, spec in zip(basis.plan.edges, basis.spec.edges, strict=True)}


def _of_plugins(old: Basis, new: Basis) -> Iterator[str]:
    """What follows from the ports, the retention or the forwarding that a plugin declares, or has from its config."""
    first, second = _shapes(old.plan), _shapes(new.plan)
    others = [spec for spec in new.spec.nodes if first[spec.id] != second[spec.id]]
    # The rings of a node also change with what others declare; whoever declares something else has brought it about.
    causes = [spec for spec in others if first[spec.id].declared != second[spec.id].declared] or others
    for spec in causes:
        yield f"{_at(new, (*spec.where, 'plugin'))}  node '{spec.id}': its plugin or config asks for other ports, rings or windows"


class _Shape(NamedTuple):
    """What of a node lies in memory that others map or count, by names, and what of it the node itself has declared."""

    declared: Any
    planned: Any


def _shapes(plan: Plan) -> dict[str, _Shape]:
    rings = [(ring.port, ring.entry_count, ring.meta_bytes, ring.slot_count, ring.slot_bytes) for ring in plan.rings]
    edges = [(edge.name, edge.passed_on, edge.window, edge.kept) for edge in plan.edges]
    shapes = {}
    for node in plan.nodes:
        outputs, inputs = sorted(rings[number] for number in node.outputs.values()), sorted(edges[number] for number in node.in_edges)
        reads = sorted(rings[number][0] for number in node.reads)
        declared = (node.role, node.retention, [ring[0] for ring in outputs], [edge[:2] for edge in inputs])
        shapes[node.id] = _Shape(declared, (outputs, inputs, reads))
    return shapes


def _at(basis: Basis, where: Where) -> str:
    """A place as people write it: front-door.yaml:7."""
    mark = basis.spec.mark(where)
    return f"{mark.file}:{mark.line}"


def _shown(value: Any) -> str:
    return "the default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
