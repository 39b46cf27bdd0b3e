"""The producer's side of one edge: when packets share a message, and that nothing ever overtakes anything."""

from __future__ import annotations

import itertools
import threading

import pytest

from streamcore.node.out_edge import BRISK_NS, BRISK_PACKETS
from streamcore.wire.credit import report_every
from streamcore.wire.messages import DATA, END, WANT, read_data, read_end, read_header

DEADLINE_S = 10


def shapes(messages: list[bytes]) -> list[tuple[int, ...] | str]:
    """What was posted: the sequences of each DATA message, "want" for a question, "end"."""
    found: list[tuple[int, ...] | str] = []
    for raw in messages:
        header = read_header(raw)
        if header.type == END:
            found.append("end")
        elif not header.records:
            found.append("want")
        else:
            found.append(tuple(record[0] for record in read_data(raw, header.records)))
    return found


def send(edge, sequence: int, pressed: bool = False, every_ns: int = BRISK_NS) -> None:
    edge.send(sequence % 4, sequence, b"m", 0, (10 + sequence) * every_ns, pressed)


@pytest.fixture
def deep(make_wire):
    """An edge of depth 64, whose batches hold 8: (edge, what it posted)."""
    edge = make_wire(depth=64, slots=80).edges[0]
    posted: list[bytes] = []
    edge.post = posted.append
    return edge, posted


def test_an_idle_consumer_gets_its_packet_at_once(deep):
    edge, posted = deep
    for sequence in range(10):
        send(edge, sequence)
        assert shapes(posted)[-1] == (sequence,)
        take(edge, sequence)


def test_packets_for_a_busy_consumer_share_messages(deep):
    edge, posted = deep
    for sequence in range(62):
        send(edge, sequence)
    edge.flush_batch()
    lengths = [len(records) for records in shapes(posted)]
    assert lengths[: report_every(64)] == [1] * report_every(64)  # so many it may have taken without a word
    assert max(lengths) == 8
    assert [sequence for records in shapes(posted) for sequence in records] == list(range(62))


def take(edge, sequence: int) -> None:
    edge.credit.on_taken(sequence + 1)
    edge.credit.on_completed(sequence, 0)


