"""Where each effective value of a graph comes from: a place in a file, a param, the environment, or a default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.graph.model import EdgePlan, NodePlan, Plan
from streamcore.graph.wiring import Graph
from streamcore.secret import masked
from streamcore.spec.interpolate import EACH, REFERENCE
from streamcore.spec.model import Spec, Where, format_path

FILE, DEFAULT, PLANNED = "file", "default", "planned"
_CARE = ("startup_s", "heartbeat_s", "progress_s", "poison_limit", "on_error", "retries", "on_exceed", "checks", "cpu_affinity", "nice")


@dataclass(frozen=True)
class Origin:
    """`kind`: file, default (of streamcore or of a plugin, `by`) or planned. `written`: the text that stands there, if it is another."""

    kind: str
    file: str = ""
    line: int = 0
    column: int = 0
    written: str = ""
    by: str = ""

    def __str__(self) -> str:
        if self.kind != FILE:
            return f"{self.kind}{f' of {self.by}' if self.by else ''}"
        return f"{self.file}:{self.line}:{self.column}{f'  {self.written}' if self.written else ''}{f'  ({self.by})' if self.by else ''}"


@dataclass(frozen=True)
class Explained:
    """One value. `path` reads nodes.ID.KEY, edges.NAME.KEY or a top-level key; secrets are masked."""

    path: str
    value: Any
    origin: Origin


def explain(graph: Graph, plan: Plan, sets: Mapping[str, str] = {}) -> list[Explained]:
    """Every value of a checked graph as it takes effect, in the order of the spec. `sets` are those that it was loaded with."""
    teller = _Teller(graph.spec, sets)
    spec = graph.spec
    rows = [
        teller.row("name", spec.name, ("name",)),
        teller.row("drain_s", spec.drain_s, ("drain_s",)),
        teller.row("limits.shm", spec.limits.shm, ("limits", "shm")),
    ]
    if spec.http is not None:
        whole = not spec.places.nearest(("http", "port"))[1]  # written as a port alone
        rows += [
            teller.row(f"http.{key}", value, ("http",) if whole and key == "port" else ("http", key))
            for key, value in vars(spec.http).items()
        ]
    rows += [teller.row(f"allow[{i}]", package, ("allow", i)) for i, package in enumerate(spec.allow)]
    rows += [teller.param(name, value) for name, value in spec.params.items()]
    for node_plan in plan.nodes:
        rows += _node(teller, graph, node_plan, plan)
    for edge_plan, wired in zip(plan.edges, graph.edges, strict=True):
        hidden = wired.producer.spec.hidden or wired.consumer.spec.hidden
        rows += _edge(teller, edge_plan, wired.spec.where, hidden, wired.spec.depth is None)
    return rows


def matching(rows: list[Explained], path: str) -> list[Explained]:
    """The rows at or below a path."""
    return [row for row in rows if row.path == path or row.path.startswith((f"{path}.", f"{path}["))]


class _Teller:
    def __init__(self, spec: Spec, sets: Mapping[str, str]):
        self._spec, self._sets = spec, sets

    def row(self, path: str, value: Any, where: Where, otherwise: Origin = Origin(DEFAULT)) -> Explained:
        _, exact = self._spec.places.nearest(where)
        return Explained(path, masked(value), self.origin(where) if exact else otherwise)

    def origin(self, where: Where) -> Origin:
        place, _ = self._spec.places.nearest(where)
        mark = self._spec.mark(where)
        return Origin(FILE, *mark, place.written, ", ".join(self._sources(place.written)))

    def param(self, name: str, value: Any) -> Explained:
        origin = self.origin(("params", name))
        if name in self._sets:
            origin = Origin(FILE, origin.file, origin.line, origin.column, by=f"--set {name}")
        return Explained(f"params.{name}", masked(value), origin)

    def _sources(self, written: str) -> Iterator[str]:
        for match in REFERENCE.finditer(written):
            name = match[1] or ""
            if name.partition(".")[0] == EACH:
                yield "item of for_each"
            elif name.startswith("env:"):
                yield f"environment variable {name[4:].partition(':-')[0]}"
            elif name in self._sets:
                yield f"--set {name}"
            elif name in self._spec.params:
                mark = self._spec.mark(("params", name))
                yield f"param {name}, line {mark.line}"
            elif name:
                yield f"param {name} of the included graph"


def _node(teller: _Teller, graph: Graph, plan: NodePlan, whole: Plan) -> Iterator[Explained]:
    node = graph.nodes[plan.id]
    where, base = node.spec.where, f"nodes.{plan.id}"
    yield teller.row(f"{base}.plugin", plan.plugin, (*where, "plugin"))
    for path, value in _leaves(plan.config):
        yield teller.row(f"{base}.config{_dotted(path)}", value, (*where, "config", *path), Origin(DEFAULT, by=plan.plugin))
    for key in _CARE:
        value = getattr(plan, key)
        if (value or key in ("nice", "poison_limit")) and not (key == "on_exceed" and not plan.rss_bytes_max):
            yield teller.row(f"{base}.{key}", value, _written_as(where, key))
    yield teller.row(f"{base}.drain_s", plan.drain_s or whole.drain_s, (*where, "drain_s"), Origin(DEFAULT, by="the run"))
    for key in ("policy", "max_restarts", "window_s", "backoff_s", "backoff_max_s", "on_give_up"):
        place: Where = (*where, "restart", key)
        if key == "policy" and not graph.spec.places.nearest(place)[1] and isinstance(node.spec.care.restart.policy, str):
            place = (*where, "restart")
        yield teller.row(f"{base}.restart.{key}", getattr(plan.restart, key), place)
    if plan.rss_bytes_max:
        yield teller.row(f"{base}.limits.rss", plan.rss_bytes_max, (*where, "limits", "rss"))
    for name, value in plan.env.items():
        yield teller.row(f"{base}.env.{name}", value, (*where, "env", name))
    for port, number in plan.outputs.items():
        ring = whole.rings[number]
        for key, value in (("slots", ring.slot_count), ("slot_bytes", ring.slot_bytes), ("meta_bytes", ring.meta_bytes)):
            asked = getattr(node.spec.ring, key)
            origin = (*where, "ring", key) if asked == value else ()
            row = teller.row(f"{base}.ring.{port}.{key}", value, origin) if origin else None
            yield row or Explained(f"{base}.ring.{port}.{key}", value, Origin(PLANNED))


def _written_as(where: Where, key: str) -> Where:
    return (*where, "on_error", "retry") if key == "retries" else (*where, "limits", key) if key == "on_exceed" else (*where, key)


def _edge(teller: _Teller, edge: EdgePlan, where: Where, hidden: str, depth_planned: bool) -> Iterator[Explained]:
    """`hidden`: which node this edge shares with another, so that not all that is written holds for this one."""
    base = f"edges.{edge.name}"
    made = Explained(f"{base}.policy", edge.policy, Origin(PLANNED, by=hidden))
    yield made if hidden else teller.row(f"{base}.policy", edge.policy, (*where, "policy"))
    planned = Explained(f"{base}.depth", edge.depth, Origin(PLANNED))
    yield planned if depth_planned else teller.row(f"{base}.depth", edge.depth, (*where, "depth"), Origin(PLANNED))
    if edge.rate:
        yield teller.row(f"{base}.rate", edge.rate, (*where, "rate"))
    yield teller.row(f"{base}.completion", edge.completion, (*where, "completion"))
    yield Explained(f"{base}.window", edge.window, Origin(PLANNED))


def _leaves(value: Any, path: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Every value that is no container, and empty containers."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif path:
        yield path, value


def _dotted(path: Where) -> str:
    return f".{format_path(path)}" if path and isinstance(path[0], str) else format_path(path)
