"""Sinks of the rig that do not take what they are given."""

from __future__ import annotations

from streamcore import DeliveryRefused, DestinationAway, Port, Sink, StreamPacket
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
