"""The arithmetic of one edge on its producer's side: credits and the five policies. Pure; no sockets, no clock, no memory.

An edge may send iff `sent - taken < depth` and `sent - completed < window`. Both are counts of packets under way, not ranges of
sequences: a consumer that keeps one packet for ever costs one credit and does not stop the edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from streamcore.wire.messages import DROPPED, REFUSED

BLOCK: Final = "block"
DROP_NEW: Final = "drop_new"
DROP_OLDEST: Final = "drop_oldest"
LATEST: Final = "latest"
SAMPLE: Final = "sample"
POLICIES = (BLOCK, DROP_NEW, DROP_OLDEST, LATEST, SAMPLE)

SEND: Final = "send"
KEEP: Final = "keep"
DROP: Final = "drop"
WAIT: Final = "wait"
Row = tuple[int, int]  # entry, sequence
BATCHING_DEPTH: Final = 16  # edges at least so deep batch their messages


def report_every(depth: int) -> int:
    """How many packets a consumer takes, or completes, before it reports unasked.

    A producer may hold back a message for company while more packets than this are unreported: its consumer cannot have taken them all.
    On a deep edge a quarter leaves room for that; on a shallow one half makes fewer receipts.
    """
    return depth // 4 if depth >= BATCHING_DEPTH else (depth + 1) // 2


class EdgeCredit:
    """What the producer knows of one edge, and what its policy decides.

    Every packet offered ends in exactly one count: sent = completed + dropped + failed + in_flight, where in_flight includes what is
    kept and not yet sent.
    """

    def __init__(self, policy: str, depth: int, window: int, kept_max: int = 0, rate: float = 0.0):
        self.policy, self.depth, self.window, self.kept_max = policy, depth, window, kept_max
        self.interval_ns = round(1e9 / rate) if policy == SAMPLE else 0
        self._due_ns: int | None = None
        self._sent_sequences: list[int] = []  # in order; the first `_taken` of them were taken
        self._taken = 0
        self._under_way: set[int] = set()  # sequences sent and not yet completed
        self.kept: deque[Row] = deque()
        self.sent = self.completed = self.dropped = self.failed = 0

    @property
    def has_credit(self) -> bool:
        return self.untaken < self.depth and len(self._under_way) < self.window

    @property
    def in_flight(self) -> int:
        return len(self._under_way) + len(self.kept)

    @property
    def untaken(self) -> int:
        return len(self._sent_sequences) - self._taken

    def decide(self, now_ns: int) -> str:
        """What to do with one more packet: SEND it, KEEP it until there is credit, DROP it, or WAIT and ask again.

        For SAMPLE the packet that passes is chosen here, so call this once per packet unless it says WAIT.
        """
        if self.policy == SAMPLE:
            if not self._sample_due(now_ns):
                return DROP
        elif self.policy == BLOCK:
            return SEND if self.has_credit else WAIT
        if self.has_credit and not self.kept:
            return SEND
        return KEEP if self.kept_max else DROP

    def _sample_due(self, now_ns: int) -> bool:
        """Evenly spaced: due times advance by the interval, so that jitter of arrival does not lower the rate."""
        if self._due_ns is None:
            self._due_ns = now_ns
        if now_ns < self._due_ns:
            return False
        # After a gap longer than the interval start anew, or the packets after it would all pass at once.
        behind = now_ns - self._due_ns >= self.interval_ns
        self._due_ns = (now_ns if behind else self._due_ns) + self.interval_ns
        return True

    def on_sent(self, sequence: int) -> None:
        self.sent += 1
        self._begin(sequence)

    def _begin(self, sequence: int) -> None:
        self._sent_sequences.append(sequence)
        self._under_way.add(sequence)

    def on_dropped(self) -> None:
        """A packet offered and not accepted."""
        self.sent += 1
        self.dropped += 1

    def on_repeat(self) -> None:
        """A packet derived again for a consumer that has ended: it had completed the first one."""
        self.sent += 1
        self.completed += 1

    def on_lost(self) -> None:
        """A packet offered when no consumer is left."""
        self.sent += 1
        self.failed += 1

    def on_kept(self, row: Row) -> Row | None:
        """Keep a committed packet until there is credit; returns the one it displaces, if any, which counts as dropped."""
        self.sent += 1
        self.kept.append(row)
        if len(self.kept) <= self.kept_max:
            return None
        self.dropped += 1
        return self.kept.popleft()

    def next_kept(self) -> Row | None:
        """The oldest kept packet if it may be sent now; it counts as under way from here on."""
        if not self.kept or not self.has_credit:
            return None
        row = self.kept.popleft()
        self._begin(row[1])
        return row

    def on_taken(self, taken_upto: int) -> None:
        """Every packet with a lower sequence was taken. An older word than what is known changes nothing."""
        sequences, taken = self._sent_sequences, self._taken
        while taken < len(sequences) and sequences[taken] < taken_upto:
            taken += 1
        if taken > self.depth:  # not one by one, as a deque would: compiled, that takes five times as long
            del sequences[:taken]
            taken = 0
        self._taken = taken

    def on_completed(self, sequence: int, outcome: int) -> bool:
        """One packet is finished at the consumer. False, and nothing changes, if it was not under way."""
        try:
            self._under_way.remove(sequence)
        except KeyError:
            return False
        if outcome >= REFUSED:
            self.failed += 1
        elif outcome == DROPPED:
            self.dropped += 1
        else:
            self.completed += 1
        return True

    def resume(self, sent: int, completed: int, dropped: int, failed: int, under_way: Iterable[int]) -> None:
        """Go on from a predecessor's counts. It may have died between a store to the ring, which is the truth, and the count of it."""
        self.sent, self.completed, self.dropped, self.failed = sent, completed, dropped, failed
        self.on_resend(under_way)
        missing = self.sent - self.completed - self.dropped - self.failed - len(self._under_way)
        if missing > 0:
            self.completed += missing
        else:
            self.sent -= missing

    def on_resend(self, sequences: Iterable[int]) -> None:
        """These, in order, are sent again to a consumer that has taken none of them. They may be more than the depth."""
        self._sent_sequences, self._taken = list(sequences), 0
        self._under_way = set(self._sent_sequences)

    def on_done(self, outcome: int) -> None:
        """The consumer ended in good order. Whatever it has not reported it has completed, or dropped where it need not wait for it."""
        if outcome == DROPPED:
            self.dropped += self.in_flight
        else:
            self.completed += self.in_flight
        self.on_resend(())  # nothing is under way any more
        self.kept.clear()

    def on_gone(self) -> None:
        """The consumer will never answer again: everything under way or kept has failed."""
        self.failed += self.in_flight
        self.on_resend(())  # nothing is under way any more
        self.kept.clear()
