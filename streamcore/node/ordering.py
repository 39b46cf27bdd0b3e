"""What a live run is asked to have one of its nodes do: called between two packets, answered whatever comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

import msgspec

from streamcore.errors import Stopped, StreamcoreError
from streamcore.node import channel
from streamcore.node.api import Node
from streamcore.node.exchange import Exchange
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import WORD, StatusWriter

ERROR_CHARS_MAX: Final = 2000

_BUSY: Final = WORD["busy_since_ns"]
_EDGE: Final = WORD["current_edge"]


class Ordering:
    """Carries out the orders of one node. `end` once its last call is done: then there is nobody to ask any more."""

    def __init__(self, node: Node, exchange: Exchange, status: StatusWriter, say: Callable[[channel.Answered], None], log: logging.Logger):
        self._node: Node | None = node
        self._exchange, self._words, self._say, self._log = exchange, status.words, say, log

    def end(self) -> None:
        self._node = None

    def carry_out(self, order: channel.Order) -> None:
        """A hang of it is found like one of process(). SYNC: coordinator.orders.Orders sends it, and hears the answer."""
        words = self._words
        before = words[_EDGE], words[_BUSY]
        words[_EDGE], words[_BUSY] = NO_EDGE, monotonic_ns()
        self._exchange.in_node_code = True
        try:
            answer = self._answer(order)
        finally:
            self._exchange.in_node_code = False
            words[_EDGE], words[_BUSY] = before
        try:
            self._say(answer)
        except (ValueError, TypeError, msgspec.ValidationError) as error:  # what the author's code gave is too large, or no JSON
            self._say(channel.Answered(order.number, {}, f"it was done, its answer cannot be sent: {error}"[:ERROR_CHARS_MAX]))

    def _answer(self, order: channel.Order) -> channel.Answered:
        if self._node is None:
            return channel.Answered(order.number, {}, "the node has ended")
        try:
            return channel.Answered(order.number, self._node.on_order(order.name, order.arguments))
        except Stopped:
            raise
        except StreamcoreError as error:
            return channel.Answered(order.number, {}, str(error)[:ERROR_CHARS_MAX])
        except Exception as error:  # the author's code: whoever asked is told, the node goes on
            self._log.exception("order %r failed", order.name)
            return channel.Answered(order.number, {}, f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX])
