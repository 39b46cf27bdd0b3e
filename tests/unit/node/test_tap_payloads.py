"""What a tap is shown: of which packets, how many, and where their payloads come from."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
from tap_rig import frame

from streamcore import Port, StreamPacket
from streamcore.node.tapping import SMALL_BURST, Pace
from streamcore.wire.tapping import DONE, HELD, NO_SEQUENCE


def test_a_packet_that_no_edge_takes_is_shown_and_its_loan_can_be_written_again(make_rig):
    rig = make_rig("drop_new", depth=1)
    tap = rig.attach()
    for number in range(5):
        loan = rig.wire.outlet.loan((8, 10, 3), np.uint8, 0)
        loan[...] = number
        tap.ready()
        rig.wire.emit(loan)
        if number:  # the edge is full
            loan[...] = 99
        word, meta, payload = tap.take()
        assert payload[0, 0, 0] == number
        assert word.sequence == (NO_SEQUENCE if number else 0)
        assert meta.kind == "frame"


@pytest.mark.source
def test_a_port_without_edges_can_be_tapped(make_rig, monkeypatch):
    rig = make_rig("block")
    monkeypatch.setattr(rig.wire.outlet, "edges", [])
    monkeypatch.setattr(rig.wire.outlet, "_blocking", [])
    monkeypatch.setattr(rig.wire.outlet, "check", None)
    tap = rig.attach()
    for payload in ({"a": [1]}, b"few", frame(3), b"x" * 5000, object()):
        tap.ready()
        rig.wire.emit(payload)
        shown = tap.packets()
        if isinstance(payload, dict) or (isinstance(payload, bytes) and len(payload) < 10):
            assert shown[0][1].value == payload
        elif isinstance(payload, (bytes, np.ndarray)):
            (word, meta) = shown[0]
            assert np.array_equal(np.frombuffer(rig.wire.reader.copied(meta.ref), np.uint8), np.frombuffer(payload, np.uint8))
            tap.say(DONE, word.number)
        else:
            assert not shown  # it could not travel anyway
    rig.wire.outlet.settle_loans()
    assert rig.wire.writer.free_slots == rig.wire.shape.slot_count + 1


def test_who_wants_no_frames_is_told_of_them_and_nothing_is_held(rig):
    tap = rig.attach(frames=False)
    rig.wire.emit(frame(1))
    rig.wire.finish()
    ((word, meta),) = tap.packets()
    assert not word.flags & HELD
    assert (meta.ref.dtype, meta.ref.shape) == ("uint8", (8, 10, 3))
    assert rig.wire.writer.free_slots == rig.wire.shape.slot_count + 1


def test_json_too_large_for_the_metadata_is_shown_whole(make_rig):
    rig = make_rig("block", meta_bytes=256)
    tap = rig.attach(frames=False)
    tap.ready()
    rig.wire.emit({"text": "x" * 5000})
    word, meta, payload = tap.take()
    assert meta.ref.dtype == "msgpack"
    assert len(payload) > 5000
    assert word.flags & HELD


def test_a_forwarded_frame_is_copied_so_that_its_input_is_completed_however_long_a_tap_looks(make_wire, make_rig):
    upstream = make_wire("block")
    rig = make_rig("block", ring=1, forwards=frozenset({"in"}))
    tap = rig.attach()
    tap.ready()
    upstream.emit(frame(5))
    packet = upstream.consumers[0].take()
    copied = rig.wire.outlet.copied
    rig.wire.outlet.emit(packet.derive(payload=packet.payload[2:6]), False)
    packet.parent.settle()
    del packet
    (consumer,) = rig.wire.consumers
    consumer.inlet._readers = {0: upstream.reader, 1: rig.wire.reader}
    rig.wire.finish()
    gc.collect()
    upstream.report()
    assert upstream.is_empty()
    upstream.emit(frame(6))  # into the slot where the forwarded frame was
    word, meta, payload = tap.take()
    assert (word.sequence, meta.ref.ring) == (0, 1)
    assert np.array_equal(payload, frame(5)[2:6])
    assert rig.wire.outlet.copied == copied, "the page counts what edges made it copy"


def test_a_frame_too_large_for_our_own_slots_is_let_pass(make_wire, make_rig):
    upstream = make_wire("block")
    rig = make_rig("block", ring=1, forwards=frozenset({"in"}), slot_bytes=4096)
    tap = rig.attach()
    tap.ready()
    upstream.emit(np.zeros((100, 100), np.uint8))
    packet = upstream.consumers[0].take()
    rig.wire.outlet.emit(packet.derive(payload=packet.payload), False)
    assert not tap.packets()
    rig.wire.emit(frame(1))
    assert tap.take()[0].passed == 1


@pytest.mark.source
def test_a_flood_of_small_packets_is_thinned_and_what_was_left_out_is_counted(rig, monkeypatch):
    now = itertools.count(10**15)  # nanoseconds: no time passes to speak of
    monkeypatch.setattr("streamcore.node.outlet.monotonic_ns", lambda: next(now))
    tap = rig.attach(every_ns=None)
    for number in range(500):
        rig.wire.emit({"n": number})
        rig.wire.finish()
    shown = tap.packets()
    assert [meta.value["n"] for _, meta in shown] == list(range(SMALL_BURST + 1))[: len(shown)]
    assert SMALL_BURST <= len(shown) <= SMALL_BURST + 1
    monkeypatch.setattr("streamcore.node.outlet.monotonic_ns", lambda: 10**16)
    rig.wire.emit({"n": 500})
    ((word, _),) = tap.packets()
    assert word.passed == 500 - len(shown)


def test_a_tap_that_does_not_read_loses_packets_and_holds_nothing_up(rig):
    tap = rig.attach(frames=False)
    for number in range(3000):
        rig.wire.emit({"n": number, "text": "x" * 500})
        rig.wire.finish()
    assert 0 < len(tap.packets()) < 3000
    assert rig.taps == 1


def test_pace():
    pace = Pace(10, 3)
    given = []
    for now in (100, 100, 100, 100, 109, 110, 111, 200, 200, 200, 200):
        given.append(pace.allows(now))
        if given[-1]:
            pace.count(now)
    assert given == [True, True, True, False, False, True, False, True, True, True, False]


def test_a_port_of_any_kind_shows_the_kind_of_the_packet(make_rig):
    rig = make_rig("block", port=Port("any", "any"))
    tap = rig.attach()
    tap.ready()
    rig.wire.outlet.emit(StreamPacket.new(kind="own", source_id="s", payload=frame(1)), False)
    rig.wire.flush()
    assert tap.take()[1].kind == "own"
    assert rig.wire.consumers[0].take().kind == "own"


@pytest.mark.source
def test_what_passes_while_no_tap_may_want_it_costs_no_call_and_is_counted(make_rig, monkeypatch):
    now = [10**15]
    monkeypatch.setattr("streamcore.node.outlet.monotonic_ns", lambda: now[0])
    rig = make_rig("block")
    first = rig.attach(frames=False, every_ns=1000)
    rig.wire.emit({"n": 0})
    offers = []
    offer = rig.wire.outlet.taps.offer
    monkeypatch.setattr(rig.wire.outlet.taps, "offer", lambda *args: offers.append(now[0]) or offer(*args))
    for number in range(1, 4):
        rig.wire.emit({"n": number})
    assert not offers
    second = rig.attach(frames=False, every_ns=1000)  # which is not told of what passed before it came
    rig.wire.finish()
    rig.wire.emit({"n": 4})
    now[0] += 1000
    rig.wire.emit({"n": 5})
    assert [(meta.value["n"], word.passed) for word, meta in first.packets()] == [(0, 0), (5, 4)]
    assert [(meta.value["n"], word.passed) for word, meta in second.packets()] == [(4, 0), (5, 0)]


def test_a_tap_that_hangs_is_let_go_however_seldom_it_wants_a_packet(rig):
    tap = rig.attach(every_ns=10**18)
    tap.ready()
    rig.wire.emit(frame(1))
    assert tap.packets()
    assert rig.wire.outlet.rest_until_ns < 10**18, "its frame is looked after in a second, not in thirty years"
