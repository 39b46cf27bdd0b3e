"""Proper nodes of every shape that the bad specs connect wrongly."""

from __future__ import annotations

from streamcore import Node, Port, Sink, Source, array

FRAME = Port("frame", array("uint8", ndim=3))


class Camera(Source):
    outputs = {"out": FRAME}
    config = {
        "path": {"type": "string"},
        "rate": {"type": "float", "min": 1, "max": 240, "default": 30},
        "pace": {"type": "string", "allowed": ["realtime", "none"], "default": "none"},
        "buffer": {"type": "size", "max": 2**30, "default": "1MiB"},
        "loop": {"type": "boolean", "default": False},
        "region": {"type": "list", "schema": {"type": "integer", "min": 0}, "minlength": 4, "maxlength": 4},
        "size": {"type": "dict", "schema": {"width": {"type": "integer", "required": True}, "height": {"type": "integer"}}},
    }

    def run(self):
        yield from ()


class Motion(Node):
    inputs = {"in": FRAME}
    outputs = {"frames": FRAME, "detections": Port("detections", "json")}

    def process(self, packet):
        return None


class Events(Node):
    inputs = {"in": Port("detections", "json")}
    outputs = {"out": Port("event", "json")}
    config = {"window": {"type": "integer", "default": 3}, "label": {"type": "string", "required": True}}
    retention = "window"

    def process(self, packet):
        return None


class Gray(Node):
    inputs = {"in": Port("frame", array("uint8", ndim=2))}
    outputs = {"out": Port("frame", array("uint8", ndim=2))}

    def process(self, packet):
        return None


class Blur(Node):
    inputs = {"in": FRAME}
    outputs = {"out": FRAME}

    def process(self, packet):
        return None


class Join(Node):
    inputs = {"left": FRAME, "right": FRAME, "hint": Port("detections", "json", required=False)}
    outputs = {"out": FRAME}

    def process(self, packet):
        return None


class File(Sink):
    inputs = {"in": Port("any", "any")}

    def process(self, packet):
        return None


def _is_even(field, value, error):
    if value % 2:
        error(field, f"{value} is odd")


class Paired(Source):
    outputs = {"out": FRAME}
    config = {"count": {"type": "integer", "check_with": _is_even}, "mode": {"type": "string", "allowed": ["fast", "slow"]}}

    def run(self):
        yield from ()


class Told(Sink):
    inputs = {"in": Port("frame", "json")}

    def process(self, packet):
        return None


class Batch(Node):
    inputs = {"in": FRAME}
    outputs = {"out": FRAME}
    config = {"size": {"type": "integer", "default": 4}}
    batch_max = "size"

    def process_batch(self, packets):
        return None