def test_packets_that_follow_each_other_briskly_share_messages_with_an_idle_consumer(deep):
    edge, posted = deep
    for sequence in range(64):
        send(edge, sequence, every_ns=BRISK_NS - 1)
        take(edge, sequence)
    lengths = [len(records) for records in shapes(posted)]
    assert lengths == [1] * BRISK_PACKETS + [8] * ((64 - BRISK_PACKETS) // 8)


def test_a_gap_ends_briskness(deep):
    edge, posted = deep
    for sequence in range(BRISK_PACKETS):
        send(edge, sequence, every_ns=BRISK_NS - 1)
        take(edge, sequence)
    for sequence in range(BRISK_PACKETS, 2 * BRISK_PACKETS):
        send(edge, sequence, every_ns=2 * BRISK_NS)
        take(edge, sequence)
        assert shapes(posted)[-1] == (sequence,)


@pytest.mark.parametrize(("times", "shared"), [(4, True), (5, False)])
def test_with_four_consumers_packets_are_brisk_in_four_times_as_long_a_time(make_wire, times, shared):
    wire = make_wire(*["block"] * 4, depth=64, slots=80)
    posted: list[list[bytes]] = [[] for _ in wire.edges]
    for sequence in range(64):
        for edge, found in zip(wire.edges, posted, strict=True):
            edge.post = found.append
            send(edge, sequence, every_ns=times * BRISK_NS - 1)
            take(edge, sequence)
    expected = [1] * BRISK_PACKETS + [8] * ((64 - BRISK_PACKETS) // 8) if shared else [1] * 64
    assert [[len(records) for records in shapes(found)] for found in posted] == [expected] * 4


def test_an_edge_so_shallow_that_every_packet_matters_never_batches(make_wire):
    edge = make_wire(depth=8).edges[0]
    posted: list[bytes] = []
    edge.post = posted.append
    for sequence in range(2 * BRISK_PACKETS):
        send(edge, sequence, every_ns=1)
        take(edge, sequence)
    assert shapes(posted) == [(n,) for n in range(2 * BRISK_PACKETS)]


def test_running_out_of_credit_sends_the_batch_and_asks_for_more(deep):
    edge, posted = deep
    for sequence in range(64):
        send(edge, sequence)
    assert not edge.batch_since_ns
    assert read_header(posted[-1]).flags == WANT
    assert not any(read_header(raw).flags for raw in posted[:-1])


def test_it_asks_once_until_it_is_answered(deep):
    edge, posted = deep
    send(edge, 0)
    edge.ask()
    edge.ask()
    assert shapes(posted) == [(0,), "want"]
    edge.asked = False  # what a receipt does
    edge.ask()
    assert shapes(posted) == [(0,), "want", "want"]


def test_it_asks_for_nothing_while_nothing_is_under_way(deep):
    edge, posted = deep
    edge.ask()
    assert posted == []


def begin_batch(edge) -> int:
    """Send until a batch waits for company; the next sequence."""
    for sequence in itertools.count():
        if edge.batch_since_ns:
            return sequence
        send(edge, sequence)
    raise AssertionError


@pytest.mark.parametrize("what", ["ask", "end", "pressed"])
def test_nothing_overtakes_a_batch(deep, what):
    edge, posted = deep
    last = begin_batch(edge)
    if what == "ask":
        edge.ask()
    elif what == "end":
        edge.end(last)
    else:
        send(edge, last, pressed=True)
    assert shapes(posted)[-1] == {"ask": "want", "end": "end", "pressed": (last - 1, last)}[what]
    sequences = [sequence for records in shapes(posted) if isinstance(records, tuple) for sequence in records]
    assert sequences == sorted(sequences)
    assert not edge.batch_since_ns


@pytest.mark.parametrize("what", ["packet", "end", "ask"])
def test_nothing_overtakes_a_batch_that_another_thread_is_sending(deep, what):
    # The guard sends what the main thread is too busy to send. A packet or END that came first would end the stream too early.
    edge, posted = deep
    last = begin_batch(edge)
    inside, go_on = threading.Event(), threading.Event()

    def slow_post(raw: bytes) -> None:
        if threading.current_thread() is guard:
            inside.set()
            assert go_on.wait(DEADLINE_S)
        posted.append(raw)

    edge.post = slow_post
    guard = threading.Thread(target=edge.flush_batch)
    guard.start()
    assert inside.wait(DEADLINE_S), "the guard never began to send"
    acts = {"packet": lambda: send(edge, last, pressed=True), "end": lambda: edge.end(last), "ask": edge.ask}
    main = threading.Thread(target=acts[what])
    main.start()
    main.join(0.2)  # it may wait for the guard, or go on if that cannot be seen; it must not be first
    go_on.set()
    guard.join(DEADLINE_S)
    main.join(DEADLINE_S)
    edge.flush_batch()
    batch = shapes(posted).index((last - 1,))
    assert batch == len(posted) - 2, shapes(posted)


def test_an_end_comes_after_what_is_kept_and_only_once(make_wire):
    wire = make_wire("drop_oldest", depth=2, slots=8)
    edge, posted = wire.edges[0], []
    edge.post = posted.append
    for sequence in range(4):
        verdict = edge.decide(0)
        if verdict == "send":
            send(edge, sequence)
        else:
            edge.keep(sequence, sequence, b"m", 0)
    edge.end(4)
    assert "end" not in shapes(posted)
    edge.credit.on_taken(2)
    edge.credit.on_completed(0, 0)
    edge.send_kept()
    edge.end(4)
    assert [shape for shape in shapes(posted) if shape != "want"] == [(0,), (1,), (2,), (3,), "end"]
    assert read_end(posted[-1]) == 4
    assert read_header(posted[0]).type == DATA


def test_nothing_is_sent_to_a_consumer_that_is_gone(deep):
    edge, posted = deep
    edge.gone = True
    assert edge.may_send()
    assert edge.decide(0) == "drop"
    edge.end(0)
    edge.ask()
    assert posted == []
