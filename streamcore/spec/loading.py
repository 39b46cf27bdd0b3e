"""Load a spec: read, params, interpolate, check its shape, freeze. Every step adds to one list of problems."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.errors import Problem, SpecError
from streamcore.spec.interpolate import interpolate, resolve_params
from streamcore.spec.model import (
    CHECKS,
    COMPLETIONS,
    GIVE_UPS,
    ON_EXCEED,
    POLICIES,
    RESTARTS,
    CareSpec,
    EdgeSpec,
    LimitsSpec,
    NodeSpec,
    RestartSpec,
    RingSpec,
    Spec,
    Where,
)
from streamcore.spec.problems import PROBLEMS_MAX, Problems, show
from streamcore.spec.reader import Unreadable, decode, read_file, read_tree
from streamcore.spec.schema import Checker

VERSION = 2
DURATION_S_MAX = 3600  # an hour; more is a unit mistaken
PROGRESS_S_MAX = 24 * 3600  # of one process() call: a batch job may take a night
HEARTBEAT_S_MIN = 3  # the thread ticks once a second, and a loaded box may skip one
RESTARTS_MAX, POISON_LIMIT_MAX, RETRIES_MAX = 10_000, 100, 100
RSS_BYTES_MIN = 32 * limits.MIB  # less than an interpreter with numpy and pyzmq takes
META_BYTES_MIN = 512  # packet id, kind, source id and a slot reference take up to 400
# One record of metadata on top of a full batch must stay below the size of a message; 1 KiB is for headers.
META_BYTES_MAX = limits.MESSAGE_BYTES_MAX - limits.BATCH_BYTES_MAX - 1 * limits.KIB

_RING = {
    "slots": {"type": "integer", "min": 2, "max": limits.ENTRIES_MAX},
    "slot_bytes": {"type": "size", "min": limits.PAGE_BYTES, "max": limits.SLOT_BYTES_MAX},
    "meta_bytes": {"type": "size", "min": META_BYTES_MIN, "max": META_BYTES_MAX},
}
_SECONDS = {"type": "number", "min": 0, "max": DURATION_S_MAX}
_RESTART = {
    "policy": {"type": "string", "allowed": RESTARTS},
    "max_restarts": {"type": "integer", "min": 0, "max": RESTARTS_MAX},
    "window_s": {"type": "number", "min": 1, "max": DURATION_S_MAX},
    "backoff_s": _SECONDS,
    "backoff_max_s": _SECONDS,
    "on_give_up": {"type": "string", "allowed": GIVE_UPS},
}
_ON_ERROR = {"retry": {"type": "integer", "min": 1, "max": RETRIES_MAX, "required": True}}
_NODE_LIMITS = {"rss": {"type": "size", "min": RSS_BYTES_MIN, "required": True}, "on_exceed": {"type": "string", "allowed": ON_EXCEED}}


def _on_error(value: Any) -> Any:
    """`retry(3)` is another way to write {retry: 3}."""
    match = re.fullmatch(r"retry\(([0-9]{1,9})\)", value) if isinstance(value, str) else None
    return {"retry": int(match[1])} if match else value


_NODE = {
    "id": {"type": "string", "required": True, "meta": {"words": "an id such as camera"}},
    "plugin": {"type": "string", "required": True, "meta": {"words": "a plugin such as video.file"}},
    "config": {"type": "dict"},
    "startup_s": {"type": "number", "min": 0.1, "max": DURATION_S_MAX},
    "heartbeat_s": {"type": "number", "min": HEARTBEAT_S_MIN, "max": DURATION_S_MAX},
    "progress_s": {"type": "number", "min": 0.1, "max": PROGRESS_S_MAX},
    "restart": {"type": ["string", "dict"], "words": RESTARTS, "schema": _RESTART},
    "on_error": {
        "type": ["string", "dict"],
        "words": ("fail_packet", "stop"),
        "coerce": _on_error,
        "schema": _ON_ERROR,
        "meta": {"words": "one of: fail_packet, stop, {retry: N}"},
    },
    "poison_limit": {"type": "integer", "min": 0, "max": POISON_LIMIT_MAX},
    "limits": {"type": "dict", "schema": _NODE_LIMITS},
    "checks": {"type": "string", "allowed": CHECKS},
    "ring": {"type": "dict", "schema": _RING},
}
_EDGE = {
    "from": {"type": "string", "required": True, "meta": {"words": "the producer: node or node.port"}},
    "to": {"type": "string", "required": True, "meta": {"words": "the consumer: node or node.port"}},
    "policy": {"type": "string", "allowed": POLICIES},
    "depth": {"type": "integer", "min": 1, "max": limits.DEPTH_MAX},
    "rate": {"type": "number", "min": 0.001, "max": 1_000_000},
    "completion": {"type": "string", "allowed": COMPLETIONS},
}
_TOP = {
    "version": {"required": True, "meta": {"words": str(VERSION)}},
    "name": {"type": "string"},
    "params": {"type": "dict"},
    "limits": {"type": "dict", "schema": {"shm": {"type": "size", "min": limits.MIB}}},
    "drain_s": {"type": "number", "min": 0, "max": DURATION_S_MAX},
    "checks": {"type": "string", "allowed": CHECKS},
    "allow": {"type": "list", "schema": {"type": "string"}},
    "nodes": {
        "type": "list",
        "required": True,
        "minlength": 1,
        "meta": {"words": "a list of nodes"},
        "schema": {"type": "dict", "schema": _NODE},
    },
    "edges": {"type": "list", "meta": {"words": "a list of edges"}, "schema": {"type": "dict", "schema": _EDGE}},
}
_checker = Checker(_TOP)


def load(path: str | Path, sets: Mapping[str, str] = {}) -> Spec:
    """Load a spec file; `sets` are the values of `--set`, as text.

    Raises:
      SpecError: with all problems that can be found without knowing the plugins.
    """
    spec, problems = read(path, sets)
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def read(path: str | Path, sets: Mapping[str, str] = {}) -> tuple[Spec | None, list[Problem]]:
    """As `load`, but returns the problems, and with them a partial spec of what is right, so that later checks can add theirs."""
    shown = str(path).encode("utf-8", "backslashreplace").decode()  # a file name may hold bytes that are not UTF-8
    return _read(shown, sets, lambda problems: read_file(path, problems))


def parse(raw: bytes, file: str = "spec.yaml", sets: Mapping[str, str] = {}) -> tuple[Spec | None, list[Problem]]:
    """As `read`, from bytes. `file` is what the problems name."""
    return _read(file, sets, lambda problems: decode(raw, problems))


def _read(file: str, sets: Mapping[str, str], text: Callable[[Problems], str]) -> tuple[Spec | None, list[Problem]]:
    problems = Problems(file)
    try:
        tree, problems.places = read_tree(text(problems), problems)
        _check_version(tree, problems)
    except Unreadable:
        return None, problems.listed()
    params = resolve_params(tree.get("params", {}), sets, problems)
    tree = interpolate(tree, params, problems)
    normalised, findings = _checker.check(tree)
    for finding in findings:
        problems.add(*finding)
    if len(findings) > PROBLEMS_MAX:  # some were left out, so nobody knows which values are right
        return None, problems.listed()
    return _freeze(normalised, file, params, problems), problems.listed()


def _check_version(tree: Any, problems: Problems) -> None:
    """Raises Unreadable if the rules of version 2 cannot be applied."""
    if not isinstance(tree, dict):
        problems.add((), show(tree), "a mapping with version, nodes and edges")
        raise Unreadable
    version = tree.get("version", VERSION)
    if version != VERSION or isinstance(version, (bool, float)):
        problems.add(("version",), show(version), f"{VERSION}: this streamcore reads no other version")
        raise Unreadable


def _freeze(tree: dict[str, Any], file: str, params: Mapping[str, Any], problems: Problems) -> Spec:
    """The model of what has no problem. A bad optional value becomes its default, a bad entry is left out."""
    nodes = tuple(_node(entry, ("nodes", i), problems) for i, entry in _entries(tree, "nodes", ("id", "plugin"), problems))
    edges = tuple(_edge(entry, ("edges", i), problems) for i, entry in _entries(tree, "edges", ("from", "to"), problems))
    name = _good(tree, ("name",), problems, None)
    if name is None:
        name = name_of(file)
    elif not re.fullmatch(limits.ID_PATTERN, name):
        problems.add(("name",), show(name), f"a name that matches {limits.ID_PATTERN}")
    allow = tuple(entry for i, entry in enumerate(_good(tree, ("allow",), problems, [])) if not problems.is_bad(("allow", i)))
    shm = _good(tree.get("limits"), ("limits", "shm"), problems, None)
    drain_s = float(_good(tree, ("drain_s",), problems, limits.DRAIN_S))
    given, kept = (len(tree[key]) if isinstance(tree.get(key), list) else 0 for key in ("nodes", "edges")), (len(nodes), len(edges))
    checks = _good(tree, ("checks",), problems, "first")
    spec = Spec(file, name, nodes, edges, VERSION, dict(params), LimitsSpec(shm), allow, drain_s, checks, places=problems.places)
    if problems:
        return replace(spec, partial=tuple(given) != kept, bad=problems.bad)
    return replace(spec, digest=digest_of(spec))


def _entries(tree: dict[str, Any], key: str, required: tuple[str, ...], problems: Problems) -> list[tuple[int, dict[str, Any]]]:
    """The entries of a list that are mappings and whose required values are right, with their indexes."""
    entries = tree.get(key)
    if not isinstance(entries, list):
        return []
    good = []
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and not any(problems.is_bad((key, index, name)) for name in required):
            good.append((index, entry))
    return good


def _good(entry: Any, where: Where, problems: Problems, default: Any) -> Any:
    """The value of entry[last part of where], or the default if it is missing or has a problem."""
    value = entry.get(where[-1]) if isinstance(entry, dict) else None
    return default if value is None or problems.is_bad(where) else value


def _node(entry: dict[str, Any], where: Where, problems: Problems) -> NodeSpec:
    def value(name: str, default: Any) -> Any:
        return _good(entry, (*where, name), problems, default)

    ring = value("ring", {})
    sizes = {name: _good(ring, (*where, "ring", name), problems, None) for name in _RING}
    startup_s = float(value("startup_s", limits.STARTUP_S))
    return NodeSpec(entry["id"], entry["plugin"], value("config", {}), startup_s, RingSpec(**sizes), _care(entry, where, problems), where)


def _care(entry: dict[str, Any], where: Where, problems: Problems) -> CareSpec:
    def value(*path: str) -> Any:
        found: Any = entry
        for length in range(1, len(path) + 1):
            found = _good(found, (*where, *path[:length]), problems, None)
        return float(found) if found is not None and path[-1].endswith("_s") else found  # 1 and 1.0 are the same graph

    restart, on_error = value("restart"), value("on_error")
    kept = {"policy": restart} if isinstance(restart, str) else {name: value("restart", name) for name in _RESTART}
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
        checks=value("checks"),
    )


def _edge(entry: dict[str, Any], where: Where, problems: Problems) -> EdgeSpec:
    def value(name: str, default: Any) -> Any:
        return _good(entry, (*where, name), problems, default)

    policy, completion = value("policy", "block"), value("completion", "hop")
    return EdgeSpec(entry["from"], entry["to"], policy, value("depth", None), value("rate", None), completion, where)


def name_of(file: str) -> str:
    """The name of a spec that gives none: its file's, made into an id."""
    stem = re.sub(r"[^a-z0-9_-]+", "-", Path(file).stem.lower()).strip("-")
    return re.sub(r"^[^a-z]+", "", stem)[:32] or "spec"


def digest_of(spec: Spec) -> str:
    """SHA-256 of what decides what runs; where it stands, and values of params that nothing uses, do not count."""
    nodes = [(n.id, n.plugin, n.config, n.startup_s, asdict(n.ring), asdict(n.care)) for n in spec.nodes]
    edges = [(e.from_, e.to, e.policy, e.depth, e.rate, e.completion) for e in spec.edges]
    text = json.dumps([spec.version, spec.name, spec.limits.shm, spec.allow, spec.drain_s, spec.checks, nodes, edges], sort_keys=True)
    return sha256(text.encode()).hexdigest()
