"""The lifetime of a payload's memory is that of the last view of it, wherever that view has gone."""

from __future__ import annotations

import copy
import gc
import threading

import numpy as np
import pytest

from streamcore.errors import PayloadError, PayloadTooLarge, RingFull
from streamcore.node.lease import Record
from streamcore.node.views import Lease, Loan, owner_of

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def finish(consumer, packet) -> None:
    """What the host does after process(): the call has returned."""
    packet.parent.settle()


def test_a_packet_is_completed_when_process_has_returned_and_nothing_refers_to_it(wire):
    wire.emit(FRAME)
    consumer = wire.consumers[0]
    packet = consumer.take()
    record = packet.parent
    del packet
    consumer.settle()
    assert consumer.inlet.under_way == 1  # process() has not returned yet
    record.settle()
    assert consumer.inlet.under_way == 0
    wire.report()
    assert wire.is_empty()


VIEWS = {
    "the packet": lambda packet: packet,
    "the payload": lambda packet: packet.payload,
    "a crop": lambda packet: packet.payload[1:3, 2:4],
    "a view of a view": lambda packet: packet.payload[1:][::-1][:, ::2].T,
    "another dtype": lambda packet: packet.payload.reshape(-1).view(np.uint16),
    "a memoryview": lambda packet: memoryview(packet.payload),
    "an iterator": lambda packet: iter(packet.payload),
    "a closure": lambda packet: lambda: packet,
}


@pytest.mark.parametrize("keep", VIEWS.values(), ids=VIEWS.keys())
def test_whatever_still_shows_the_payload_keeps_its_memory(wire, keep):
    wire.emit(FRAME)
    consumer = wire.consumers[0]
    packet = consumer.take()
    kept = keep(packet)
    finish(consumer, packet)
    del packet
    gc.collect()
    wire.report()
    assert wire.writer.free_slots == wire.shape.slot_count - 1
    for number in range(20):  # were the memory free, one of these would be written over it
        wire.emit(np.full_like(FRAME, number + 100))
        finish(consumer, consumer.take())
        wire.report()
    if isinstance(kept, np.ndarray) and kept.shape == FRAME.shape:
        assert np.array_equal(kept, FRAME)
    del kept
    gc.collect()
    wire.report()
    assert wire.is_empty()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_packet_keeps_its_input_as_the_first_one_does_and_gives_it_back_once(wire, copied):
    wire.emit(FRAME)
    consumer = wire.consumers[0]
    packet = consumer.take()
    again = copied(packet)
    assert again.lease is packet.lease and again.parent is packet.parent
    finish(consumer, packet)
    del packet
    wire.report()
    assert consumer.inlet.under_way == 1 and not wire.is_empty()
    del again
    consumer.settle()
    wire.report()
    assert consumer.inlet.under_way == 0 and wire.is_empty()


def test_a_copy_keeps_nothing(wire):
    wire.emit(FRAME)
    packet = wire.consumers[0].take()
    copied = packet.payload.copy()
    finish(wire.consumers[0], packet)
    del packet
    wire.report()
    assert wire.is_empty()
    assert np.array_equal(copied, FRAME)


