"""Emitting between inputs: what a node has by itself leaves in few messages, and what it waits for is asked for at once."""

from __future__ import annotations

import logging
from time import monotonic_ns

import pytest

from streamcore import Node, StreamPacket
from streamcore.node.exchange import Exchange
from streamcore.node.failures import Failures
from streamcore.node.pulling import Puller
from streamcore.wire import messages


class Stock(Node):
    """Has so many packets."""

    def __init__(self, count: int):
        self.left, self.found_blocked = count, 0

    def pull(self) -> StreamPacket | None:
        if not self.left:
            return None
        self.left -= 1
        return StreamPacket.new(kind="frame", source_id="stock", payload={"left": self.left})

    def blocked(self) -> None:
        self.found_blocked += 1


class Inbox:
    """Nothing arrives; how long somebody would have waited is kept."""

    def __init__(self) -> None:
        self.waits_ms: list[int | None] = []

    def take(self) -> bytes | None:
        return None

    def poll(self, timeout_ms: int | None) -> bool:
        self.waits_ms.append(timeout_ms)
        return False


@pytest.fixture
def puller_of(make_wire):
    def make(node: Node, depth: int):
        wire = make_wire("block", depth=depth)
        inbox = Inbox()
        exchange = Exchange("stock", inbox, wire.page.writer, logging.getLogger("test"), 1)  # type: ignore[arg-type]
        exchange.wire([], {"out": wire.outlet})
        words = wire.page.writer.words
        failures = Failures(wire.page.writer, logging.getLogger("test"), False)
        puller = Puller(node, exchange, words, lambda packet: wire.outlet.emit(packet, False), failures, lambda packet, outcome: None)
        return wire, puller, inbox

    return make


def sent(wire) -> list[messages.Header]:
    return [messages.read_header(raw) for raw in wire.consumers[0].to_it]


def test_packets_of_one_turn_share_a_message_and_none_waits_for_the_next_turn(puller_of):
    wire, puller, _ = puller_of(Stock(5), depth=64)
    puller.pull_all()
    assert [header.records for header in sent(wire)] == [5]
    assert wire.consumers[0].arrive() == 5


def test_without_room_nothing_is_asked_for_and_the_node_is_told(puller_of):
    node = Stock(9)
    wire, puller, _ = puller_of(node, depth=4)
    puller.pull_all()
    assert (node.left, node.found_blocked) == (5, 1)
    wire.consumers[0].arrive()
    puller.pull_all()
    assert (node.left, node.found_blocked) == (5, 2)


@pytest.mark.parametrize("pressing", [False, True])
def test_what_it_waits_for_is_asked_for_at_once(puller_of, pressing):
    node = Stock(1)
    node.pressing, node.pull_at_ns = pressing, monotonic_ns() + 60 * 10**9
    wire, puller, inbox = puller_of(node, depth=64)
    puller.pull_all()
    puller.wait()
    assert any(header.flags & messages.WANT for header in sent(wire)) is pressing
    (timeout_ms,) = inbox.waits_ms
    assert timeout_ms is not None and 0 < timeout_ms <= 60_000
