"""Taps of an output port: the edges of the port do not notice them, and what a tap is vouched for is true."""

from __future__ import annotations

import gc
import itertools
import random

import numpy as np
import pytest
from tap_rig import frame

from streamcore import limits
from streamcore.node import channel
from streamcore.node import tapping as node_tapping
from streamcore.wire.tapping import DONE, HELD, HELLO, REFUSED, VOUCHED

POLICIES = ("block", "drop_new", "drop_oldest", "latest", "sample")
MIXES = [(policy,) for policy in POLICIES] + [("block", "latest"), ("block", "block", "drop_oldest"), POLICIES]


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
                wire.finish()

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
        rig.wire.finish()
        rig.wire.finish()
        gc.collect()
        rig.wire.outlet.settle_loans()
        assert rig.taps == 0
        assert rig.wire.is_empty()


def test_a_held_frame_stays_as_it_is_while_the_port_goes_on(rig):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    rig.wire.finish()
    for number in range(2, 30):
        rig.wire.emit(frame(number))
        rig.wire.finish()
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
    rig.wire.finish()  # only the tap has it now
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
    rig.wire.finish()
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
    rig.wire.finish()
    assert rig.wire.is_empty()


@pytest.mark.parametrize("words", [[(DONE, 0)], [(DONE, 99)], [(HELLO, 0)], [(VOUCHED, 1)]], ids=str)
def test_who_does_not_keep_to_the_protocol_is_let_go(rig, words):
    tap = rig.attach()
    tap.ready()
    rig.wire.emit(frame(1))
    for kind, number in words:
        tap.say(kind, number)
    assert rig.taps == 0
    rig.wire.finish()
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
    rig.wire.finish()
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
        rig.wire.finish()
    late = rig.attach()
    (refused,) = [word for word in late.hears() if word.type == REFUSED]
    assert b"camera.out has 4 taps" in refused.rest
    assert len([rig.wire.outlet.loan((4,), np.uint8, 0) for _ in range(4)]) == 4
    assert [int(tap.take()[2][0, 0, 0]) for tap in taps] == [0, 1, 2, 3]


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
    rig.wire.finish()
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
        rig.wire.finish()
        assert tap.take() is not None
        assert rig.ears.pokes == pokes


def test_nobody_listening_is_no_reason_to_fail(rig):
    rig.tapping.on_command(channel.Tap("_tap.1.ffffffff", "out", True))
    assert rig.taps == 0
    assert rig.wire.emit(frame(1))


def test_a_node_without_descriptors_left_goes_on(rig, monkeypatch):
    # Somebody who looks must not be what ends a node.
    def refuse(fd):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("streamcore.shm.segment.reopen_readonly", refuse)
    tap = rig.attach()
    assert [word.type for word in tap.hears()] == [0]
    assert rig.taps == 0
    assert rig.wire.emit(frame(1))
    rig.wire.finish()
    assert rig.wire.is_empty()
