"""Nodes for cycles: one that a cycle may pass through, and some that it connects."""

from __future__ import annotations

from streamcore import Node, Port, array

ANY = Port("any", "any")


class _Processing(Node):
    def process(self, packet):
        return None


class Later(_Processing):
    inputs = {"in": ANY}
    outputs = {"out": Port("any", "any", forwards=())}
    breaks_cycles = True


class Steered(_Processing):
    inputs = {"in": Port("frame", array("uint8", ndim=3)), "hint": Port("any", "json", required=False)}
    outputs = {"frames": Port("frame", array("uint8", ndim=3)), "hints": Port("any", "json")}


class Pinning(_Processing):
    inputs = {"in": ANY}
    outputs = {"out": ANY}
    breaks_cycles = True
