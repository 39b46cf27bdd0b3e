"""Spans of several nodes become the way of one packet, whose parts are its whole time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import Span
from streamcore.telemetry.traces import join, slowest

MS = 1_000_000
ORIGIN = 5_000 * MS
EDGES = {0: ("camera.out->blur.in", "camera"), 1: ("blur.out->find.in", "blur"), 2: ("camera.out->file.in", "camera")}


def ms(value: int) -> int:
    return ORIGIN + value * MS


def root(capture: int = -10, blocked: int = 0, origin: int = ORIGIN) -> Span:
    return Span(origin, NO_EDGE, 7, ms(capture), ms(capture), ms(capture), origin, blocked * MS, 0, 1)


def span(edge: int, sent: int, began: int, ended: int, blocked: int = 0, failed: int = 0, outputs: int = 0) -> Span:
    return Span(ORIGIN, edge, 3, ms(-10), ms(sent), ms(began), ms(ended), blocked * MS, failed, outputs)


CHAIN = {"camera": [root(blocked=4)], "blur": [span(0, 0, 5, 25, blocked=6, outputs=1)], "find": [span(1, 22, 40, 41)]}


def test_a_way_is_told_hop_by_hop():
    (trace,) = join(CHAIN, EDGES)
    assert (trace.source, trace.sequence, trace.began_ns, trace.end_to_end_ns) == ("camera", 7, ms(-10), 51 * MS)
    assert (trace.last, trace.failed, trace.finished) == ("find", False, True)
    parts = [(hop.node, *(ns // MS for ns in (hop.queued_ns, hop.work_ns, hop.blocked_ns, hop.held_ns))) for hop in trace.hops]
    assert parts == [("camera", 0, 6, 4, 0), ("blur", 5, 11, 6, 0), ("find", 18, 1, 0, 0)]
    assert [hop.edge for hop in trace.hops] == ["", "camera.out->blur.in", "blur.out->find.in"]


def test_what_is_sent_after_the_work_was_held():
    (trace,) = join({**CHAIN, "find": [span(1, 35, 40, 41)]}, EDGES)
    hop = trace.hops[1]
    assert (hop.held_ns, hop.blocked_ns, hop.work_ns) == (10 * MS, 6 * MS, 14 * MS)
    assert hop.wait_ns == hop.queued_ns + hop.blocked_ns + hop.held_ns


def test_of_two_ways_the_longer_one_is_told():
    (trace,) = join({**CHAIN, "file": [span(2, 0, 1, 90)]}, EDGES)
    assert (trace.last, trace.end_to_end_ns) == ("file", 100 * MS)


def test_what_is_still_on_its_way_is_not_finished():
    (trace,) = join({name: found for name, found in CHAIN.items() if name != "find"}, EDGES)
    assert (trace.last, trace.finished) == ("blur", False)


def test_what_a_node_makes_that_feeds_nobody_is_not_waited_for():
    (trace,) = join({**CHAIN, "find": [span(1, 22, 40, 41, outputs=1)]}, EDGES)
    assert (trace.last, trace.finished) == ("find", True)


def test_a_failure_is_that_of_the_last_node():
    (trace,) = join({**CHAIN, "find": [span(1, 22, 40, 41, failed=1)]}, EDGES)
    assert trace.failed


@pytest.mark.parametrize("lost", ["camera", "blur"])
def test_a_way_of_which_a_part_is_forgotten_is_not_told_to_that_end(lost):
    known = {name: found for name, found in CHAIN.items() if name != lost}
    assert [trace.last for trace in join(known, EDGES)] == ([] if lost == "camera" else ["camera"])


def test_after_a_restart_the_last_time_before_the_sending_counts():
    again = {**CHAIN, "blur": [*CHAIN["blur"], span(0, 100, 101, 120, outputs=1)], "find": [*CHAIN["find"], span(1, 119, 125, 126)]}
    (trace,) = join(again, EDGES)
    assert trace.end_to_end_ns == 136 * MS and trace.hops[1].queued_ns == 101 * MS - 100 * MS


def test_packets_are_told_apart_by_their_beginning_and_ordered_by_it():
    other = [root(capture=200, origin=ms(210)), root(capture=-60, origin=ms(-50))]
    found = join({"camera": [*other, *CHAIN["camera"]], "blur": CHAIN["blur"]}, EDGES)
    assert [trace.began_ns for trace in found] == [ms(-60), ms(-10), ms(200)]
    assert slowest(found, 1)[0].last == "blur"


@pytest.mark.parametrize("edge", [99, 1])
def test_nonsense_on_a_page_is_left_out(edge):
    assert join({"find": [span(edge, 1, 2, 3)]}, EDGES) == []


def test_a_way_in_a_circle_ends():
    edges = {0: ("a.out->b.in", "a"), 1: ("b.out->a.in", "b")}
    assert join({"a": [span(1, 5, 5, 6)], "b": [span(0, 6, 5, 7)]}, edges) == []


@pytest.mark.parametrize("seed", range(200))
def test_the_hops_of_any_way_add_up_to_its_whole_time(seed):
    rng = random.Random(seed)
    names, at = [f"n{n}" for n in range(rng.randint(2, 8))], rng.randint(0, 5)
    spans = {names[0]: [root(capture=-at, blocked=rng.randint(0, at + 3))]}
    sent = 0
    for number, name in enumerate(names[1:]):
        began = sent + rng.randint(0, 20)
        ended = began + rng.randint(0, 20)
        spans[name] = [span(number, sent, began, ended, blocked=rng.randint(0, 30), outputs=int(name != names[-1]))]
        sent = rng.randint(began, ended + 10)
    edges = {number: (f"{a}->{b}", a) for number, (a, b) in enumerate(pairwise(names))}
    (trace,) = join(spans, edges)
    assert trace.last == names[-1] and trace.finished
    assert sum(hop.wait_ns + hop.work_ns for hop in trace.hops) == trace.end_to_end_ns
    assert all(min(hop.wait_ns, hop.work_ns, hop.queued_ns, hop.blocked_ns, hop.held_ns) >= 0 for hop in trace.hops)
