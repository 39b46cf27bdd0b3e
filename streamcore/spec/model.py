"""The frozen model of a spec, and the place (file, line, column) of everything in it.

Paths inside a spec are tuples of keys and indexes, ("edges", 1, "policy"); people read and write them as `edges[1].policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Union

from streamcore.limits import DRAIN_S, STARTUP_S

Where = tuple[Union[str, int], ...]
OUTBOX, SPILL = "outbox", "spill"  # what an edge may bring a hidden node for
HIDDEN_PLUGINS = {OUTBOX: "durable.queue", SPILL: "durable.spill"}
POLICIES = ("block", "drop_new", "drop_oldest", "latest", "sample", SPILL)
COMPLETIONS = ("hop", "delivered")
RESTARTS = ("never", "on_failure", "always")
GIVE_UPS = ("stop_run", "isolate")
ON_EXCEED = ("restart", "warn")
PAYLOADS = ("array", "json", "bytes", "any")  # what a port of a sub-graph may claim
CHECKS = ("off", "first", "all")
PLAIN_KEY = re.compile(r"[\w.-]{1,64}")  # what messages show without quotes
_PATH_KEY = re.compile(r"[\w-]{1,64}")
_PATH_CHARS_MAX = 120
_PATH_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class Mark(NamedTuple):
    """A place in a file. `line` and `column` count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int


_NOT_MOVED: Mapping[Where, Where] = MappingProxyType({})


class Place:
    """Where one value stands, and the places of what is in it. A tree beside the values, so that values stay plain.

    The tree of an included file hangs below the `include:` that names it; its root carries the file's name.
    `moved`, of the root: paths in the model to paths in the file, for what the loader has put elsewhere; what lies below moves along.
    """

    __slots__ = ("children", "column", "file", "key", "line", "moved", "written")

    def __init__(self, line: int = 0, column: int = 0):
        self.line, self.column = line, column
        self.file = ""  # of the root of an included file
        self.key: tuple[int, int] | None = None  # (line, column) of the key of this value
        self.written = ""  # the text that stands here, if interpolation has made another value of it
        self.children: dict[str | int, Place] = {}
        self.moved: Mapping[Where, Where] = _NOT_MOVED

    def as_written(self, where: Where) -> Where:
        """The path by which whoever wrote the file knows a value of the model."""
        for length in range(len(where), 0, -1) if self.moved else ():
            if where[:length] in self.moved:
                return (*self.moved[where[:length]], *where[length:])
        return where

    def nearest(self, where: Where) -> tuple[Place, bool]:
        """The place of the value at `where`, or of the nearest enclosing value if it is not written in the file, and whether it is."""
        place = self
        for part in self.as_written(where):
            child = place.children.get(part)
            if child is None:
                return place, False
            place = child
        return place, True

    def find(self, where: Where, at_key: bool = False) -> tuple[int, int]:
        """(line, column) of the value at `where`, or of its key; of the nearest enclosing value if it is not written in the file."""
        place, exact = self.nearest(where)
        return place.key if at_key and exact and place.key else (place.line, place.column)

    def file_of(self, where: Where) -> tuple[str, Where]:
        """The included file in which `where` lies ("" for the file itself), and its path within that file."""
        place, file, begin = self, "", 0
        where = self.as_written(where)
        for count, part in enumerate(where, 1):
            child = place.children.get(part)
            if child is None:
                break
            place = child
            if place.file:
                file, begin = place.file, count
        return file, where[begin:]

    def graft(self, root: Place, file: str) -> None:
        """Hang the tree of an included file below this value. What is missing there is missing from the file as a whole."""
        self.file, self.children = file, root.children
        self.line, self.column = root.line, root.column


@dataclass(frozen=True)
class RingSpec:
    """`ring:` of a node: for the rings of all its output ports. None means planned by streamcore."""

    slots: int | None = None
    slot_bytes: int | None = None
    meta_bytes: int | None = None


@dataclass(frozen=True)
class RestartSpec:
    """`restart:` of a node. None means the default of graph.model.RestartPlan."""

    policy: str | None = None
    max_restarts: int | None = None
    window_s: float | None = None
    backoff_s: float | None = None
    backoff_max_s: float | None = None
    on_give_up: str | None = None


@dataclass(frozen=True)
class HttpSpec:
    """`http:`, where a run can be looked at. `exposed`: beyond loopback, and that is meant."""

    port: int
    host: str = "127.0.0.1"
    exposed: bool = False


