"""What follows a failed packet waits for it, and for nothing else."""

from __future__ import annotations

import pytest

from streamcore import DestinationAway, StreamPacket
from streamcore_nodes.delivery_order import KEYS_MAX, DeliveryOrder, told_of


def told(sequence: int, settled_below: int = 0, key: str = "") -> dict:
    return {"sequence": sequence, "settled_below": settled_below or sequence} | ({"key": key} if key else {})


@pytest.fixture
def order():
    """Of a sink at which record 5 has just failed."""
    made = DeliveryOrder()
    made.check(told(5))
    made.failed(told(5))
    return made


def test_what_was_under_way_behind_it_waits(order):
    for sequence in (6, 7, 6):
        with pytest.raises(DestinationAway, match="record 5"):
            order.check(told(sequence, settled_below=5))


def test_when_it_comes_again_the_rest_may_follow(order):
    order.check(told(5, settled_below=5))
    order.check(told(6, settled_below=5))


def test_what_waited_for_it_does_not_overtake_what_waited_as_well(order):
    # They may come back in another order: each has a time of its own.
    with pytest.raises(DestinationAway):
        order.check(told(6, settled_below=5))
    with pytest.raises(DestinationAway):
        order.check(told(7, settled_below=5))
    order.check(told(5, settled_below=5))
    with pytest.raises(DestinationAway, match="record 6"):
        order.check(told(7, settled_below=5))
    order.check(told(6, settled_below=5))
    order.check(told(7, settled_below=5))


def test_when_it_was_given_up_the_rest_may_follow(order):
    order.check(told(6, settled_below=6))
    order.check(told(7, settled_below=6))


def test_an_earlier_one_that_comes_again_is_delivered(order):
    order.check(told(3, settled_below=3))
    with pytest.raises(DestinationAway):
        order.check(told(6, settled_below=3))


def test_other_keys_and_packets_of_no_queue_do_not_wait(order):
    order.check(told(6, key="other"))
    for meta in (None, {}, {"durable": 3}, {"durable": {"id": "of an older one"}}):
        given = told_of(StreamPacket.new(kind="event", source_id="cam", payload=None, meta=meta))
        order.check(given)
        order.failed(given)
    with pytest.raises(DestinationAway):
        order.check(told(6, settled_below=5))


def test_a_new_process_begins_with_what_is_first_in_its_turn():
    # 3 and 4 were turned away by its predecessor and come later; 5 and 6 were on their way to it.
    order = DeliveryOrder()
    for sequence in (5, 6, 4):
        with pytest.raises(DestinationAway, match="record"):
            order.check(told(sequence, settled_below=3))
    for sequence in (3, 4, 5, 6):
        order.check(told(sequence, settled_below=3))
    order.check(told(7, settled_below=6))
    order.check(told(2))  # a replay
    order.check(told(8, settled_below=7))


def test_keys_are_not_remembered_without_end(order):
    for number in range(KEYS_MAX):
        order.failed(told(9, 9, f"key {number}"))
        order.check(told(9, 9, f"other {number}"))
    order.check(told(6, settled_below=6))
    with pytest.raises(DestinationAway):
        order.check(told(10, 9, "other 0"))
    with pytest.raises(DestinationAway):
        order.check(told(10, 9, "key 1"))
