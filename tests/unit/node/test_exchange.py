"""What one process does with its messages: whom it answers when, what it refuses, and what it does when it is told to end."""

from __future__ import annotations

import logging
import time
from collections import deque

import pytest

from streamcore.errors import Stopped
from streamcore.node import channel
from streamcore.node.exchange import DEAF_NS, DRAIN_MAX, DROPPING_TURN_PACKETS, TURN_NS, TURN_PACKETS, Exchange
from streamcore.node.inlet import Inlet
from streamcore.node.outlet import Outlet
from streamcore.wire import messages

LONG_AGO, LATER = 0, 1 << 62
KEY = 0xABCD1234


class Inbox:
    """What has arrived; a wait that finds nothing is over at once, and how long it would have been is kept."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.waits_ms: list[int | None] = []
        self.slept_ns: list[int] = []

    def take(self) -> bytes | None:
        return self.queue.popleft() if self.queue else None

    def poll(self, timeout_ms: int | None) -> bool:
        self.waits_ms.append(timeout_ms)
        return bool(self.queue)

    def sleep(self, duration_ns: int) -> None:
        self.slept_ns.append(duration_ns)


class Middle:
    """A process between two edges: `wire` leads to it, `onward` leads on from it."""

    def __init__(self, wire, onward):
        self.wire, self.onward, self.inbox = wire, onward, Inbox()
        self.consumer = wire.consumers[0]
        status = self.consumer.page.writer
        self.exchange = Exchange("middle", self.inbox, status, logging.getLogger("test_exchange"), KEY)
        self.outlet: Outlet = onward.outlet
        self.exchange.wire([self.consumer.inlet], {"out": self.outlet})
        self.exchange.out_edges = {100: (self.outlet, onward.edges[0])}

    def arrives(self, message: bytes) -> None:
        """As a process of the run sends it."""
        self.inbox.queue.append(messages.sealed(message, KEY))

    def hand_over(self) -> None:
        """What the producer has sent arrives."""
        self.wire.flush()
        while self.consumer.to_it:
            self.arrives(self.consumer.to_it.popleft())

    def take(self):
        inlet, record = self.exchange.waiting.popleft()
        return inlet.take(record)

    @property
    def sent_back(self) -> int:
        return len(self.consumer.to_producer)


@pytest.fixture
def middle(make_wire):
    return Middle(make_wire(depth=8), make_wire(depth=8, forwards=frozenset({"in"})))


def emit(middle: Middle, count: int, pressed: bool = False) -> None:
    for number in range(count):
        middle.wire.emit({"n": number}, pressed and number == count - 1)
    middle.hand_over()


def test_a_wait_without_anything_to_report_has_no_end(middle):
    middle.exchange.wait(None)
    assert middle.inbox.waits_ms == [None]


def test_what_is_unreported_is_reported_after_a_short_idle_delay(middle):
    emit(middle, 1)
    middle.exchange.wait(None)
    packet = middle.take()
    middle.exchange.wait(None)
    assert middle.inbox.waits_ms[-1] is not None
    assert middle.sent_back == 1
    middle.exchange.wait(None)
    assert (middle.inbox.waits_ms[-1], middle.sent_back) == (None, 1)
    del packet


def test_durations_that_were_counted_wake_nobody_again(middle):
    middle.exchange.timing.work(5_000_000)
    middle.exchange.wait(None)
    assert middle.inbox.waits_ms == [None]


def test_a_producer_out_of_credit_gets_its_receipt_before_the_wait(middle):
    emit(middle, 2, pressed=True)
    middle.exchange.wait(None)
    packet = middle.take()
    middle.arrives(messages.WAKE_MESSAGE)  # so that the wait is not an idle one
    middle.exchange.wait(None)
    assert middle.sent_back == 1
    del packet


def test_a_deadline_bounds_the_wait(middle):
    middle.exchange.wait(1)
    assert middle.inbox.waits_ms == [0]


def test_a_wait_for_a_near_deadline_alone_answers_what_has_come_when_it_is_over(middle):
    emit(middle, 1)
    middle.exchange.wait(time.monotonic_ns() + DEAF_NS, deaf=True)
    (slept_ns,) = middle.inbox.slept_ns
    assert 0 < slept_ns <= DEAF_NS
    assert (middle.inbox.waits_ms, len(middle.exchange.waiting)) == ([], 1)


def test_a_wait_is_not_deaf_to_what_has_to_be_answered_sooner(middle, make_wire):
    middle.exchange.wait(time.monotonic_ns() + 2 * DEAF_NS + 10**10, deaf=True)  # an order to end would come late
    middle.exchange.wait(LONG_AGO, deaf=True)
    emit(middle, 1)
    middle.exchange.wait(None)
    packet = middle.take()
    middle.exchange.wait(time.monotonic_ns() + DEAF_NS, deaf=True)  # a receipt is due after a while
    assert (len(middle.inbox.waits_ms), middle.sent_back) == (4, 1)
    del packet
    keeping = Middle(make_wire(depth=8), make_wire("latest"))
    keeping.exchange.wait(time.monotonic_ns() + DEAF_NS, deaf=True)  # what is kept leaves with the next credit
    assert len(keeping.inbox.waits_ms) == 1
    assert middle.inbox.slept_ns == keeping.inbox.slept_ns == []


def test_the_inbox_is_not_glanced_at_twice_within_a_moment(middle):
    middle.exchange.wait(None)
    middle.exchange._turned_ns = time.monotonic_ns() + 10**9  # just now, whatever this thread had to wait for
    middle.exchange.glance()
    assert len(middle.inbox.waits_ms) == 1
    middle.exchange._turned_ns = LONG_AGO
    emit(middle, 1)
    middle.exchange.glance()
    assert (len(middle.inbox.waits_ms), len(middle.exchange.waiting)) == (2, 1)


@pytest.mark.parametrize(("policy", "packets"), [("block", TURN_PACKETS), ("drop_new", DROPPING_TURN_PACKETS)])
def test_between_packets_the_inbox_is_looked_into_every_so_often(make_wire, policy, packets):
    middle = Middle(make_wire(depth=8), make_wire(policy))
    middle.exchange.wait(None)
    emit(middle, 1)
    for _ in range(packets - 1):
        assert middle.exchange.look_around(LONG_AGO) is False
    assert middle.exchange.look_around(LONG_AGO) is True
    assert len(middle.exchange.waiting) == 1
    assert middle.exchange.look_around(LATER + TURN_NS) is True  # or after a long packet


def test_a_question_is_passed_on_to_those_who_hold_the_answer(middle):
    # The producer waits for packets that this process has forwarded: only its own consumers can complete them.
    emit(middle, 1)
    middle.exchange.wait(None)
    packet = middle.take()
    onward = middle.onward.consumers[0]
    middle.outlet.emit(packet.derive(payload=1), False)
    emit(middle, 1, pressed=True)
    middle.exchange.wait(None)
    onward.arrive()
    assert not onward.inlet.want  # nothing forwarded: asking would only cost messages
    middle.outlet.pinned = 1
    middle.wire.edges[0].asked = False
    emit(middle, 1, pressed=True)
    middle.exchange.wait(None)
    onward.arrive()
    assert onward.inlet.want
    del packet


@pytest.mark.parametrize(
    "raw",
    [
        b"noise",
        messages.data_one(77, 1, 0, 0, 0, 0, 0, b""),
        messages.receipt(77, 1, 0, []),
        messages.end(77, 1, 0),
    ],
    ids=["noise", "DATA of another edge", "RECEIPT of another edge", "END of another edge"],
)
def test_a_message_that_is_not_for_this_process_is_refused_and_counted(middle, raw, caplog):
    for _ in range(9):
        middle.arrives(raw)
    middle.exchange.wait(None)
    middle.exchange.wait(None)
    assert middle.consumer.page.node("refused") == 9
    assert len([record for record in caplog.records if "message refused" in record.message]) == 4  # the 1st, 2nd, 4th and 8th
    assert not middle.exchange.ended


def test_a_flood_does_not_keep_a_process_from_its_packets(middle):
    # Each look answers a bounded number; what is left ends the next wait at once.
    for _ in range(3 * DRAIN_MAX):
        middle.inbox.queue.append(b"flood")
    emit(middle, 1)
    for left in (2, 1, 0):
        assert not middle.exchange.waiting
        middle.exchange.wait(None)
        assert len(middle.inbox.queue) == left * DRAIN_MAX + (left > 0) or not left
    middle.exchange.wait(None)
    assert len(middle.exchange.waiting) == 1
    assert middle.consumer.page.node("refused") == 3 * DRAIN_MAX


def test_a_successor_counts_on_from_what_its_predecessor_has_refused(middle):
    middle.inbox.queue.append(b"noise")
    middle.exchange.wait(None)
    successor = Exchange("middle", middle.inbox, middle.consumer.page.writer, logging.getLogger("test_exchange"), KEY)
    successor.refuse("more noise")
    assert middle.consumer.page.node("refused") == 2


def test_a_successor_counts_on_how_long_its_predecessor_has_waited(middle):
    # Rates come from differences: a count that begins anew would hide a wait behind every restart.
    middle.exchange.wait(None)
    middle.exchange.wait_for(lambda: True, None)
    idle_ns, blocked_ns = middle.exchange.idle_ns, middle.exchange.credit_wait_ns
    assert idle_ns and blocked_ns
    successor = Exchange("middle", middle.inbox, middle.consumer.page.writer, logging.getLogger("test_exchange"), KEY)
    assert (successor.idle_ns, successor.credit_wait_ns) == (idle_ns, blocked_ns)


@pytest.mark.parametrize("forged", [messages.data_one(0, 1, 0, 0, 0, 0, 0, b""), messages.end(0, 1, 0), messages.WAKE_MESSAGE])
def test_without_the_key_nothing_is_believed(middle, forged):
    for raw in (forged, messages.sealed(forged, KEY ^ 1), messages.sealed(forged, 0)):
        middle.inbox.queue.append(raw)
    middle.exchange.wait(None)
    assert middle.consumer.page.node("refused") == 3
    assert not middle.exchange.ended and not middle.exchange.waiting


def test_an_input_ends_when_its_end_has_come_and_all_was_taken(middle):
    emit(middle, 1)
    middle.wire.edges[0].end(1)
    middle.hand_over()
    middle.exchange.wait(None)
    assert not middle.exchange.ended
    packet = middle.take()
    assert middle.exchange.ended
    del packet


class Line:
    """A connection to a peer: what was posted."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def close(self, *, orderly: bool) -> None:
        self.send = lambda message: None


