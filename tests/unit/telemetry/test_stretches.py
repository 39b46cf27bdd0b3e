"""One packet's way as stretches: they lie within each other, in order, and add up to what the trace says."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from streamcore.telemetry.stretches import WAIT, WORK, count, stretches
from streamcore.telemetry.traces import Hop, Trace


def hop(node: str, edge: str = "e", queued: int = 0, work: int = 0, blocked: int = 0, held: int = 0) -> Hop:
    return Hop(node, edge, queued + blocked + held, work, queued, blocked, held)


def trace(*hops: Hop, failed: bool = False) -> Trace:
    return Trace("camera", 7, 1_000, sum(hop.wait_ns + hop.work_ns for hop in hops), failed, True, hops)


def test_a_hop_is_queued_then_at_work_then_held():
    whole = trace(hop("camera", "", work=6, blocked=4), hop("blur", "camera.out->blur.in", queued=5, work=11, blocked=6, held=3))
    found = [(each.name, each.parent, each.start_ns - 1_000, each.end_ns - 1_000) for each in stretches(whole)]
    assert found == [
        ("packet", -1, 0, 35),
        ("camera", 0, 0, 10),
        (WAIT, 1, 0, 0),
        (WORK, 1, 0, 10),
        ("blur", 0, 10, 35),
        (WAIT, 4, 10, 15),
        (WORK, 4, 15, 32),
    ]
    assert stretches(whole)[0].attributes == {"source": "camera", "sequence": 7, "failed": False}
    lengths = {"wait_ns": 14, "work_ns": 11, "queued_ns": 5, "blocked_ns": 6, "held_ns": 3}
    assert stretches(whole)[4].attributes == {"edge": "camera.out->blur.in", **lengths}
    assert "edge" not in stretches(whole)[1].attributes


def test_only_the_packet_and_its_last_node_have_failed():
    found = stretches(trace(hop("camera", work=1), hop("blur", queued=1, work=1), failed=True))
    assert [(each.name, each.failed) for each in found if each.name != WAIT] == [
        ("packet", True),
        ("camera", False),
        (WORK, False),
        ("blur", True),
        (WORK, True),
    ]


@pytest.mark.parametrize("seed", range(50))
def test_whatever_the_way_stretches_nest_and_add_up(seed):
    draw = random.Random(seed)
    way = trace(*(hop(f"n{number}", "e", *(draw.choice((0, draw.randrange(10**9))) for _ in range(4))) for number in range(seed % 7 + 1)))
    found = stretches(way)
    assert len(found) == count(way)
    for each in found:
        assert each.start_ns <= each.end_ns
        if each.parent >= 0:
            assert found[each.parent].start_ns <= each.start_ns and each.end_ns <= found[each.parent].end_ns
    nodes = [place for place, each in enumerate(found) if each.parent == 0]
    assert (found[0].start_ns, found[0].end_ns) == (way.began_ns, way.began_ns + way.end_to_end_ns)
    assert (found[nodes[0]].start_ns, found[nodes[-1]].end_ns) == (found[0].start_ns, found[0].end_ns)
    assert all(found[one].end_ns == found[other].start_ns for one, other in pairwise(nodes))  # nothing lies between two hops
    for place, was in zip(nodes, way.hops, strict=True):
        node, wait, work = found[place : place + 3]
        assert (wait.name, wait.parent, work.name, work.parent) == (WAIT, place, WORK, place)
        assert node.start_ns == wait.start_ns and wait.end_ns == work.start_ns
        assert wait.end_ns - wait.start_ns == was.queued_ns
        assert work.end_ns - work.start_ns - was.blocked_ns == was.work_ns
        assert (wait.end_ns - wait.start_ns) + was.blocked_ns + (node.end_ns - work.end_ns) == was.wait_ns
