"""Sinks of the rig that do not take what they are given, and a node that tries again while they do not."""

from __future__ import annotations

from collections.abc import Iterator

from streamcore import DeliveryRefused, DestinationAway, Node, Port, Sink, StreamPacket
from streamcore.errors import StoreError, StreamcoreError


class Letterbox(Sink):
    """Refuses the numbers in `refused`, is away for those in `away`, stumbles over those in `bad`, takes the rest; from the number `broken`
    on its disk fails.
    """

    inputs = {"in": Port("any", "any")}

    def process(self, packet: StreamPacket) -> None:
        if packet.meta["n"] >= self.config.get("broken", 1 << 60):
            raise StoreError("store: Input/output error")
        for key, error in (("refused", DeliveryRefused), ("away", DestinationAway), ("bad", ValueError)):
            if packet.meta["n"] in self.config.get(key, ()):
                raise error(f"{key}: {packet.meta['n']}")


class LetterboxOfBatches(Letterbox):
    """The same, several at once."""

    batch_max = 4

    def process_batch(self, packets: list[StreamPacket]) -> None:
        for packet in packets:
            try:
                self.process(packet)
            except (ValueError, StreamcoreError) as error:
                self.fail(packet, error)


class SecondThought(Node):
    """Makes eight packets of each; over those in `bad` it raises once, when it has emitted all: the retry emits none again."""

    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}

    def setup(self) -> None:
        self.regretted: set[int] = set()

    def process(self, packet: StreamPacket) -> Iterator[StreamPacket]:
        number = packet.meta["n"]
        for part in range(8):
            yield packet.derive(payload=part, meta={"n": 8 * number + part})
        if number in self.config["bad"] and number not in self.regretted:
            self.regretted.add(number)
            raise ValueError(f"on second thought: {number}")
