"""Classes that break the contract of the node API."""

from __future__ import annotations

from subprocess import Popen

from streamcore import Node, Port, Sink, Source

Popen = Popen  # something that may be imported but is no node


class Deaf(Node):
    outputs = {"out": Port("frame")}

    def process(self, packet):
        return None


class Fed(Source):
    inputs = {"in": Port("frame")}

    def run(self):
        yield from ()


class Giving(Sink):
    inputs = {"in": Port("frame")}
    outputs = {"out": Port("frame")}

    def process(self, packet):
        return None


class Lazy(Source):
    outputs = {"out": Port("frame")}


class Untyped(Source):
    outputs = {"out": "frame"}

    def run(self):
        yield from ()


class BadSchema(Source):
    outputs = {"out": Port("frame")}
    config = {"rate": {"type": "speed"}}

    def run(self):
        yield from ()


class BadNumbers(Source):
    outputs = {"out": Port("frame")}
    retention = "window"

    def run(self):
        yield from ()


class Raising(Source):
    outputs = {"out": Port("frame")}
    config = {"rate": {"check_with": lambda field, value, error: 1 // 0}}

    def run(self):
        yield from ()


class PortList(Source):
    outputs = ["out"]

    def run(self):
        yield from ()


class PortName(Source):
    outputs = {"Out": Port("frame")}

    def run(self):
        yield from ()


class Kindless(Source):
    outputs = {"out": Port("")}

    def run(self):
        yield from ()


class Forwarding(Node):
    inputs = {"in": Port("frame")}
    outputs = {"out": Port("frame", forwards=("into",))}

    def process(self, packet):
        return None


class ForwardingJson(Node):
    inputs = {"in": Port("frame", "json")}
    outputs = {"out": Port("frame", forwards=("in",))}

    def process(self, packet):
        return None


class Both(Source, Sink):
    def run(self):
        yield from ()


class Outer:
    class Inner(Source):
        outputs = {"out": Port("frame")}

        def run(self):
            yield from ()


Hidden = Outer.Inner


class NoWork(Node):
    inputs = {"in": Port("frame")}


class ConfigList(Source):
    outputs = {"out": Port("frame")}
    config = ["path"]

    def run(self):
        yield from ()


class BatchZero(Node):
    inputs = {"in": Port("frame")}
    batch_max = 0

    def process(self, packet):
        return None
