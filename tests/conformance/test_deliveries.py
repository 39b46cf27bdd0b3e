"""Sinks that do not take a packet: what its producer is told, and what becomes of the process."""

from __future__ import annotations

import pytest
from rig import E, N, Rig


@pytest.mark.parametrize("sink", ["Letterbox", "LetterboxOfBatches"])
@pytest.mark.parametrize("on_error", ["fail_packet", "retry", "stop"])
def test_a_source_is_told_why_a_packet_was_not_delivered(tmp_path, sink, on_error):
    # Refused and away are answers of a destination: they end no node, and trying at once again could not help.
    bad = [] if on_error == "stop" else [4]
    extra = {"on_error": on_error} | ({"retries": 2} if on_error == "retry" else {})
    nodes = [N("a", "Frames", {"count": 9, "tell": True}), N("b", "Pass")]
    nodes.append(N("c", sink, {"refused": [2, 5], "away": [3], "bad": bad}, **extra))
    with Rig(tmp_path, nodes, [E("a", "b", completion="delivered"), E("b", "c", completion="delivered")]) as rig:
        rig.run()
        told = {line["n"]: line["outcome"] for line in rig.lines("a")}
        assert told == dict.fromkeys(range(9), "ok") | {2: "refused", 3: "away", 5: "refused"} | dict.fromkeys(bad, "failed")
        assert rig.status("c").failed == 2 + len(bad)
        assert rig.books("b", "c").failed == 3 + len(bad)
        assert rig.log("c").count("away: 3") == 1


def test_a_retry_does_not_forget_what_became_of_the_first_attempt(tmp_path):
    # The first output is turned away before the last has found room; the second attempt emits none again.
    nodes = [N("a", "Frames", {"count": 5, "tell": True}), N("b", "SecondThought", {"bad": [1, 2]}, on_error="retry", retries=1)]
    nodes.append(N("c", "Letterbox", {"away": [8 * 2]}))
    with Rig(tmp_path, nodes, [E("a", "b", completion="delivered"), E("b", "c", depth=1, completion="delivered")]) as rig:
        rig.run()
        told = {line["n"]: line["outcome"] for line in rig.lines("a")}
        assert told == dict.fromkeys(range(5), "ok") | {2: "away"}
        assert rig.books("b", "c").sent == 40
        assert rig.status("b").failed == 0


@pytest.mark.parametrize("sink", ["Letterbox", "LetterboxOfBatches"])
def test_a_disk_that_fails_ends_the_process_and_fails_no_packet(tmp_path, sink):
    # Charged to the packets, these would be gone; so the next process gets them once more.
    with Rig(tmp_path, [N("a", "Frames", {"count": 9}), N("c", sink, {"broken": 3})], [E("a", "c")]) as rig:
        rig.start()
        assert rig.wait("c")["c"].exit == 1
        books = rig.books("a", "c")
        assert (rig.status("c").failed, books.failed) == (0, 0) and books.completed <= 3, books
