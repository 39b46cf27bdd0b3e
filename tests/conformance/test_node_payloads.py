"""What travels between node processes: every payload as it was, copied as rarely as promised; what cannot travel fails alone."""

from __future__ import annotations

import pytest
from rig import E, N, Rig
from rig_nodes import CUTS, digest, frame, payload_of

GOOD = ["loan", "plain", "turned", "floats", "empty", "bytes", "no bytes", "json", "none", "big json"]
BAD = ["objects", "complex", "a set", "too large", "big meta", "nowhere:json", "aux:bytes", "nonsense", "nothing"]
COPIED_ONCE = {"plain", "turned", "floats", "empty", "bytes", "big json"}


def expected(kind: str) -> str:
    return digest(frame(1) if kind == "loan" else payload_of(kind, None))


def test_every_payload_arrives_as_it_was_and_what_cannot_travel_fails_alone(tmp_path):
    script = [kind for pair in zip(GOOD, [*BAD, "json"], strict=True) for kind in pair]
    nodes = [N("a", "Script", {"script": script}), N("b", "Pass"), N("c", "Witness"), N("d", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b"), E("b", "c"), E("a", "d")]) as rig:
        rig.run()
        for sink in ("c", "d"):
            assert {line["n"]: line["digest"] for line in rig.lines(sink)} == {
                number: expected(kind) for number, kind in enumerate(script) if kind in GOOD
            }
            assert [line["sequence"] for line in rig.lines(sink)] == list(range(len(GOOD) + 1))
        source = rig.status("a")
        assert (source.failed, source.emitted) == (len(BAD), len(GOOD) + 1)
        assert source.copied == sum(kind in COPIED_ONCE for kind in script) + 1  # and the value that made room for too large a `meta`
        assert rig.books("a", "d").completed == len(GOOD) + 1
        log = rig.log("a")
        assert "failed in emit (1 so far): PayloadError: port a.out: found array of dtype object, shape (1,), which cannot travel" in log
        assert log.count("failed in emit") == 4  # the 1st, 2nd, 4th and 8th


def test_forwarding_copies_nothing_and_a_port_that_may_not_forward_copies_once(tmp_path):
    nodes = [N("a", "Frames", {"count": 6}), N("b", "Pass", {"cut": "crop"}), N("m", "Copy"), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b"), E("b", "m"), E("m", "c")]) as rig:
        rig.run()
        assert [line["digest"] for line in rig.lines("c")] == [digest(frame(number)[CUTS["crop"]]) for number in range(6)]
        assert [rig.status(name).copied for name in ("a", "b", "m")] == [0, 0, 6]


def test_a_port_refuses_what_it_does_not_declare_with_found_and_expected(tmp_path):
    with Rig(tmp_path, [N("a", "Typed"), N("c", "Witness")], [E("a", "c")]) as rig:
        rig.run()
        assert len(rig.lines("c")) == 1
        assert rig.status("a").failed == 4
        assert "port a.out: found array of dtype uint16, shape (12, 16, 3), expected array(uint8, ndim=3)" in rig.log("a")


@pytest.mark.parametrize(
    ("cls", "checks", "processed"),
    [
        ("Strict", "first", [2, 3, 4]),  # asked until one fits, then not again
        ("Strict", "all", [2, 4]),
        ("Strict", "off", [0, 1, 2, 3, 4]),
        ("StrictBatches", "all", [2, 4]),
    ],
)
def test_a_consumer_is_not_given_what_its_port_does_not_declare(tmp_path, cls, checks, processed):
    nodes = [N("a", "Script", {"script": ["json", "floats", "loan", "bytes", "loan"]}), N("c", cls, {}, checks)]
    with Rig(tmp_path, nodes, [E("a", "c")]) as rig:
        rig.run()
        assert [line["n"] for line in rig.lines("c")] == processed
        books, failed = rig.books("a", "c"), 5 - len(processed)
        assert (books.completed, books.failed, books.in_flight, rig.status("c").failed) == (len(processed), failed, 0, failed)
        if failed:
            assert "failed in check (1 so far): PayloadError: port c.in: found dict, expected array(uint8, shape=(12, 16, 3))" in rig.log(
                "c"
            )


def test_an_exception_fails_its_packet_and_no_other(tmp_path):
    clumsy = {"bad": [1, 4], "odd": {"2": "objects", "3": "port"}}
    nodes = [N("a", "Script", {"script": ["json"] * 6}), N("b", "Clumsy", clumsy), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b"), E("b", "c")]) as rig:
        rig.run()
        assert [line["n"] for line in rig.lines("c")] == [0, 5]
        books, status = rig.books("a", "b"), rig.status("b")
        assert (books.completed, books.failed, status.failed, status.consumed) == (2, 4, 4, 6)
        log = rig.log("b")
        assert "ValueError: cannot count to 1" in log
        assert "Traceback" in log  # of the author's own mistake; a refused payload needs none


def test_the_id_of_an_output_follows_from_its_input_alone(tmp_path):
    # Two nodes of the same work give different ids, the same node in two runs the same ones: so a repeat is known as one.
    found = []
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        nodes = [N("a", "Frames", {"count": 3}), N("b", "Pass"), N("m", "Pass"), N("c", "Witness"), N("d", "Witness")]
        with Rig(folder, nodes, [E("a", "b"), E("a", "m"), E("b", "c"), E("m", "d")]) as rig:
            rig.run()
            found.append([[line["id"] for line in rig.lines(sink)] for sink in ("c", "d")])
    assert found[0] == found[1]
    assert len({packet_id for sink in found[0] for packet_id in sink}) == 6


@pytest.mark.parametrize("group", [1, 7])
def test_many_small_packets_arrive_in_order_at_every_consumer(tmp_path, group):
    nodes = [N("a", "Numbers", {"count": 7000, "group": group}), N("b", "Pass"), N("c", "Counting"), N("d", "Counting")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=64), E("b", "c", depth=64), E("a", "d", depth=16)]) as rig:
        rig.run()
        assert rig.lines("c") == rig.lines("d") == [{"count": 7000, "in_order": True}]
        assert rig.books("a", "b").completed == rig.books("b", "c").completed == rig.books("a", "d").completed == 7000
