"""The rules of a spec: keys, types, bounds. One source for the checks, for `streamctl schema` and for the documents' tests."""

from __future__ import annotations

import re
from typing import Any

from streamcore import limits
from streamcore.spec.addresses import PORT_MAX
from streamcore.spec.model import CHECKS, COMPLETIONS, GIVE_UPS, ON_EXCEED, PAYLOADS, POLICIES, RESTARTS

VERSION = 2
DURATION_S_MAX = 3600  # an hour; more is a unit mistaken
PROGRESS_S_MAX = 24 * 3600  # of one process() call: a batch job may take a night
HEARTBEAT_S_MIN = 3  # the thread ticks once a second, and a loaded box may skip one
RESTARTS_MAX, POISON_LIMIT_MAX, RETRIES_MAX = 10_000, 100, 100
RSS_BYTES_MIN = 32 * limits.MIB  # less than an interpreter with numpy and pyzmq takes
CPU_MAX = 4095
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
META_BYTES_MIN = 512  # packet id, kind, source id and a slot reference take up to 400
# One record of metadata on top of a full batch must stay below the size of a message; 1 KiB is for headers.
META_BYTES_MAX = limits.MESSAGE_BYTES_MAX - limits.BATCH_BYTES_MAX - 1 * limits.KIB

RING = {
    "slots": {"type": "integer", "min": 2, "max": limits.ENTRIES_MAX},
    "slot_bytes": {"type": "size", "min": limits.PAGE_BYTES, "max": limits.SLOT_BYTES_MAX},
    "meta_bytes": {"type": "size", "min": META_BYTES_MIN, "max": META_BYTES_MAX},
}
SECONDS = {"type": "number", "min": 0, "max": DURATION_S_MAX}
RESTART = {
    "policy": {"type": "string", "allowed": RESTARTS},
    "max_restarts": {"type": "integer", "min": 0, "max": RESTARTS_MAX},
    "window_s": {"type": "number", "min": 1, "max": DURATION_S_MAX},
    "backoff_s": SECONDS,
    "backoff_max_s": SECONDS,
    "on_give_up": {"type": "string", "allowed": GIVE_UPS},
}
ON_ERROR = {"retry": {"type": "integer", "min": 1, "max": RETRIES_MAX, "required": True}}
NODE_LIMITS = {"rss": {"type": "size", "min": RSS_BYTES_MIN, "required": True}, "on_exceed": {"type": "string", "allowed": ON_EXCEED}}


def _on_error(value: Any) -> Any:
    """`retry(3)` is another way to write {retry: 3}."""
    match = re.fullmatch(r"retry\(([0-9]{1,9})\)", value) if isinstance(value, str) else None
    return {"retry": int(match[1])} if match else value