def test_a_payload_cannot_be_written_by_its_consumer(wire):
    wire.emit(FRAME)
    payload = wire.consumers[0].take().payload
    with pytest.raises(ValueError, match="read-only"):
        payload[0, 0, 0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        payload.flags.writeable = True


def test_a_view_that_another_thread_lets_go_of_is_reported_there_and_settled_here(wire):
    wire.emit(FRAME)
    consumer = wire.consumers[0]
    packet = consumer.take()
    kept = [packet.payload]
    finish(consumer, packet)
    del packet
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join(10)
    assert consumer.inlet.under_way == 1  # the finalizer only says so; the main thread does the rest
    wire.report()
    assert wire.is_empty()


# --- loans


def test_a_loan_is_written_in_place_and_committed_without_a_copy(wire):
    loan = wire.outlet.loan((4, 6, 3), np.uint8, -1)
    loan[:] = FRAME
    wire.emit(loan)
    assert np.array_equal(wire.consumers[0].take().payload, FRAME)
    assert wire.outlet.copied == 0


def test_a_committed_loan_is_read_only(wire):
    loan = wire.outlet.loan((4, 6, 3), np.uint8, -1)
    wire.emit(loan)
    with pytest.raises(ValueError, match="read-only"):
        loan[:] = 0


CUTS = [lambda a: a[1:3], lambda a: a[::-1], lambda a: a[:, ::2], lambda a: a[..., 1], lambda a: a.reshape(-1).view(np.uint16)]


@pytest.mark.parametrize("cut", CUTS, ids=["rows", "upside down", "every other column", "one channel", "another dtype"])
def test_a_view_of_a_loan_is_committed_without_a_copy(wire, cut):
    loan = wire.outlet.loan((4, 6, 3), np.uint8, -1)
    loan[:] = FRAME
    wire.emit(cut(loan))
    assert np.array_equal(wire.consumers[0].take().payload, cut(FRAME.copy()))
    assert wire.outlet.copied == 0


def test_a_loan_that_is_dropped_gives_its_slot_back(wire):
    for _ in range(3 * wire.shape.slot_count):
        loan = wire.outlet.loan((10,), np.uint8, 0)
        del loan
    assert wire.outlet.copied == 0


def test_a_loan_keeps_its_slot_until_both_its_array_and_its_packet_are_done(wire):
    loan = wire.outlet.loan((10,), np.uint8, 0)
    wire.emit(loan)
    finish(wire.consumers[0], wire.consumers[0].take())
    wire.report()
    assert wire.writer.free_slots == wire.shape.slot_count - 1
    del loan
    others = [wire.outlet.loan((10,), np.uint8, 0) for _ in range(wire.shape.slot_count)]
    assert len(others) == wire.shape.slot_count


def test_a_loan_larger_than_a_slot_names_port_bytes_and_spec_key(wire):
    with pytest.raises(PayloadTooLarge, match=r"camera\.out: payload of 300000 bytes, slot_bytes is 65536.*slot_bytes: 300000"):
        wire.outlet.loan((100_000, 3), np.uint8, 0)
    with pytest.raises(PayloadError, match="dtype object cannot travel"):
        wire.outlet.loan((1,), object, 0)


def test_a_loan_that_cannot_be_had_in_time_names_who_holds_the_slots(make_wire):
    wire = make_wire(slots=3)
    kept = [wire.outlet.loan((10,), np.uint8, 0)]
    for _ in range(2):
        wire.emit(FRAME)
    with pytest.raises(RingFull) as caught:
        wire.outlet.loan((10,), np.uint8, 0)
    assert caught.value.holders == [("camera.out->sink0.in", 2)]
    del kept


def test_waiting_for_a_slot_asks_the_consumers_to_report(make_wire):
    wire = make_wire(slots=1, depth=4)
    wire.emit(FRAME)
    wire.on_wait = lambda: (finish(wire.consumers[0], wire.consumers[0].take()), wire.report())
    wire.outlet.loan((10,), np.uint8, -1)
    assert wire.consumers[0].inlet.want is False  # asked, and answered by that receipt


def test_a_loan_dropped_in_another_thread_wakes_the_main_loop(wire):
    poked = []
    wire.outlet.poke = lambda: poked.append(threading.get_ident())
    kept = [wire.outlet.loan((10,), np.uint8, 0)]
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join(10)
    assert poked == [thread.ident]
    loan = wire.outlet.loan((10,), np.uint8, 0)
    del loan
    assert len(poked) == 1  # the main thread is not asleep, so nobody has to wake it


def test_the_owner_of_a_view_is_found_through_any_chain_of_views(wire):
    loan = wire.outlet.loan((4, 6), np.uint8, 0)
    assert type(owner_of(memoryview(loan[1:].T)[::-1])) is Loan
    wire.emit(FRAME)
    packet = wire.consumers[0].take()
    assert type(owner_of(packet.payload[::2])) is Lease
    assert type(packet.parent) is Record
    assert owner_of(np.zeros(3)) is None
