"""Emitting what a node has by itself: see Node.pull. Never waits for a credit, so that inputs are taken however full the outputs are."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from streamcore.errors import PayloadError
from streamcore.node.api import Node
from streamcore.node.exchange import Exchange
from streamcore.node.failures import Failures
from streamcore.node.placing import without_payload
from streamcore.packet import StreamPacket
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import WORD
from streamcore.wire import messages

TURN_MAX: Final = 64  # packets between two looks at the inputs

_BUSY: Final = WORD["busy_since_ns"]
_EDGE: Final = WORD["current_edge"]
_WAITS: Final = WORD["waits_for_credit"]


class Puller:
    """Calls pull() of one node, between its inputs; `pulls` is False if it has none. `failed` is told of what could not be emitted."""

    def __init__(
        self,
        node: Node,
        exchange: Exchange,
        words: memoryview,
        emit: Callable[[Any], None],
        failures: Failures,
        failed: Callable[[StreamPacket, int], None],
    ):
        self.pulls = type(node).pull is not Node.pull
        self._node, self._exchange, self._words = node, exchange, words
        self._emit, self._failures, self._failed = emit, failures, failed

    def pull_all(self) -> None:
        """Emit what there is, as long as every output has room for it."""
        words, outlets = self._words, self._exchange.outlets.values()
        edge, words[_EDGE] = words[_EDGE], NO_EDGE
        words[_BUSY] = monotonic_ns()
        self._exchange.in_node_code = True
        self._gather(True)
        for _ in range(TURN_MAX):
            if not all(outlet.has_room for outlet in outlets):
                self._node.blocked()
                break
            packet = self._node.pull()
            if packet is None:
                break
            try:
                self._emit(packet)
            except PayloadError as error:
                self._failures.note("pull", error, packet)
                self._failed(without_payload(packet, packet.id16), messages.REFUSED)
        self._gather(False)
        self._exchange.in_node_code = False
        words[_BUSY], words[_EDGE] = 0, edge

    def _gather(self, more: bool) -> None:
        """Packets of one turn leave in few messages; none of them waits for the next turn."""
        for outlet in self._exchange.outlets.values():
            for edge in outlet.edges:
                edge.gathers = more
                edge.flush_batch()

    def wait(self) -> None:
        """Until something comes or the node wants to be asked again. That inputs wait for a node that is not taking is no hang."""
        if not self.pulls:
            self._exchange.wait(None)
            return
        self._words[_WAITS] = 0 if self._node.taking else 1
        if self._node.pressing:
            for outlet in self._exchange.outlets.values():
                outlet.press()
        try:
            self._exchange.wait(self._node.pull_at_ns)
        finally:
            self._words[_WAITS] = 0