def _cpus(value: Any) -> Any:
    """`0-3,6` is another way to write [0, 1, 2, 3, 6]."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", value):
        return value
    found: list[int] = []
    for part in value.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found if max(found, default=0) <= CPU_MAX else value  # one problem for the text, not one for each number


NODE: dict[str, Any] = {
    "id": {"type": "string", "required": True, "meta": {"words": "an id such as camera"}},
    "plugin": {"type": "string", "required": True, "meta": {"words": "a plugin such as video.file"}},
    "include": {"type": "string", "meta": {"words": "the file of a sub-graph, instead of a plugin"}},
    "for_each": {"type": ["list", "dict", "integer"], "meta": {"words": "a list, a mapping or a number of instances"}},
    "config": {"type": "dict"},
    "startup_s": {"type": "number", "min": 0.1, "max": DURATION_S_MAX},
    "heartbeat_s": {"type": "number", "min": HEARTBEAT_S_MIN, "max": DURATION_S_MAX},
    "progress_s": {"type": "number", "min": 0.1, "max": PROGRESS_S_MAX},
    "restart": {"type": ["string", "dict"], "words": RESTARTS, "schema": RESTART},
    "on_error": {
        "type": ["string", "dict"],
        "words": ("fail_packet", "stop"),
        "coerce": _on_error,
        "schema": ON_ERROR,
        "meta": {"words": "one of: fail_packet, stop, {retry: N}"},
    },
    "poison_limit": {"type": "integer", "min": 0, "max": POISON_LIMIT_MAX},
    "drain_s": SECONDS,
    "limits": {"type": "dict", "schema": NODE_LIMITS},
    "checks": {"type": "string", "allowed": CHECKS},
    "env": {
        "type": "dict",
        "keysrules": {"type": "string", "regex": ENV_NAME, "meta": {"words": "a name"}},
        "valuesrules": {"type": ["string", "number", "boolean"]},
    },
    "cpu_affinity": {
        "type": "list",
        "coerce": _cpus,
        "minlength": 1,
        "schema": {"type": "integer", "min": 0, "max": CPU_MAX},
        "meta": {"words": f"CPU numbers up to {CPU_MAX}, as [0, 1] or 0-3,6"},
    },
    "nice": {"type": "integer", "min": -20, "max": 19},
    "ring": {"type": "dict", "schema": RING},
}
EDGE: dict[str, Any] = {
    "from": {"type": "string", "required": True, "meta": {"words": "the producer: node or node.port"}},
    "to": {"type": "string", "required": True, "meta": {"words": "the consumer: node or node.port"}},
    "policy": {"type": "string", "allowed": POLICIES},
    "depth": {"type": "integer", "min": 1, "max": limits.DEPTH_MAX},
    "rate": {"type": "number", "min": 0.001, "max": 1_000_000},
    "completion": {"type": "string", "allowed": COMPLETIONS},
    # What is in these two is checked as the config of the node that they bring.
    "outbox": {"type": ["boolean", "dict"], "meta": {"words": "true, or a mapping with config of durable.queue"}},
    "spill": {"type": "dict", "meta": {"words": "a mapping with config of durable.spill"}},
}
PORT = {
    "port": {"type": "string", "required": True, "meta": {"words": "the node's port behind it: node or node.port"}},
    "kind": {"type": "string", "minlength": 1, "maxlength": limits.KIND_CHARS_MAX},
    "payload": {"type": "string", "allowed": PAYLOADS},
}
PORTS = {"type": "dict", "valuesrules": {"type": ["string", "dict"], "schema": PORT, "meta": {"words": "node.port, or {port: node.port}"}}}
# What stands where a sub-graph is put into a graph, instead of a node.
INCLUDE = {
    "id": NODE["id"],
    "include": {**NODE["include"], "required": True},
    "for_each": NODE["for_each"],
    "with": {"type": "dict"},
}
HTTP = {
    "port": {"type": "integer", "min": 0, "max": PORT_MAX, "required": True},
    "host": {"type": "string", "meta": {"words": "an address such as 127.0.0.1"}},
    "exposed": {"type": "boolean"},
}
TOP = {
    "version": {"required": True, "meta": {"words": f"{VERSION}, or 1 for a job"}},
    "name": {"type": "string"},
    "params": {"type": "dict"},
    "limits": {"type": "dict", "schema": {"shm": {"type": "size", "min": limits.MIB}}},
    "drain_s": {"type": "number", "min": 0, "max": DURATION_S_MAX},
    "checks": {"type": "string", "allowed": CHECKS},
    "http": {
        "type": ["integer", "dict"],
        "min": 0,
        "max": PORT_MAX,
        "schema": HTTP,
        "meta": {"words": "a mapping with port, host and exposed, or a port"},
    },
    "allow": {"type": "list", "schema": {"type": "string"}},
    "ports": {"type": "dict", "schema": {"inputs": PORTS, "outputs": PORTS}},
    "nodes": {
        "type": "list",
        "required": True,
        "minlength": 1,
        "meta": {"words": "a list of nodes"},
        "schema": {"type": "dict", "schema": NODE},
    },
    "edges": {"type": "list", "meta": {"words": "a list of edges"}, "schema": {"type": "dict", "schema": EDGE}},
}
# Of an included file: its nodes and edges are checked where they end up, in the graph that includes it.
SUBGRAPH = {
    **{key: TOP[key] for key in ("version", "name", "params", "ports")},
    "nodes": {"type": "list", "required": True, "minlength": 1, "meta": {"words": "a list of nodes"}},
    "edges": {"type": "list", "meta": {"words": "a list of edges"}},
}