@dataclass(frozen=True)
class CareSpec:
    """How a node is watched and what follows from what it does wrong. None means the default of graph.model.NodePlan.

    `on_error`: fail_packet, stop or retry, the last with `retries`. `rss` in bytes, of `limits:`, as is `on_exceed`. `checks`: None means
    that of the spec.
    """

    restart: RestartSpec = RestartSpec()
    heartbeat_s: float | None = None
    progress_s: float | None = None
    poison_limit: int | None = None
    on_error: str | None = None
    retries: int | None = None
    rss: int | None = None
    on_exceed: str | None = None
    drain_s: float | None = None
    checks: str | None = None


@dataclass(frozen=True)
class ProcessSpec:
    """What the operating system gives a node's process: more environment, the CPUs that it may use, its niceness (0: as streamctl)."""

    env: Mapping[str, Any] = field(default_factory=dict)
    cpu_affinity: tuple[int, ...] = ()
    nice: int = 0


@dataclass(frozen=True)
class NodeSpec:
    """One node. `config` is as written, interpolated, without the plugin's defaults, and may hold a Secret; `where` is where it is written.

    The id of a node that `for_each` or `include` has made is dotted: gate.front.camera. `hidden`: outbox or spill, for which an edge has
    brought it; see graph/hidden.py.
    """

    id: str
    plugin: str
    config: Mapping[str, Any] = field(default_factory=dict)
    startup_s: float = STARTUP_S
    ring: RingSpec = RingSpec()
    care: CareSpec = CareSpec()
    where: Where = ()
    process: ProcessSpec = ProcessSpec()
    hidden: str = ""


@dataclass(frozen=True)
class EdgeSpec:
    """One entry of `edges:`. Ends read "node" or "node.port"; depth None means the default of the producer's port.

    `outbox`, `spill`: options of the hidden node, as written; None: not given. `written`: of the two edges at a hidden node, the one that
    they were made of.
    """

    from_: str
    to: str
    policy: str = "block"
    depth: int | None = None
    rate: float | None = None
    completion: str = "hop"
    where: Where = ()
    outbox: Mapping[str, Any] | None = None
    spill: Mapping[str, Any] | None = None
    written: EdgeSpec | None = None


@dataclass(frozen=True)
class PortSpec:
    """A port that a sub-graph shows, of its own `ports:`. `end` is the node's port behind it; `kind` and `payload` "" if it claims none."""

    name: str
    side: str  # inputs or outputs
    end: str
    kind: str = ""
    payload: str = ""
    where: Where = ()


@dataclass(frozen=True)
class LimitsSpec:
    """`limits:`. shm in bytes, or None."""

    shm: int | None = None


@dataclass(frozen=True)
class Spec:
    """A spec as it takes effect: interpolated and with its defaults.

    `ports` are its own, which make it a sub-graph, and those of all that it includes; `includes` are the files that were read for it.
    `digest` is the SHA-256 of everything that decides what runs. A spec with problems has none, and is judged further only where it is
    right: `partial` is True if entries were left out, so that nothing may be concluded from what is missing; `bad` are the places that
    have problems.
    """

    file: str
    name: str
    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]
    version: int = 2
    params: Mapping[str, Any] = field(default_factory=dict)
    limits: LimitsSpec = LimitsSpec()
    allow: tuple[str, ...] = ()
    drain_s: float = DRAIN_S
    checks: str = "first"
    ports: tuple[PortSpec, ...] = ()
    includes: tuple[str, ...] = ()
    http: HttpSpec | None = None
    digest: str = ""
    partial: bool = False
    bad: frozenset[Where] = frozenset()
    places: Place = field(default_factory=Place, repr=False, compare=False)

    def mark(self, where: str | Where, at_key: bool = False) -> Mark:
        """The place of a value, e.g. spec.mark("nodes[1].config.min_area"); of what encloses it if the value is a default."""
        parts = parse_path(where) if isinstance(where, str) else where
        return Mark(self.places.file_of(parts)[0] or self.file, *self.places.find(parts, at_key))


def parse_path(text: str) -> Where:
    """`edges[1].policy` as a tuple. Keys that contain dots or brackets can only be named by a tuple."""
    return tuple(int(index) if index else key for index, key in _PATH_PART.findall(text))


def format_path(where: Where) -> str:
    """A tuple as people read it; the spec as a whole is `spec`."""
    text = "".join(f".{part}" if isinstance(part, str) and _PATH_KEY.fullmatch(part) else f"[{part!r}]" for part in where)
    text = text.removeprefix(".") or "spec"
    return text if len(text) <= _PATH_CHARS_MAX else f"{text[:_PATH_CHARS_MAX]}..."