def test_start_is_acted_on_in_the_main_loop(middle):
    opened: dict[tuple[str, int], Line] = {}
    middle.exchange.open_peer = lambda node, incarnation: opened.setdefault((node, incarnation), Line())
    middle.exchange.commands.append(channel.Start({"camera": 3, "sink0": 1}))
    assert not middle.exchange.started
    middle.exchange.wait(None)
    assert middle.exchange.started
    assert set(opened) == {("camera", 3), ("sink0", 1)}
    assert middle.consumer.inlet.peer_incarnation == 3


def test_a_restarted_peer_is_connected_once_whoever_tells_of_it_first(middle):
    opened: dict[tuple[str, int], Line] = {}
    middle.exchange.open_peer = lambda node, incarnation: opened.setdefault((node, incarnation), Line())
    middle.exchange.commands.append(channel.Start({"camera": 1, "sink0": 1}))
    middle.exchange.wait(None)
    middle.consumer.forge_row(1, 0)
    middle.arrives(messages.data_one(0, 2, 0, 0, 0, 1, 0, b""))
    middle.exchange.commands.append(channel.PeerRestarted("camera", 2))
    middle.exchange.wait(None)
    assert list(opened) == [("camera", 1), ("sink0", 1), ("camera", 2)]
    middle.arrives(messages.data_one(0, 1, 0, 9, 0, 1, 0, b""))  # still on its way from the dead one
    middle.exchange.wait(None)
    assert (middle.consumer.inlet.waiting, middle.consumer.page.node("refused")) == (1, 0)


