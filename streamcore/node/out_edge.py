"""The producer's side of one edge: credits, what is kept while it is full, and the DATA messages to its consumer.

Smart batching: while the consumer certainly has packets left to take, further ones share a message. That is known from its receipts:
it reports in time (report_every), so with more unreported it cannot have taken them all. They do so as well once packets have followed
each other briskly for a while: then the next one is a moment away, and a message for each would cost both sides more than the packet. A
batch leaves when it is full, when credit runs out, and whenever the host looks around or waits; if node code keeps the main thread longer,
the lifeline's guard sends it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from streamcore import limits
from streamcore.graph.model import EdgePlan
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.status import EDGE_WORD, StatusWriter
from streamcore.wire import messages
from streamcore.wire.credit import BATCHING_DEPTH, DROP, EdgeCredit, Row, report_every
from streamcore.wire.turn import Turn

BRISK_NS: Final = 50_000  # between two packets: a message and the wake-up of its consumer cost about as much as such a gap
BRISK_PACKETS: Final = 16  # each other one halves the count: a frame and what belongs to it are no stream, and leave at once
NEVER: Final = (1 << 62) - 1  # a larger one compares slowly

_SENT: Final = EDGE_WORD["sent"]
_COMPLETED: Final = EDGE_WORD["completed"]
_DROPPED: Final = EDGE_WORD["dropped"]
_FAILED: Final = EDGE_WORD["failed"]
_IN_FLIGHT: Final = EDGE_WORD["in_flight"]


class OutEdge:
    """One edge of an output port. The arithmetic is EdgeCredit's; this adds messages and counters."""

    def __init__(self, plan: EdgePlan, incarnation: int, status: StatusWriter):
        self.plan, self.bit, self._id = plan, 1 << plan.bit, plan.id
        self._data_one = messages.data_one  # here it costs no look-up, per packet
        self.credit = EdgeCredit(plan.policy, plan.depth, plan.window, plan.kept, plan.rate)
        self.verdict = DROP
        self.gone = False  # the consumer takes nothing more
        self.done = False  # because it has ended in good order
        self.last_outcomes: dict[int, int] = {}  # of a consumer that is about to be done, by sequence: what it did not complete well
        self.asked = False  # WANT was sent and no receipt has come since
        self.peer_incarnation = 1
        self._incarnation = incarnation
        self._words, self._row, self._lost_told = status.words, status.row(plan.id), -1
        self._before = status.counters(plan.id)
        self._kept_data: dict[int, tuple[int, bytes, int]] = {}  # sequence: entry, metadata, flags
        self._end_at: int | None = None
        self.end_sent = False
        self.post: Callable[[bytes], None] = lambda message: None  # set when the peer is connected
        self._batch: list[messages.Record] = []
        turn = Turn()  # at the batch: main thread and guard
        self._take_turn, self._give_turn = turn.take, turn.give
        self._batch_max = plan.depth // 8
        self._busy_above = report_every(plan.depth) + self._batch_max if plan.depth >= BATCHING_DEPTH else plan.depth
        self._batch_bytes, self._batch_bytes_max, self._record_bytes = 0, limits.BATCH_BYTES_MAX, messages.RECORD.size
        self._brisk = 0  # packets so far that followed the one before them briskly
        self._brisk_from = BRISK_PACKETS if plan.depth >= BATCHING_DEPTH else NEVER
        self._posted_ns = 0
        self.brisk_ns = BRISK_NS  # an outlet of several edges makes it longer
        self.gathers = False  # more packets follow at once: none leaves alone
        self.batch_since_ns = 0  # when the batch was begun; 0: there is none
        self.on_batch: Callable[[], None] = lambda: None  # set by the host: a guard is needed

    def decide(self, now_ns: int) -> str:
        """What to do with one more packet; kept in `verdict` until it is committed."""
        self.verdict = DROP if self.gone else self.credit.decide(now_ns)
        return self.verdict

    def may_send(self) -> bool:
        if self.gone or self.credit.has_credit:
            return True
        self.ask()  # a receipt came, but brought no credit
        return False

    def send(self, entry: int, sequence: int, meta: bytes, flags: int, now_ns: int, pressed: bool) -> None:
        credit = self.credit
        credit.on_sent(sequence)
        self._post(entry, sequence, meta, flags, now_ns, pressed)
        words, row = self._words, self._row
        words[row + _SENT], words[row + _IN_FLIGHT] = credit.sent, credit.in_flight

    def _post(self, entry: int, sequence: int, meta: bytes, flags: int, now_ns: int, pressed: bool) -> None:
        want = 0
        if (pressed or not self.credit.has_credit) and not self.asked:
            want, self.asked = messages.WANT, True
        self._brisk = min(self._brisk + 1, 4 * BRISK_PACKETS) if now_ns - self._posted_ns < self.brisk_ns else self._brisk // 2
        self._posted_ns = now_ns
        followed = self._brisk >= self._brisk_from or self.credit.untaken > self._busy_above
        if self.batch_since_ns or self.gathers or (followed and not want):
            self._add_to_batch((sequence, now_ns, entry, flags, meta), want)
        else:
            self.post(self._data_one(self._id, self._incarnation, want, sequence, now_ns, entry, flags, meta))

    def _add_to_batch(self, record: messages.Record, want: int) -> None:
        self._take_turn()
        try:
            if not self._batch:
                self.batch_since_ns = record[1]
                self.on_batch()
            self._batch.append(record)
            self._batch_bytes += self._record_bytes + len(record[4])
            if want or len(self._batch) >= self._batch_max or self._batch_bytes >= self._batch_bytes_max:
                self._send_batch(want)
        finally:
            self._give_turn(None)

    def flush_batch(self) -> None:
        """Send what waits for company. Called from the main thread, and by the guard from the lifeline's."""
        if self.batch_since_ns:
            self._take_turn()
            try:
                if self._batch:
                    self._send_batch(0)
            finally:
                self._give_turn(None)

    def _send_batch(self, want: int) -> None:
        batch, self._batch = self._batch, []
        self._batch_bytes = 0
        self.post(messages.data_many(self.plan.id, self._incarnation, want, batch))
        self.batch_since_ns = 0  # not before: what the main thread posts would overtake a batch that the guard is sending

    def keep(self, entry: int, sequence: int, meta: bytes, flags: int) -> Row | None:
        """Hold a committed packet until there is credit; returns the row of the one that it displaces."""
        displaced = self.credit.on_kept((entry, sequence))
        self._kept_data[sequence] = (entry, meta, flags)
        if displaced is not None:
            del self._kept_data[displaced[1]]
        self.send_kept()  # a receipt may have come since the policy decided
        self.ask()
        self.publish()
        return displaced

    def send_kept(self) -> None:
        while (row := self.credit.next_kept()) is not None:
            entry, meta, flags = self._kept_data.pop(row[1])
            self._post(entry, row[1], meta, flags, monotonic_ns(), False)
        if self._end_at is not None:
            self.end(self._end_at)

    def resume(self, sequences: list[int]) -> None:
        """Go on from a predecessor's counters; these are the packets that it had committed and the consumer has not completed."""
        before = self._before
        self.credit.resume(before.sent, before.completed, before.dropped, before.failed, sequences)
        self.publish()

    def resend(self, rows: list[tuple[int, int, bytes]]) -> None:
        """Send (entry, sequence, metadata) again, in order, to a consumer that has taken none of them; then END, if it was sent before.

        What is kept and was never sent stays kept.
        """
        self._take_turn()
        try:
            self._batch.clear()  # these rows are among the others
            self._batch_bytes = self.batch_since_ns = 0
        finally:
            self._give_turn(None)
        self.asked = False
        self.credit.on_resend(sequence for _, sequence, _ in rows)
        for entry, sequence, meta in rows:
            last = sequence == rows[-1][1]
            want = messages.WANT if last else 0
            self.asked = self.asked or last
            self.post(messages.data_one(self.plan.id, self._incarnation, want, sequence, monotonic_ns(), entry, REDELIVERED, meta))
        if self.end_sent and self._end_at is not None:
            self.end_sent = False
            self.end(self._end_at)
        self.publish()

    def on_gone(self) -> None:
        """The consumer will not come back: the edge takes no more, and what is under way has failed."""
        self.gone = True
        self.credit.on_gone()
        self.publish()

    def on_done(self, rows: list[Row]) -> list[tuple[int, int, int]]:
        """The consumer has ended in good order; these are the packets that it has not reported. Gives (entry, sequence, outcome) of each.

        It has completed them, or on a feedback edge not read any more, if the coordinator has not read otherwise on its page: its last
        receipts may be on their way still.
        """
        self.gone = self.done = True
        usual = messages.DROPPED if self.plan.feedback else messages.OK
        found = [(entry, sequence, self.last_outcomes.get(sequence, usual)) for entry, sequence in rows]
        for _, sequence, outcome in found:
            if outcome != usual:
                self.credit.on_completed(sequence, outcome)
        self.credit.on_done(usual)
        self.publish()
        return found

    def drop(self) -> None:
        """Count a packet that did not enter the edge."""
        if self.done and not self.plan.feedback:
            self.credit.on_repeat()
        elif self.gone and not self.done:
            self.credit.on_lost()
        else:
            self.credit.on_dropped()
        self.publish()

    def ask(self) -> None:
        """Tell the consumer that credit is wanted, once until its next receipt."""
        if not self.asked and not self.gone and self.credit.in_flight > len(self.credit.kept):
            self.asked = True
            self.flush_batch()
            self.post(messages.data_many(self.plan.id, self._incarnation, messages.WANT, ()))

    def end(self, next_sequence: int) -> None:
        """Send END after everything that is kept; from then on nothing is sent."""
        self._end_at = next_sequence
        if not self.credit.kept and not self.end_sent and not self.gone:
            self.end_sent = True
            self.flush_batch()
            self.post(messages.end(self.plan.id, self._incarnation, next_sequence))

    def publish(self) -> None:
        credit, words, row = self.credit, self._words, self._row
        words[row + _SENT], words[row + _COMPLETED] = credit.sent, credit.completed
        lost = credit.dropped + credit.failed
        if lost != self._lost_told:
            words[row + _DROPPED], words[row + _FAILED] = credit.dropped, credit.failed
            self._lost_told = lost
        words[row + _IN_FLIGHT] = credit.in_flight
