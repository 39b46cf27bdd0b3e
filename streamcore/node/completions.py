"""Outputs that were completed, kept until node code can be told: not in the middle of its own work."""

from __future__ import annotations

from collections import deque

from streamcore.errors import Stopped
from streamcore.node.api import Node
from streamcore.node.failures import Failures
from streamcore.node.positions import Positions
from streamcore.packet import StreamPacket
from streamcore.wire import messages


class Completions:
    """Of all outputs of one node."""

    def __init__(self, failures: Failures, positions: Positions | None):
        self.waiting: deque[tuple[StreamPacket, int]] = deque()
        self._failures, self._positions = failures, positions  # of a source

    def remember(self, packet: StreamPacket, outcome: int) -> None:
        self.waiting.append((packet, outcome))

    def deliver(self, node: Node) -> None:
        while self.waiting:
            packet, outcome = self.waiting.popleft()
            try:
                node.on_completed(packet, messages.OUTCOMES[outcome])
            except Stopped:
                raise
            except Exception as error:  # the author's code. Whatever on_error says: the packet is done with, nothing is left to retry
                self._failures.note("on_completed", error, packet)
            if self._positions is not None and packet.position is not None:
                self._positions.told(packet.position)
