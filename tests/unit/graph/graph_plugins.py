"""Nodes of every shape that the graph tests connect."""

from __future__ import annotations

from streamcore import Node, Port, Sink, Source, array

FRAME = Port("frame", array("uint8", ndim=3))
JSON = Port("detections", "json")


class Camera(Source):
    outputs = {"out": FRAME}
    config = {"path": {"type": "string", "default": "a.mp4"}, "buffer": {"type": "size", "default": "1MiB"}}

    def run(self):
        yield from ()


class Numbers(Source):
    outputs = {"out": JSON}

    def run(self):
        yield from ()


class Stereo(Source):
    outputs = {"left": FRAME, "right": FRAME}

    def run(self):
        yield from ()


class _Processing(Node):
    def process(self, packet):
        return None


class Forward(_Processing):
    inputs = {"in": FRAME}
    outputs = {"out": FRAME}


class Copy(_Processing):
    inputs = {"in": FRAME}
    outputs = {"out": Port("frame", array("uint8", ndim=3), forwards=())}


class Detect(_Processing):
    inputs = {"in": FRAME}
    outputs = {"frames": FRAME, "detections": JSON}


class Split(_Processing):
    inputs = {"in": FRAME}
    outputs = {"one": FRAME, "two": FRAME}


class Pair(_Processing):
    inputs = {"left": FRAME, "right": FRAME, "hint": Port("detections", "json", required=False)}
    outputs = {"out": Port("frame", array("uint8", ndim=3), forwards=("left",))}


class Batch(_Processing):
    inputs = {"in": FRAME}
    outputs = {"out": JSON}
    config = {"size": {"type": "integer", "min": 1, "default": 4}, "keep": {"type": "integer", "default": 3}}
    batch_max = "size"
    retention = "keep"


class Anything(_Processing):
    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}


class Later(_Processing):
    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any", forwards=())}
    breaks_cycles = True


class Out(Sink):
    inputs = {"in": Port("any", "any")}

    def process(self, packet):
        return None


class JsonOut(Sink):
    inputs = {"in": JSON}

    def process(self, packet):
        return None
