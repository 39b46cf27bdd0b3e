"""The arithmetic of one edge: what each policy does when it is full, and books that balance whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.wire.credit import BLOCK, DROP, DROP_NEW, DROP_OLDEST, KEEP, LATEST, POLICIES, SAMPLE, SEND, WAIT, EdgeCredit
from streamcore.wire.messages import DROPPED, FAILED, OK

SECOND = 10**9


def edge(policy: str, depth: int = 2, window: int = 3, rate: float = 0.0) -> EdgeCredit:
    """An edge as the plan makes it: `latest` has depth 1 and keeps 1, `drop_oldest` keeps its depth."""
    depth = 1 if policy == LATEST else depth
    return EdgeCredit(policy, depth, window, {DROP_OLDEST: depth, LATEST: 1}.get(policy, 0), rate or (10.0 if policy == SAMPLE else 0.0))


def filled(policy: str, **numbers) -> EdgeCredit:
    """An edge whose consumer has taken nothing of all that it could be sent: sequences 0, 1, ..."""
    found = edge(policy, **numbers)
    for sequence in range(found.depth):
        assert found.decide(sequence * SECOND) is SEND
        found.on_sent(sequence)
    return found


def books_balance(found: EdgeCredit) -> bool:
    return found.sent == found.completed + found.dropped + found.failed + found.in_flight


@pytest.mark.parametrize("policy", POLICIES)
def test_an_edge_with_credit_sends(policy):
    assert edge(policy).decide(0) is SEND


@pytest.mark.parametrize("policy", POLICIES)
def test_no_more_than_depth_packets_wait_at_the_consumer(policy):
    full = filled(policy)
    assert not full.has_credit
    assert full.untaken == full.depth
    assert full.decide(99 * SECOND) is not SEND
    full.on_taken(1)
    assert full.has_credit


def test_no_more_than_window_packets_are_under_way_even_if_all_are_taken():
    full = edge(BLOCK, depth=2, window=3)
    for sequence in range(3):
        full.on_sent(sequence)
        full.on_taken(sequence + 1)
    assert (full.untaken, full.in_flight) == (0, 3)
    assert full.decide(0) is WAIT
    full.on_completed(1, OK)
    assert full.decide(0) is SEND


def test_a_consumer_that_keeps_one_packet_for_ever_costs_one_credit_and_no_more():
    # Counts, not ranges: the first packet is never completed, and the edge goes on.
    going = edge(BLOCK, depth=1, window=2)
    going.on_sent(0)
    going.on_taken(1)
    for sequence in range(1, 50):
        assert going.has_credit
        going.on_sent(sequence)
        going.on_taken(sequence + 1)
        assert not going.has_credit
        assert going.on_completed(sequence, OK)
    assert going.in_flight == 1


def test_block_waits():
    assert filled(BLOCK).decide(0) is WAIT


def test_drop_new_drops_the_new_one():
    assert filled(DROP_NEW).decide(0) is DROP


@pytest.mark.parametrize(("policy", "kept"), [(DROP_OLDEST, 2), (LATEST, 1)])
def test_drop_oldest_and_latest_keep_the_newest(policy, kept):
    full, displaced = filled(policy), []
    for sequence in range(10, 16):
        assert full.decide(0) is KEEP
        displaced.append(full.on_kept((sequence % 4, sequence)))
    assert [row[1] for row in full.kept] == [*range(16 - kept, 16)]
    assert [row[1] for row in displaced if row] == [*range(10, 16 - kept)]
    assert (full.dropped, books_balance(full)) == (6 - kept, True)


def test_what_was_kept_is_sent_before_anything_newer():
    full = filled(LATEST)
    full.on_kept((3, 10))
    full.on_taken(10)
    assert full.decide(0) is KEEP  # there is credit, but sending the new one now would turn the order around
    assert full.next_kept() == (3, 10)
    assert full.next_kept() is None


def test_kept_packets_wait_for_credit():
    full = filled(DROP_OLDEST)
    full.on_kept((0, 10))
    assert full.next_kept() is None
    full.on_completed(0, OK)  # completed, but not known as taken: the depth is still full
    full.on_taken(1)
    assert full.next_kept() == (0, 10)
    assert (full.sent, full.in_flight) == (3, 2)


@given(
    st.floats(0.5, 1000),
    st.lists(st.integers(0, 3 * SECOND) | st.integers(0, 10_000_000), min_size=2, max_size=80),
)
def test_sample_never_lets_more_than_its_rate_pass(rate, gaps_ns):
    # k + 1 packets span more than k - 1 intervals, wherever one looks: jitter may move a packet, never add one.
    sampled, now_ns, passed = EdgeCredit(SAMPLE, 1000, 1000, 0, rate), 0, []
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        if sampled.decide(now_ns) is SEND:
            passed.append(now_ns)
    interval_ns = round(1e9 / rate)
    for first in range(len(passed)):
        for last in range(first + 1, len(passed)):
            assert passed[last] - passed[first] > (last - first - 1) * interval_ns


def test_sample_passes_its_full_rate_although_arrivals_jitter():
    # Judged by gaps between packets that passed, a camera at 30 fps sampled at 10 would give 7.5 as soon as one frame came late.
    sampled, passed = EdgeCredit(SAMPLE, 1000, 1000, 0, 10.0), 0
    for frame in range(3000):
        jitter_ns = (frame * 7919) % 20_000_000
        passed += sampled.decide(round(frame * SECOND / 30) + jitter_ns) is SEND
    assert 995 <= passed <= 1001


def test_sample_starts_anew_after_a_pause_and_sends_no_burst():
    sampled = EdgeCredit(SAMPLE, 1000, 1000, 0, 1.0)
    assert sampled.decide(0) is SEND
    passed = [ms for ms in range(10_000, 12_000, 100) if sampled.decide(ms * 1_000_000) is SEND]
    assert passed == [10_000, 11_000]


def test_sample_drops_when_its_edge_is_full():
    full = filled(SAMPLE, depth=2)
    assert full.decide(99 * SECOND) is DROP


def test_an_older_word_on_what_was_taken_changes_nothing():
    some = filled(BLOCK, depth=4, window=9)
    some.on_taken(3)
    some.on_taken(1)
    assert some.untaken == 1


@pytest.mark.parametrize(("outcome", "count"), [(OK, "completed"), (DROPPED, "dropped"), (FAILED, "failed")])
def test_every_outcome_is_counted_under_its_name(outcome, count):
    some = filled(BLOCK)
    assert some.on_completed(0, outcome)
    assert getattr(some, count) == 1
    assert books_balance(some)


@pytest.mark.source
@pytest.mark.parametrize("sequence", [0, 5, -1, 2**64])
def test_a_completion_of_what_is_not_under_way_changes_nothing(sequence):
    some = filled(BLOCK)
    some.on_completed(0, OK)
    before = dict(vars(some))
    assert some.on_completed(sequence, FAILED) is False
    assert vars(some) == before


def test_when_the_consumer_is_gone_everything_under_way_or_kept_has_failed():
    some = filled(DROP_OLDEST)
    some.on_kept((0, 10))
    some.on_gone()
    some.on_lost()
    assert (some.failed, some.in_flight, some.sent) == (4, 0, 4)
    assert books_balance(some)


@settings(max_examples=300)
@given(
    st.sampled_from(POLICIES),
    st.integers(1, 4),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["offer", "take", "complete", "stale", "gone"]), st.integers(0, 50)), max_size=120),
)
def test_the_account_balances_after_any_history(policy, depth, window, history):
    found, offered, sequence, untaken, open_ = edge(policy, depth, window), 0, 0, [], []
    for what, number in history:
        if what == "offer":
            verdict = found.decide(offered * SECOND // 7)
            if verdict is WAIT:
                continue
            offered += 1
            if verdict is SEND:
                found.on_sent(sequence)
                untaken.append(sequence)
            elif verdict is KEEP:
                found.on_kept((0, sequence))
            else:
                found.on_dropped()
            sequence += 1
        elif what == "take" and untaken:
            open_.append(untaken.pop(0))
            found.on_taken(open_[-1] + 1)
        elif what == "complete" and open_:
            assert found.on_completed(open_.pop(number % len(open_)), number % 3)
        elif what == "stale":
            assert not found.on_completed(sequence + number, OK)
        elif what == "gone" and number > 48:
            found.on_gone()
            untaken, open_ = [], []
        while (row := found.next_kept()) is not None:
            untaken.append(row[1])
        assert found.sent == offered
        assert books_balance(found)
        assert found.in_flight == len(untaken) + len(open_) + len(found.kept)
        assert len(untaken) <= found.depth
        assert len(untaken) + len(open_) <= found.window
