"""Taps of an output port: what they are shown is true, and the edges of the port do not notice them."""

from __future__ import annotations

import gc
import itertools
import random

import numpy as np
import pytest
from tap_rig import Rig

from streamcore import Port, StreamPacket, limits
from streamcore.node import channel
from streamcore.node import tapping as node_tapping
from streamcore.node.tapping import SMALL_BURST, Pace
from streamcore.wire.tapping import DONE, HELD, HELLO, NO_SEQUENCE, REFUSED, VOUCHED

POLICIES = ("block", "drop_new", "drop_oldest", "latest", "sample")
MIXES = [(policy,) for policy in POLICIES] + [("block", "latest"), ("block", "block", "drop_oldest"), POLICIES]


def frame(number: int) -> np.ndarray:
    return np.full((8, 10, 3), number % 251, np.uint8)


@pytest.fixture
def make_rig(make_wire, tmp_path):
    made = []

    def make(*policies, **options) -> Rig:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Rig(make_wire(*policies, **options), folder))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig) -> Rig:
    return make_rig("block")


def finish(wire) -> None:
    """Every consumer takes and lets go of everything."""
    for consumer in wire.consumers:
        while consumer.arrive():
            packet = consumer.take()
            if packet is not None:
                packet.parent.settle()
            del packet
    wire.report()


def test_a_tap_is_greeted_with_the_ring_and_shown_what_passes(rig):
    tap = rig.attach()
    (hello,) = tap.hears()
    assert (hello.type, hello.incarnation, len(tap.fds)) == (HELLO, 1, 1)
    tap.ready()
    rig.wire.emit(frame(7), meta={"n": 7})
    word, meta, payload = tap.take()
    assert (word.sequence, word.passed, meta.kind, meta.source_id, meta.meta) == (0, 0, "frame", "test", {"n": 7})
    assert np.array_equal(payload, frame(7))


@pytest.mark.parametrize("policies", MIXES, ids="-".join)
@pytest.mark.parametrize("seed", range(3))
def test_the_edges_of_a_port_do_the_same_with_taps_as_without(make_rig, policies, seed):
    # The account, the credits and what consumers get must not know of a tap, however it behaves.
    slots = sum(depth + 3 for depth in itertools.repeat(4, len(policies))) + 2
    plain, tapped = make_rig(*policies, slots=slots), make_rig(*policies, slots=slots)
    chance, taps, numbers = random.Random(seed), [], itertools.count()
    sides = (plain.wire, tapped.wire)

    def step() -> None:
        which, what = chance.randrange(len(policies)), chance.choice(("emit", "emit", "emit", "take", "take", "report", "all"))
        payload = next(numbers)
        for wire in sides:
            if what == "emit" and all(edge.credit.has_credit for edge in wire.edges if edge.plan.policy == "block"):
                wire.emit(frame(payload) if payload % 3 else {"n": payload}, position=payload)
            elif what == "take" and wire.consumers[which].arrive():
                packet = wire.consumers[which].take()
                packet.parent.settle()
                del packet
            elif what == "report":
                wire.report()
            elif what == "all":
                finish(wire)

    def disturb() -> None:
        what = chance.choice(("attach", "ready", "ready", "take", "take", "stop", "leave"))
        if what == "attach" and len(taps) < limits.TAPS_PER_PORT_MAX:
            taps.append(tapped.attach(frames=chance.random() < 0.8))
        elif taps:
            tap = chance.choice(taps)
            if what == "leave":
                taps.remove(tap)
                tap.link.close()
                tapped.ears.hear()
                tapped.obey()
            elif what == "ready":
                tap.ready()
            elif what == "take":
                tap.take()  # what it is shown and does not take stays held: "stop"

    for _ in range(300):
        step()
        disturb()
        for one, other in zip(*(wire.edges for wire in sides), strict=True):
            counts = [(e.credit.sent, e.credit.completed, e.credit.dropped, e.credit.failed, e.credit.in_flight) for e in (one, other)]
            if one.plan.policy != "sample":  # which goes by the clock
                assert counts[0] == counts[1], one.plan.policy
        assert plain.wire.writer.free_entries == tapped.wire.writer.free_entries or "sample" in policies
        assert tapped.wire.writer.free_slots + tapped.taps >= plain.wire.writer.free_slots or "sample" in policies
    for rig in (plain, tapped):
        for end in rig.ends:
            end.link.close()
        rig.ears.hear()
        rig.obey()
        finish(rig.wire)
        finish(rig.wire)
        gc.collect()
        rig.wire.outlet.settle_loans()
        assert rig.taps == 0
        assert rig.wire.is_empty()


def test_a_held_frame_stays_as_it_is_while_the_port_goes_on(rig):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    finish(rig.wire)
    for number in range(2, 30):
        rig.wire.emit(frame(number))
        finish(rig.wire)
    word, _, payload = tap.take()
    assert (word.sequence, payload[0, 0, 0]) == (0, 1)
    tap.ready()
    rig.wire.emit(frame(30))
    word, _, payload = tap.take()
    assert (word.sequence, word.passed, payload[0, 0, 0]) == (29, 28, 30)


