"""Packets that failed in a node: counted on its status page, and now and then logged."""

from __future__ import annotations

import logging
from typing import Any, Final

from streamcore.errors import DeliveryRefused, DestinationAway, PayloadError, StoreError, StreamcoreError
from streamcore.node.inlet import Inlet
from streamcore.packet import StreamPacket
from streamcore.shm.status import WORD, StatusWriter
from streamcore.wire import messages

DELIVERY: Final = (DeliveryRefused, DestinationAway)  # for a durable queue to answer, whatever on_error says

_FAILED: Final = WORD["failed"]


class Failures:
    """Goes on counting where a predecessor's page stands. `stops`: what is wrong with a packet ends the node (on_error)."""

    def __init__(self, status: StatusWriter, log: logging.Logger, stops: bool):
        self._words, self._log, self._stops, self._count = status.words, log, stops, status.get("failed")
        self._away = 0

    def note(self, where: str, error: Exception, packet: Any, count: int = 1) -> None:
        """Count `count` packets, of which `packet` is the first, and log why."""
        before = self._count
        self._add(count)
        if self._count.bit_length() > before.bit_length():  # the 1st, 2nd, 4th, 8th ...: a broken node must not fill the disk
            traceback = None if isinstance(error, StreamcoreError) else error
            cause = f"{type(error).__name__}: {error}"
            name = getattr(packet, "packet_id", "without id")  # what a source yields may be anything
            self._log.error("packet %s failed in %s (%d so far): %s", name, where, self._count, cause, exc_info=traceback)

    def judge(self, error: Exception, packet: StreamPacket, count: int = 1) -> int:
        """The outcome of inputs over which node code raised `error`, which is under way. Raises it again if it ends the node.

        A disk that fails is no fault of an input: the next process gets them all once more.
        """
        if isinstance(error, DestinationAway):
            self._away += 1
            if self._away.bit_count() == 1:
                self._log.warning("packet %s is not delivered (%d so far): %s", packet.packet_id, self._away, error)
            return messages.AWAY
        if isinstance(error, StoreError) or (self._stops and not isinstance(error, DeliveryRefused)):
            raise error
        self.note("process", error, packet, count)
        return messages.REFUSED if isinstance(error, DeliveryRefused) else messages.FAILED

    def end(self, packet: StreamPacket) -> None:
        """Count an input that is not processed, and complete it as failed."""
        self._add(1)
        self._settle(packet)

    def fits(self, inlet: Inlet, packet: StreamPacket) -> bool:
        """Is an input what its port declares. If not it has failed, as if process() had raised, but it is not tried again."""
        assert inlet.check is not None  # the caller looked
        try:
            if inlet.check.done_with(packet.payload):
                inlet.check = None
            return True
        except PayloadError as error:
            if self._stops:
                raise
            self.note("check", error, packet)
            self._settle(packet)
            return False

    def _add(self, count: int) -> None:
        self._count += count
        self._words[_FAILED] = self._count

    def _settle(self, packet: StreamPacket) -> None:
        packet.parent.outcome = messages.FAILED
        packet.parent.settle()
