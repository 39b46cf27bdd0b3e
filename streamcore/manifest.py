"""The manifest of a plugin: all that its class declares, as data. Graphs are checked and planned from manifests; only processes that run
or read a plugin hold its class.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from streamcore.node.api import Node, Port, role_of

_DEPTH_MAX = 32  # of a schema; a deeper one refers to itself
_BY_NAME = ("schema", "valuesrules", "keysrules", "allow_unknown")  # where a text is the name of a rule set that the plugin registered


class Manifest(msgspec.Struct, frozen=True):
    """What one plugin declares.

    Attributes:
      name: as the spec names it.                  target: `package.module:Class`, where the class is defined.
      role: source, sink or node.                  doc: the class's own docstring.
      config: its Cerberus schema.                 retention, batch_max: a number, or the name of a config key.
      has_code: `config` is no pure data (it calls functions, or names rule sets that the plugin registered). Then `config` only shows it
        to people, and a config can be checked only where the class is.
    """

    name: str
    target: str
    role: str
    doc: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    config: dict[str, Any]
    retention: int | str
    batch_max: int | str
    has_code: bool = False
    breaks_cycles: bool = False

    @classmethod
    def of(cls, plugin: type[Node], name: str = "") -> Manifest:
        """The manifest of a class that keeps the contract of the node API (plugins.check_shape)."""
        rules, exact = _as_data(plugin.config)
        return cls(
            name=name or plugin.__name__,
            target=target_of(plugin),
            role=role_of(plugin),
            # Its own words; those of Node, Source and Sink tell authors how to subclass, not users what it does.
            doc=inspect.cleandoc(plugin.__doc__ or ""),
            inputs={port: _plain(value) for port, value in plugin.inputs.items()},
            outputs={port: _plain(value) for port, value in plugin.outputs.items()},
            config=rules,
            retention=plugin.retention,
            batch_max=plugin.batch_max,
            has_code=not exact or not all(isinstance(rule, dict) for rule in rules.values()),
            breaks_cycles=plugin.breaks_cycles,
        )

    @property
    def class_name(self) -> str:
        return self.target.partition(":")[2]

    @property
    def module(self) -> str:
        """Where the class is defined."""
        return self.target.partition(":")[0]


def target_of(plugin: type[Node]) -> str:
    """`package.module:Class`, by which a node process loads the class again."""
    return f"{plugin.__module__}:{plugin.__qualname__}"


def _plain(port: Port) -> Port:
    """A Port and no subclass of it, with types that can travel."""
    forwards = None if port.forwards is None else tuple(port.forwards)
    return Port(port.kind, port.profile, bool(port.required), forwards, str(port.doc), port.transport)


def _as_data(value: Any, depth: int = 0) -> tuple[Any, bool]:
    """A copy that JSON can carry, and whether it says all that the value says."""
    if value is None or type(value) in (bool, str):
        return value, True
    if type(value) is int:
        return value, -(2**63) <= value < 2**63
    if type(value) is float:
        return (value, True) if math.isfinite(value) else (str(value), False)
    if depth == _DEPTH_MAX:
        return "...", False
    if isinstance(value, Mapping):
        pairs = {str(key): (type(key) is str, *_as_data(inner, depth + 1)) for key, inner in value.items()}
        by_name = any(isinstance(value.get(rule), str) for rule in _BY_NAME)
        exact = not by_name and all(plain and same for plain, _, same in pairs.values())
        return {key: copy for key, (_, copy, _) in pairs.items()}, exact
    if isinstance(value, (list, tuple, set, frozenset)):
        ordered = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        items = [_as_data(inner, depth + 1) for inner in ordered]
        return [copy for copy, _ in items], ordered is value and all(same for _, same in items)
    return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>", False
