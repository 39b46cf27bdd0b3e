"""The promises of an edge in every order in which its steps can happen, for small depths and windows."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from streamcore.wire.credit import BLOCK, DROP_NEW, DROP_OLDEST, LATEST, SAMPLE, EdgeCredit

sys.path.insert(0, str(Path(__file__).parent))
from credit_explorer import OFFER_EVERY_NS, SAMPLE_RATE, Explorer, Violation

pytestmark = pytest.mark.source  # it copies an edge's insides, once for each of its futures

SIZES = [(depth, window) for depth, window in itertools.product((1, 2, 3), (1, 2, 3, 4)) if window >= depth]
CASES = [(policy, *size) for policy in (BLOCK, DROP_NEW, DROP_OLDEST, SAMPLE) for size in SIZES] + [(LATEST, 1, w) for w in (1, 2, 3, 4)]


def explored(policy: str, depth: int, window: int) -> Explorer:
    explorer = Explorer(policy, depth, window, packets=5 if window <= 2 else 4)
    assert explorer.run() > 30
    assert explorer.ends
    return explorer


@pytest.mark.parametrize(("policy", "depth", "window"), CASES)
def test_every_order_of_steps_keeps_the_promises_and_ends_with_nothing_under_way(policy, depth, window):
    # An end is a state in which nothing can happen any more: if a packet were still unsent or unanswered there, that is a deadlock.
    explorer = explored(policy, depth, window)
    for end in explorer.ends:
        assert end.offered == explorer.packets
        assert len(end.finished) + len(end.dropped) == explorer.packets
        if policy == BLOCK:
            assert not end.dropped
        if policy in (DROP_OLDEST, LATEST):
            newest = range(explorer.packets - (1 if policy == LATEST else min(depth, explorer.packets)), explorer.packets)
            assert end.finished >= set(newest)


@pytest.mark.parametrize(("policy", "depth"), [(DROP_NEW, 1), (DROP_OLDEST, 2), (LATEST, 1)])
def test_a_slow_consumer_makes_an_edge_drop_and_a_fast_one_does_not(policy, depth):
    # Both ends must be among what was explored, or the test above has looked at too little.
    ends = explored(policy, depth, 2).ends
    assert any(end.dropped for end in ends)
    assert any(not end.dropped for end in ends)


def test_sampled_packets_are_those_that_are_due():
    arrivals_each = round(1e9 / SAMPLE_RATE) / OFFER_EVERY_NS
    for end in explored(SAMPLE, 3, 4).ends:
        passed = sorted(end.finished)
        assert all(later - earlier > arrivals_each - 1 for earlier, later in itertools.pairwise(passed))
        assert passed[0] == 0


class Leaky(EdgeCredit):
    """Gives a credit back for a packet that was only taken."""

    def on_taken(self, taken_upto: int) -> None:
        super().on_taken(taken_upto)
        self.window += 1


class Forgetful(EdgeCredit):
    """Leaves a kept packet where it is."""

    def next_kept(self):
        return None


@pytest.mark.parametrize(
    ("broken", "policy", "depth", "window"),
    [(Leaky, BLOCK, 1, 1), (Forgetful, LATEST, 1, 2)],
)
def test_the_explorer_finds_what_is_wrong(monkeypatch, broken, policy, depth, window):
    # A search that never finds anything proves nothing.
    monkeypatch.setattr("credit_explorer.EdgeCredit", broken)
    with pytest.raises(Violation, match=policy):
        Explorer(policy, depth, window).run()
