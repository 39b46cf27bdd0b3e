"""Order through failures: behind a durable queue whose packets are under way together, what follows a failed one must not overtake it."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NoReturn

from streamcore import DestinationAway, StreamPacket

META_KEY = "durable"
KEYS_MAX = 4096  # of which records are held up: more than a queue has under way


def told_of(packet: StreamPacket) -> Mapping[str, Any]:
    """What a durable queue says of a packet; empty for one that comes from none."""
    told = (packet.meta or {}).get(META_KEY)
    return told if isinstance(told, dict) else {}


class DeliveryOrder:
    """What a sink asks before it delivers a packet, and tells when that fails. Of what comes from no durable queue it knows nothing.

    A packet that failed, or was turned away, is held up until it comes again, or until the queue says that it has given it up. So nothing
    has to be sent one by one: what is under way behind a failure comes back untried. A new process does not know what its predecessor
    turned away: of each key it begins with the record that is first in its turn.
    """

    def __init__(self) -> None:
        self._held: dict[str, list[int]] = {}  # key: the sequences that have to come first, sorted
        self._last: OrderedDict[str, int] = OrderedDict()  # key: the sequence that was let through last

    def check(self, told: Mapping[str, Any]) -> None:
        """Raises DestinationAway for one that has to wait for an earlier one of its key; it is held up itself then."""
        if "settled_below" not in told:
            return
        key, sequence, settled_below = told.get("key", ""), told["sequence"], told["settled_below"]
        held, last = self._held.get(key), self._last.get(key, 0)
        if held is not None:
            del held[: bisect_left(held, settled_below)]
            if held and held[0] < sequence:
                self._turn_away(told, held[0])
            if held and held[0] == sequence:
                del held[0]
            if not held:
                del self._held[key]
        if last < settled_below < sequence:
            self._turn_away(told, settled_below)
        self._last[key] = max(last, sequence)
        self._last.move_to_end(key)
        if len(self._last) > KEYS_MAX:
            self._last.popitem(last=False)

    def _turn_away(self, told: Mapping[str, Any], first: int) -> NoReturn:
        self.failed(told)
        raise DestinationAway(f"record {first} of this key has to be delivered first")

    def failed(self, told: Mapping[str, Any]) -> None:
        if "settled_below" not in told:
            return
        held = self._held.setdefault(told.get("key", ""), [])
        at = bisect_left(held, told["sequence"])
        if held[at : at + 1] != [told["sequence"]]:
            held.insert(at, told["sequence"])
        if len(self._held) > KEYS_MAX:
            del self._held[next(iter(self._held))]
