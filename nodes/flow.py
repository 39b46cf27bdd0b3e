"""flow.forward, flow.tee and flow.sample: packets of any kind passed on by reference."""

from __future__ import annotations

from collections.abc import Iterator

from streamcore import ConfigError, Node, Port, StreamPacket

ANY = Port("any", "any")


class Forward(Node):
    """Pass every packet on as it is; arrays as references, not copies."""

    inputs = {"in": ANY}
    outputs = {"out": ANY}

    def process(self, packet: StreamPacket) -> StreamPacket:
        return packet.derive(payload=packet.payload, kind=packet.kind)


class Tee(Node):
    """Pass every packet on by two ports, `a` and then `b`.

    One port may feed several edges without this node; it gives each branch a port, and so counters and entries, of its own.
    """

    inputs = {"in": ANY}
    outputs = {"a": ANY, "b": ANY}

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        yield packet.derive(payload=packet.payload, kind=packet.kind, port="a")
        yield packet.derive(payload=packet.payload, kind=packet.kind, port="b")


class Sample(Node):
    """Pass on some packets: the first and then each `every`-th, or at most `rate` per second of capture time, evenly spaced.

    What is left out is completed, not dropped: it does not count as a loss. The policy `sample` of an edge does the same with a count.
    """

    inputs = {"in": ANY}
    outputs = {"out": ANY}
    config = {
        "every": {"type": "integer", "min": 1, "excludes": "rate", "meta": {"doc": "one of so many"}},
        "rate": {"type": "number", "min": 0.001, "max": 1e6, "meta": {"doc": "packets per second, in place of `every`"}},
    }

    def setup(self) -> None:
        if "every" not in self.config and "rate" not in self.config:
            raise ConfigError("flow.sample: found neither every nor rate, expected one of them")
        self.seen = 0
        self.due_ns: int | None = None

    def process(self, packet: StreamPacket) -> StreamPacket | None:
        chosen = self._each() if "every" in self.config else self._spaced(packet.capture_ns)
        return packet.derive(payload=packet.payload, kind=packet.kind) if chosen else None

    def _each(self) -> bool:
        self.seen += 1
        return bool((self.seen - 1) % self.config["every"] == 0)

    def _spaced(self, now_ns: int) -> bool:
        period_ns = round(1e9 / self.config["rate"])
        due_ns = self.due_ns
        if due_ns is not None and due_ns - period_ns <= now_ns < due_ns:
            return False
        on_grid = due_ns is not None and due_ns <= now_ns < due_ns + period_ns  # else: too late, or a source whose time began anew
        self.due_ns = (due_ns if on_grid else now_ns) + period_ns
        return True
