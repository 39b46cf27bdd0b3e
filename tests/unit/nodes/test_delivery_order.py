"""What follows a failed packet waits for it, and for nothing else."""

from __future__ import annotations

import pytest

from streamcore import DestinationAway, StreamPacket
from streamcore_nodes.delivery_order import DeliveryOrder


def packet(sequence: int, settled_below: int = 1, key: str = "") -> StreamPacket:
    told = {"sequence": sequence, "settled_below": settled_below} | ({"key": key} if key else {})
    return StreamPacket.new(kind="event", source_id="cam", payload=None, meta={"durable": told})


@pytest.fixture
def order():
    """Of a sink at which record 5 has just failed."""
    made = DeliveryOrder()
    made.check(packet(5))
    made.failed(packet(5))
    return made


def test_what_was_under_way_behind_it_waits(order):
    for sequence in (6, 7, 6):
        with pytest.raises(DestinationAway, match="record 5"):
            order.check(packet(sequence, settled_below=5))


def test_when_it_comes_again_the_rest_may_follow(order):
    order.check(packet(5, settled_below=5))
    order.check(packet(6, settled_below=5))


def test_when_it_was_given_up_the_rest_may_follow(order):
    order.check(packet(7, settled_below=6))
    order.check(packet(8, settled_below=6))


def test_an_earlier_one_that_comes_again_is_delivered(order):
    order.check(packet(3, settled_below=3))


def test_other_keys_and_packets_of_no_queue_do_not_wait(order):
    order.check(packet(6, settled_below=5, key="other"))
    order.check(StreamPacket.new(kind="event", source_id="cam", payload=None))
    order.failed(StreamPacket.new(kind="event", source_id="cam", payload=None))
    with pytest.raises(DestinationAway):
        order.check(packet(6, settled_below=5))
