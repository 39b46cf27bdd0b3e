"""A plugin that loads when the spec is checked and no more when a node process loads it: what a half-finished deployment looks like."""

from __future__ import annotations

import sys

from streamcore import Node, Port, StreamPacket

if "streamcore.node" in " ".join(sys.orig_argv):
    raise ImportError("this module has been replaced meanwhile")


class Forward(Node):
    inputs, outputs = {"in": Port("any", "any")}, {"out": Port("any", "any")}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload)
