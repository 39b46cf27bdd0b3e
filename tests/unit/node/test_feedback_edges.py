"""An edge that leads back in a cycle: its consumer ends without it, and what it did not read any more is dropped, not completed."""

from __future__ import annotations

import logging

import pytest

from streamcore.node.exchange import Exchange


@pytest.fixture(params=["block", "latest", "drop_new"])
def back(make_wire, request):
    return make_wire(request.param, feedback=True)


def counts(wire):
    row = wire.page.edge(0)
    return row.sent, row.completed, row.dropped, row.failed, row.in_flight


def test_what_comes_after_the_end_is_dropped(back):
    back.emit({"n": 0})
    consumer = back.consumers[0]
    consumer.arrive()
    consumer.inlet.skip(consumer.records.popleft())
    back.report()
    assert counts(back) == (1, 0, 1, 0, 0)
    assert back.is_empty()


def test_what_a_consumer_that_is_done_has_not_reported_is_dropped(back):
    back.emit({"n": 0})
    back.outlet.on_done(back.edges[0])
    assert counts(back) == (1, 0, 1, 0, 0)
    assert back.is_empty()


def test_what_is_sent_to_a_consumer_that_is_done_is_dropped(back):
    back.outlet.on_done(back.edges[0])
    for number in range(3):
        back.emit({"n": number})
    assert counts(back) == (3, 0, 3, 0, 0)
    assert back.is_empty()


def test_what_is_sent_to_a_consumer_that_failed_has_failed(back):
    back.outlet.on_gone(back.edges[0])
    back.emit({"n": 0})
    assert counts(back) == (1, 0, 0, 1, 0)


def test_what_was_read_in_time_is_completed(back):
    back.emit({"n": 0})
    packet = back.consumers[0].take()
    packet.parent.settle()
    del packet
    back.report()
    assert counts(back) == (1, 1, 0, 0, 0)


def test_a_process_has_ended_although_something_comes_round(make_wire):
    stream, back = make_wire(), make_wire("block", "block", feedback=True)
    status = stream.consumers[0].page.writer
    exchange = Exchange("entry", None, status, logging.getLogger("test"), 1)
    stream_in, back_in = stream.consumers[0].inlet, back.consumers[1].inlet
    exchange.wire([stream_in, back_in], {})
    assert exchange.looped
    assert not exchange.ended
    stream.emit({"n": 0})
    back.emit({"n": 1})
    stream.consumers[0].arrive()
    back.consumers[1].arrive()
    stream_in.ended = True
    assert not exchange.ended  # what the stream brought is taken first
    stream_in.take(stream.consumers[0].records.popleft())
    assert exchange.ended and back_in.waiting == 1
