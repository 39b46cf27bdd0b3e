"""The circuit breaker: when a server is away and when a packet is to blame."""

from __future__ import annotations

from streamcore_nodes.http_breaker import NS_PER_S, Breaker


def made(packets_max: int = 3, backoff_s: float = 1, backoff_max_s: float = 8, share: float = 1.0) -> Breaker:
    return Breaker(packets_max, backoff_s, backoff_max_s, lambda: share)


def at_s(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def test_one_packet_that_fails_alone_never_opens_it():
    breaker = made()
    assert [breaker.failed("x", "503", 0) for _ in range(100)] == [False] * 100
    assert breaker.admits("y", 0)


def test_different_packets_in_a_row_open_it_and_one_that_is_taken_begins_the_row_again():
    breaker = made()
    assert not breaker.failed("a", "503", 0)
    assert not breaker.failed("b", "503", 0)
    breaker.took()
    assert [breaker.failed(packet, "503", 0) for packet in "abac"] == [False, False, False, True]
    assert not breaker.admits("a", at_s(0.99))


def test_a_server_that_cannot_be_reached_opens_it_at_once_and_each_time_for_twice_as_long():
    breaker, now_s, waits = made(), 0.0, []
    for _ in range(5):
        breaker.away("refused", at_s(now_s))
        waits.append(breaker.until_ns / NS_PER_S - now_s)
        assert not breaker.admits("a", breaker.until_ns - 1)
        now_s = breaker.until_ns / NS_PER_S
        assert breaker.admits("b", at_s(now_s))
    assert waits == [1, 2, 4, 8, 8]
    breaker.took()
    breaker.away("refused", 0)
    assert not breaker.admits("a", breaker.until_ns - 1)


def test_jitter_takes_off_up_to_half():
    waits = []
    for share in (0.0, 0.5, 1.0):
        breaker = made(backoff_s=2, share=share)
        breaker.away("refused", 0)
        waits.append(breaker.until_ns / NS_PER_S)
    assert waits == [1, 1.5, 2]


def test_what_the_server_asks_for_is_waited_for_exactly():
    breaker = made()
    breaker.away("429", 0, at_s(100))
    assert not breaker.admits("a", at_s(100) - 1)
    assert breaker.admits("a", at_s(100))


def test_one_packet_with_retry_after_keeps_the_others_waiting_and_is_to_blame_itself():
    breaker = made()
    for round_number in range(5):
        assert breaker.admits("x", at_s(100 * round_number))
        assert not breaker.failed("x", "503", at_s(100 * round_number), at_s(100))
        assert not breaker.admits("y", at_s(100 * round_number + 99))


def test_a_server_that_is_back_and_stumbles_over_one_packet_blames_it():
    breaker = made()
    breaker.away("refused", 0)
    assert breaker.admits("x", at_s(2))
    assert not breaker.failed("x", "503", at_s(2))
    assert breaker.admits("y", at_s(2))


def test_behind_a_packet_that_got_no_further_a_few_times_another_one_is_tried():
    # After an outage the first packet may be the one that the server never takes: nothing behind it would ever move.
    breaker = made(backoff_max_s=1)
    for packet in "abc":
        breaker.failed(packet, "503", 0)
    tried = []
    for now_s in range(1, 9):
        for packet in "abc":  # as a queue gives them, each round from the first on
            if breaker.admits(packet, at_s(now_s)):
                tried.append(packet)
                assert breaker.failed(packet, "503", at_s(now_s))
    assert tried == [*"aaabaaab"]


def test_the_only_packet_there_is_is_tried_again_nevertheless():
    breaker = made(backoff_max_s=1)
    for packet in "abc":
        breaker.failed(packet, "503", 0)
    tries = 0
    for now_s in range(1, 21):
        if breaker.admits("a", at_s(now_s)):
            tries += 1
            breaker.failed("a", "503", at_s(now_s))
    assert tries == 15
