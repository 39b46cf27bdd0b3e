"""streamcore: streaming pipelines on edge boxes, one process per node, frames in shared memory.

The names that plugin authors use: `Node`, `Source`, `Sink`, `Port`, `StreamPacket`, `array`, `json_schema`, `PayloadError`,
`ConfigError`, `JobError`, `DeliveryFailed`, `DeliveryRefused`, `DestinationAway`; `DurableStore`, `Recorder` and `Recording`, for nodes
that must not lose what they hold; and `Graph` and `SecretRef`, for graphs built in Python. They are loaded on first use, so that
`import streamcore` costs a millisecond.
"""

from __future__ import annotations

import sys

__version__ = "0.1.0"

TYPE_CHECKING = False  # known to type checkers by its name; `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from streamcore.durable.recorder import Recorder
    from streamcore.durable.recording import Recording
    from streamcore.durable.store import DurableStore
    from streamcore.errors import ConfigError, DeliveryFailed, DeliveryRefused, DestinationAway, JobError, PayloadError
    from streamcore.graph.building import Graph
    from streamcore.node.api import Node, Port, Sink, Source
    from streamcore.packet import StreamPacket, array, json_schema
    from streamcore.secret import SecretRef

_HOMES = {
    "Node": "streamcore.node.api",
    "Port": "streamcore.node.api",
    "Sink": "streamcore.node.api",
    "Source": "streamcore.node.api",
    "StreamPacket": "streamcore.packet",
    "array": "streamcore.packet",
    "json_schema": "streamcore.packet",
    "ConfigError": "streamcore.errors",
    "DeliveryFailed": "streamcore.errors",
    "DeliveryRefused": "streamcore.errors",
    "DestinationAway": "streamcore.errors",
    "DurableStore": "streamcore.durable.store",
    "Graph": "streamcore.graph.building",
    "JobError": "streamcore.errors",
    "PayloadError": "streamcore.errors",
    "Recorder": "streamcore.durable.recorder",
    "Recording": "streamcore.durable.recording",
    "SecretRef": "streamcore.secret",
}

__all__ = [
    "ConfigError",
    "DeliveryFailed",
    "DeliveryRefused",
    "DestinationAway",
    "DurableStore",
    "Graph",
    "JobError",
    "Node",
    "PayloadError",
    "Port",
    "Recorder",
    "Recording",
    "SecretRef",
    "Sink",
    "Source",
    "StreamPacket",
    "__version__",
    "array",
    "json_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamcore' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


class _Doorkeeper:
    """Stands first in sys.meta_path until a room of the inner loop is entered, then leaves its place to the finder of streamcore.native."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(("streamcore.node.", "streamcore.shm.", "streamcore.wire.")):
            return None
        from streamcore.native import finder

        if cls in sys.meta_path:  # in place: the import system is walking along this list
            sys.meta_path[sys.meta_path.index(cls)] = finder
        return finder.find_spec(name, path, target)


sys.meta_path.insert(0, _Doorkeeper)
