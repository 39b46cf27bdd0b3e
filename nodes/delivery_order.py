"""Order through failures: behind a durable queue whose packets are under way together, what follows a failed one must not overtake it."""

from __future__ import annotations

from streamcore import DestinationAway, StreamPacket

META_KEY = "durable"


class DeliveryOrder:
    """What a sink asks before it delivers a packet, and tells when that fails. Of what comes from no durable queue it knows nothing.

    A packet that failed is held up until it comes again, or until the queue says that it has given it up. So nothing has to be sent one by
    one: what is under way behind a failure comes back untried.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}  # key: the sequence that has to come first

    def check(self, packet: StreamPacket) -> None:
        """Raises DestinationAway for one that has to wait for an earlier one of its key."""
        told = self._told(packet)
        held = self._held.get(told.get("key", "")) if told else None
        if held is None:
            return
        if told["sequence"] > held >= told["settled_below"]:
            raise DestinationAway(f"record {held} of this key has to be delivered first")
        del self._held[told.get("key", "")]

    def failed(self, packet: StreamPacket) -> None:
        told = self._told(packet)
        if told:
            self._held[told.get("key", "")] = told["sequence"]

    @staticmethod
    def _told(packet: StreamPacket) -> dict:
        told = (packet.meta or {}).get(META_KEY)
        return told if isinstance(told, dict) and "settled_below" in told else {}
