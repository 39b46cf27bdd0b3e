"""From the checked, expanded tree to the frozen model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.spec.addresses import LOOPBACK, numeric, unfit
from streamcore.spec.expand import Entry, Expanded
from streamcore.spec.model import CareSpec, EdgeSpec, HttpSpec, LimitsSpec, NodeSpec, ProcessSpec, RestartSpec, RingSpec, Spec, Where
from streamcore.spec.problems import Problems, show
from streamcore.spec.rules import RESTART, RING, VERSION

_SIMPLE = {"id", "plugin", "config"}


def freeze(tree: dict[str, Any], file: str, params: Mapping[str, Any], made: Expanded, problems: Problems) -> Spec:
    """The model of what has no problem. A bad optional value becomes its default, a bad entry is left out."""
    nodes = tuple(_node(entry, where, problems) for where, entry in _entries(tree, made.nodes, "nodes", ("id", "plugin"), problems))
    edges = tuple(_edge(entry, where, problems) for where, entry in _entries(tree, made.edges, "edges", ("from", "to"), problems))
    name = _good(tree, ("name",), problems, None)
    if name is None:
        name = name_of(file)
    elif not re.fullmatch(limits.ID_PATTERN, name):
        problems.add(("name",), show(name), f"a name that matches {limits.ID_PATTERN}")
    allow = tuple(entry for i, entry in enumerate(_good(tree, ("allow",), problems, [])) if not problems.is_bad(("allow", i)))
    shm = _good(tree.get("limits"), ("limits", "shm"), problems, None)
    drain_s = float(_good(tree, ("drain_s",), problems, limits.DRAIN_S))
    lost = problems.is_bad(("nodes",)) or problems.is_bad(("edges",))
    partial = lost or made.partial or (len(made.nodes), len(made.edges)) != (len(nodes), len(edges))
    ports, includes = tuple(made.ports), tuple(made.includes)
    checks = _good(tree, ("checks",), problems, "first")
    limited, http = LimitsSpec(shm), _http(tree, problems)
    of_run = (dict(params), limited, allow, drain_s, checks)
    spec = Spec(file, name, nodes, edges, VERSION, *of_run, ports, includes, http=http, places=problems.places)
    if problems:
        return replace(spec, partial=partial, bad=problems.bad)
    return replace(spec, digest=digest_of(spec))


def _entries(
    tree: dict[str, Any], made: Sequence[Entry], key: str, required: tuple[str, ...], problems: Problems
) -> list[tuple[Where, dict[str, Any]]]:
    """The entries of a list that are mappings and whose required values are right, with the places where they are written."""
    entries = tree.get(key)
    if not isinstance(entries, list):
        return []
    good = []
    for (where, _), entry in zip(made, entries, strict=True):
        if isinstance(entry, dict) and not any(problems.is_bad((*where, name)) for name in required):
            good.append((where, entry))
    return good


def _good(entry: Any, where: Where, problems: Problems, default: Any) -> Any:
    """The value of entry[last part of where], or the default if it is missing or has a problem."""
    value = entry.get(where[-1]) if isinstance(entry, dict) else None
    return default if value is None or problems.is_bad(where) else value


def _node(entry: dict[str, Any], where: Where, problems: Problems) -> NodeSpec:
    def value(name: str, default: Any) -> Any:
        return _good(entry, (*where, name), problems, default)

    if entry.keys() <= _SIMPLE:  # most nodes of a large graph
        return NodeSpec(entry["id"], entry["plugin"], value("config", {}), where=where)
    ring = value("ring", {})
    sizes = {name: _good(ring, (*where, "ring", name), problems, None) for name in RING}
    startup_s, env = float(value("startup_s", limits.STARTUP_S)), value("env", {})
    process = ProcessSpec(
        {name: item for name, item in env.items() if not problems.is_bad((*where, "env", name))},
        tuple(sorted({cpu for index, cpu in enumerate(value("cpu_affinity", ())) if not problems.is_bad((*where, "cpu_affinity", index))})),
        value("nice", 0),
    )
    care = _care(entry, where, problems)
    return NodeSpec(entry["id"], entry["plugin"], value("config", {}), startup_s, RingSpec(**sizes), care, where, process)


def _care(entry: dict[str, Any], where: Where, problems: Problems) -> CareSpec:
    def value(*path: str) -> Any:
        found: Any = entry
        for length in range(1, len(path) + 1):
            found = _good(found, (*where, *path[:length]), problems, None)
        return float(found) if found is not None and path[-1].endswith("_s") else found  # 1 and 1.0 are the same graph

    restart, on_error = value("restart"), value("on_error")
    kept = {"policy": restart} if isinstance(restart, str) else {name: value("restart", name) for name in RESTART}
    retries = value("on_error", "retry") if isinstance(on_error, dict) else None
    return CareSpec(
        restart=RestartSpec(**kept),
        heartbeat_s=value("heartbeat_s"),
        progress_s=value("progress_s"),
        poison_limit=value("poison_limit"),
        on_error="retry" if isinstance(on_error, dict) else on_error,
        retries=retries,
        rss=value("limits", "rss"),
        on_exceed=value("limits", "on_exceed"),
        drain_s=value("drain_s"),
        checks=value("checks"),
    )


def _edge(entry: dict[str, Any], where: Where, problems: Problems) -> EdgeSpec:
    def value(name: str, default: Any) -> Any:
        return _good(entry, (*where, name), problems, default)

    policy, completion = value("policy", "block"), value("completion", "hop")
    outbox = value("outbox", None)
    outbox = {} if outbox is True else None if outbox is False else outbox
    depth, rate, spill = (value(name, None) for name in ("depth", "rate", "spill"))
    return EdgeSpec(entry["from"], entry["to"], policy, depth, rate, completion, where, outbox, spill)


def _http(tree: dict[str, Any], problems: Problems) -> HttpSpec | None:
    entry = _good(tree, ("http",), problems, None)
    if not isinstance(entry, dict):
        return None if entry is None else HttpSpec(entry)
    port = _good(entry, ("http", "port"), problems, 0)
    host, exposed = _good(entry, ("http", "host"), problems, LOOPBACK), _good(entry, ("http", "exposed"), problems, False)
    wrong = unfit(host, exposed=exposed or problems.is_bad(("http", "exposed")), how="`exposed: true` beside it")
    if wrong:
        problems.add(("http", "host"), show(host), wrong.expected, wrong.hint)
    return HttpSpec(port, numeric(host) or LOOPBACK, exposed)


def name_of(file: str) -> str:
    """The name of a spec that gives none: its file's, made into an id."""
    stem = re.sub(r"[^a-z0-9_-]+", "-", Path(file).stem.lower()).strip("-")
    return re.sub(r"^[^a-z]+", "", stem)[:32] or "spec"


def digest_of(spec: Spec) -> str:
    """SHA-256 of what decides what runs; where it stands, and values of params that nothing uses, and where the run can be looked at do not
    count. Secrets count by source.
    """
    nodes = [(n.id, n.plugin, n.config, n.startup_s, vars(n.ring), _plain(n.care), vars(n.process)) for n in spec.nodes]
    edges = [(e.from_, e.to, e.policy, e.depth, e.rate, e.completion, *_options(e)) for e in spec.edges]
    whole = [spec.version, spec.name, spec.limits.shm, spec.allow, spec.drain_s, spec.checks, nodes, edges]
    text = json.dumps(whole, sort_keys=True, default=lambda secret: f"!secret {secret.source}")
    return sha256(text.encode()).hexdigest()


def _options(edge: EdgeSpec) -> list[Any]:
    return [] if edge.outbox is edge.spill is None else [edge.outbox, edge.spill]


def _plain(care: CareSpec) -> dict[str, Any]:
    return {**vars(care), "restart": vars(care.restart)}