def test_a_process_told_to_terminate_stops_at_the_next_look(middle):
    middle.exchange.terminating = True
    with pytest.raises(Stopped):
        middle.exchange.wait(None)
    with pytest.raises(Stopped):
        middle.exchange.wait_for(lambda: False, None)


def test_when_a_producer_is_gone_its_edge_has_ended_and_nothing_is_sent_to_it(middle):
    emit(middle, 1)
    middle.exchange.wait(None)
    middle.exchange.commands.append(channel.PeerGone("camera"))
    middle.exchange.wait(None)
    packet = middle.take()
    assert middle.exchange.ended
    del packet
    middle.exchange.wait(None)
    assert middle.sent_back == 0


def test_what_a_producer_had_committed_before_it_was_gone_is_processed_although_its_messages_never_came(middle):
    # The coordinator's word comes by another way than DATA, and a batch may have died with the process that held it.
    emit(middle, 1)
    middle.exchange.wait(None)
    for number in (1, 2):
        middle.wire.emit({"n": number})
    middle.consumer.to_it.clear()
    middle.exchange.commands.append(channel.PeerGone("camera"))
    middle.exchange.wait(None)
    packets = [middle.take() for _ in range(3)]
    assert [(packet.payload["n"], packet.sequence, packet.redelivered) for packet in packets] == [(n, n, False) for n in range(3)]
    assert middle.exchange.ended
    del packets
    middle.exchange.wait(None)
    assert middle.consumer.page.edge(0).waiting == 0


def test_of_what_a_lost_producer_left_a_message_that_comes_late_is_a_repeat(middle):
    middle.wire.emit({"n": 0})
    middle.exchange.commands.append(channel.PeerGone("camera"))
    middle.exchange.wait(None)
    middle.hand_over()
    middle.exchange.wait(None)
    assert len(middle.exchange.waiting) == 1


def test_a_new_process_gets_what_a_lost_producer_left_for_its_predecessor_and_it_says_so(make_wire):
    wire = make_wire()
    wire.emit({"n": 0})
    first, again = wire.consumers[0], wire.consumers[0].inlet
    packet = first.take()
    packet.parent.settle()
    del packet
    first.settle()  # processed, and the receipt went to nobody
    wire.emit({"n": 1})
    again = Inlet(again.plan, {0: wire.reader}, wire.shape.entry_count, 2, first.page.writer, first.released.append)
    processed, left = again.left_behind()
    assert again.take(processed) is None
    packet = again.take(left)
    assert (packet.payload, packet.redelivered) == ({"n": 1}, True)


def test_everything_is_delivered_when_the_last_packet_is_completed_and_the_end_was_told(middle):
    onward = middle.onward
    onward.emit({"n": 1})
    assert not middle.exchange.delivered
    onward.edges[0].end(1)
    assert not middle.exchange.delivered
    onward.consumers[0].take().parent.settle()
    onward.report()
    assert middle.exchange.delivered


def test_a_wait_for_something_that_is_there_already_is_no_wait(middle):
    assert middle.exchange.wait_for(lambda: True, None)
    assert middle.inbox.waits_ms == []
    assert middle.exchange.wait_for(lambda: False, 1) is False