def test_a_tap_takes_no_slot_that_the_edges_count_on(make_rig):
    rig = make_rig("block", slots=3)
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    finish(rig.wire)  # only the tap has it now
    loans = [rig.wire.outlet.loan((4,), np.uint8, 0) for _ in range(3)]
    assert len(loans) == 3
    assert tap.take()[2][0, 0, 0] == 1


def test_a_stopped_tap_is_let_go_and_what_it_copies_later_is_not_vouched_for(rig, monkeypatch):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    (shown,) = tap.packets()
    assert shown[0].flags & HELD
    monkeypatch.setattr(node_tapping, "HOLD_NS", -1)
    rig.wire.emit(frame(2))  # the producer looks when it has a packet to show, and not before
    assert rig.taps == 0
    finish(rig.wire)
    assert rig.wire.is_empty()
    told = tap.hears()
    assert [word.type for word in told] == [0]
    with pytest.raises(OSError, match=r"\[Errno"):
        tap.link.send(b"late")


def test_what_a_tap_had_copied_before_it_was_let_go_is_not_given_back_twice(rig):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    (shown,) = tap.packets()
    tap.say(DONE, shown[0].number)
    tap.say(DONE, shown[0].number)  # once more: it does not keep to the protocol
    assert rig.taps == 0
    finish(rig.wire)
    assert rig.wire.is_empty()


@pytest.mark.parametrize("words", [[(DONE, 0)], [(DONE, 99)], [(HELLO, 0)], [(VOUCHED, 1)]], ids=str)
def test_who_does_not_keep_to_the_protocol_is_let_go(rig, words):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    for kind, number in words:
        tap.say(kind, number)
    assert rig.taps == 0
    finish(rig.wire)
    assert rig.wire.is_empty()


def test_nonsense_is_no_word(rig):
    tap = rig.attach()
    tap.link.send(b"\xff" * 500)
    rig.ears.hear()
    rig.obey()
    assert rig.taps == 0


def test_a_tap_that_goes_leaves_nothing_held(rig):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    finish(rig.wire)
    tap.link.close()
    rig.ears.hear()
    rig.obey()
    assert rig.taps == 0
    assert rig.wire.is_empty()


def test_taps_of_one_port_have_each_a_slot_of_their_own_and_one_too_many_is_told(make_rig):
    rig = make_rig("block", slots=4)
    taps = [rig.attach() for _ in range(limits.TAPS_PER_PORT_MAX)]
    for number, tap in enumerate(taps):
        tap.ready()
        rig.wire.emit(frame(number))
        finish(rig.wire)
    late = rig.attach()
    (refused,) = [word for word in late.hears() if word.type == REFUSED]
    assert b"camera.out has 4 taps" in refused.rest
    assert len([rig.wire.outlet.loan((4,), np.uint8, 0) for _ in range(4)]) == 4
    assert [int(tap.take()[2][0, 0, 0]) for tap in taps] == [0, 1, 2, 3]


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
    finish(rig.wire)
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
    finish(rig.wire)
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
        finish(rig.wire)
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
        finish(rig.wire)
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


def test_at_the_end_of_a_node_in_good_order_what_is_held_is_vouched_for(rig):
    # Nobody writes that ring any more, and the process does not wait for its taps.
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(9))
    rig.tapping.end()
    told = tap.hears()
    assert [word.type for word in told][-1] == VOUCHED
    assert told[-1].number == told[-2].number


def test_a_successor_knows_nothing_of_a_tap_and_has_nothing_to_clear(make_rig):
    rig = make_rig("block", slots=4)
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    finish(rig.wire)
    rig.wire.emit(frame(2))
    successor = type(rig.wire.writer)(rig.wire.memory, rig.wire.shape)  # of a producer that was killed now
    assert [(row.sequence, row.pending) for row in successor.adopted] == [(1, 1)]
    assert successor.free_slots == 3


def test_the_main_loop_is_woken_for_a_slot_only_while_it_waits_for_one(rig):
    tap = rig.attach()
    for waits, pokes in ((0, 0), (1, 1)):
        rig.wire.page.writer.set("waits_for_credit", waits)
        tap.ready()
        rig.wire.emit(frame(1))
        finish(rig.wire)
        assert tap.take() is not None
        assert rig.ears.pokes == pokes


def test_nobody_listening_is_no_reason_to_fail(rig):
    rig.tapping.on_command(channel.Tap("_tap.1.ffffffff", "out", True))
    assert rig.taps == 0
    assert rig.wire.emit(frame(1))


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
    finish(rig.wire)
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


def test_a_node_without_descriptors_left_goes_on(rig, monkeypatch):
    # Somebody who looks must not be what ends a node.
    def refuse(fd):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("streamcore.shm.segment.reopen_readonly", refuse)
    tap = rig.attach()
    assert [word.type for word in tap.hears()] == [0]
    assert rig.taps == 0
    assert rig.wire.emit(frame(1))
    finish(rig.wire)
    assert rig.wire.is_empty()
