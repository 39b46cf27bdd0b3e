"""The checker of all fault cases passes what may be and objects to what may not: one that never objects proves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from flows import Broken, Content, Flow, Witness

CONTENT = Content("frames", 32, 24)
WHOLE, CUT = Flow("src", CONTENT), Flow("src", CONTENT, (("crop", 2, 3, 10, 11),))
COUNT = 10


def line(frame: int, flow: Flow = WHOLE, way: str = "a", redelivered: bool = False) -> dict[str, Any]:
    return {
        "source_id": flow.source,
        "frame": frame,
        "packet_id": f"{flow.ops}{way}{frame}",
        "hash": flow.hash_of(frame),
        "redelivered": redelivered,
    }


def check(lines: list[dict[str, Any]], *flows: Flow, repeats_max: int = 0, count: int = COUNT, whole: bool = True) -> Any:
    return Witness("sink", flows or (WHOLE,)).check(lines, {"src": count}, repeats_max, whole=whole)


ALL = [line(frame) for frame in range(COUNT)]


def test_each_once_and_flagged_repeats_within_their_bound_are_right():
    assert check(ALL).arrived == COUNT
    again = [*ALL[:6], line(3, redelivered=True), *ALL[6:]]
    assert check(again, repeats_max=1).repeats == 1


WRONG = {
    "a packet is missing": (ALL[:4] + ALL[5:], "did not arrive as often"),
    "the last packet is missing": (ALL[:-1], "did not arrive as often"),
    "one that was never sent": ([*ALL, line(COUNT)], "did not arrive as often"),
    "two packets with the same content": ([*ALL, line(4, way="b", redelivered=True)], "did not arrive as often"),
    "wrong pixels": ([*ALL[:4], {**ALL[4], "hash": ALL[3]["hash"]}, *ALL[5:]], "wrong content"),
    "another source": ([{**ALL[0], "source_id": "other"}, *ALL[1:]], "wrong content"),
    "overtaken": ([*ALL[:4], ALL[5], ALL[4], *ALL[6:]], "out of order"),
    "a repeat without the flag": ([*ALL, ALL[9]], "not flagged"),
    "more repeats than may be": ([*ALL, line(9, redelivered=True), line(9, redelivered=True)], "2 repeats, at most 1"),
}


@pytest.mark.parametrize(("lines", "objection"), WRONG.values(), ids=WRONG.keys())
def test_it_objects(lines, objection):
    with pytest.raises(Broken, match=objection):
        check(lines, repeats_max=1)


def test_a_frame_comes_once_by_each_way_and_each_way_has_its_order():
    twice = [each for frame in range(COUNT) for each in (line(frame), line(frame, way="b"))]
    assert check(twice, WHOLE, WHOLE).arrived == 2 * COUNT
    with pytest.raises(Broken, match="did not arrive as often"):
        check(twice[:-1], WHOLE, WHOLE)
    both = [each for frame in range(COUNT) for each in (line(frame, CUT), line(frame))]
    assert check(both, WHOLE, CUT).arrived == 2 * COUNT
    with pytest.raises(Broken, match="did not arrive as often"):
        check(both[1:], WHOLE, CUT)


def test_what_a_node_refuses_for_good_must_not_arrive():
    poisoned = Flow("src", CONTENT, without=frozenset({4}))
    assert check(ALL[:4] + ALL[5:], poisoned).arrived == COUNT - 1
    with pytest.raises(Broken, match="did not arrive as often"):
        check(ALL, poisoned)


def test_a_lossy_way_may_have_holes_but_not_change_the_order():
    lossy = Flow("src", CONTENT, lossy=True)
    assert check([ALL[1], ALL[5], ALL[8]], lossy).arrived == 3
    with pytest.raises(Broken, match="out of order"):
        check([ALL[5], ALL[1]], lossy)


def test_the_ways_of_a_killed_run_end_somewhere_without_a_hole_before():
    assert check(ALL[:7], whole=False).arrived == 7
    with pytest.raises(Broken, match="did not arrive as often"):
        check(ALL[:3] + ALL[4:7], whole=False)
    by_two = [line(0), line(0, way="b"), line(1), line(2)]
    assert check(by_two, WHOLE, WHOLE, whole=False).arrived == 4
    with pytest.raises(Broken, match="did not arrive as often"):
        check([line(0), line(1), line(1, way="b")], WHOLE, WHOLE, whole=False)
