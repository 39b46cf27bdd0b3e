"""Packets that kill: who was under work at how many deaths in a row. Pure.

At `limit` deaths in a row over one packet it is poisoned: the next incarnation fails it without processing it. A death over another
packet begins a new count; a death over none (idle, asked for, or brought about by somebody else: exits.blames_packet) changes nothing.

Deaths over a packet that was then removed do not count against the restart intensity, for their cause is gone: a stream with a bad frame
now and then goes on for ever. They do count if the node has not processed a single packet since the one before was removed: then it is
the node that is broken, not the stream, and a few packets later it is given up instead of turning all of them into failed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamcore.graph.model import Poisoned

KEPT_MAX = 64  # told to each incarnation; older ones are completed long since, so the marks on the status page keep them from coming back

Packet = tuple[int, int]  # edge, sequence


@dataclass(frozen=True)
class Verdict:
    """`removed`: that was one death too many over the packet. `forgiven`: then the `deaths` over it do not count against the node."""

    removed: bool = False
    forgiven: bool = False
    deaths: int = 0


class Poison:
    """The deaths of one node."""

    def __init__(self, limit: int):
        self.limit = limit
        self.removed: tuple[Poisoned, ...] = ()
        self._suspect: Packet | None = None
        self._deaths = 0
        self._consumed_before: int | None = None  # what the node had processed when a packet was last removed

    def on_death(self, packet: Packet | None, consumed: int) -> Verdict:
        """A process died over `packet`, or over none. `consumed`: packets that the node has processed since the run began."""
        if packet is None or not self.limit:
            return Verdict()
        self._deaths = self._deaths + 1 if packet == self._suspect else 1
        self._suspect = packet
        if self._deaths < self.limit:
            return Verdict()
        self.removed = (*self.removed, Poisoned(packet[0], packet[1], self._deaths))[-KEPT_MAX:]
        worked = self._consumed_before is None or consumed > self._consumed_before
        self._consumed_before, self._suspect = consumed, None
        return Verdict(removed=True, forgiven=worked, deaths=self._deaths)

    def name_incident(self, path: str) -> None:
        """The incident file of the death by which the last packet was removed."""
        if self.removed:
            self.removed = (*self.removed[:-1], msgspec.structs.replace(self.removed[-1], incident=path))
