"""Which record is handed out next: in order within each lane, around lanes that wait for a retry. In memory only; no I/O, no clock.

A lane is the records of one key. A record that failed holds up its lane until it has been handed out again, and no other lane.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from streamcore.durable.files import TURN_SHIFT
from streamcore.durable.record import Record

ATTEMPTS_SHIFT = 6  # a turn that was queued again leaves room for so many attempts (2 to the power of it) before numbers may meet
TURN_MAX = (1 << 23) - 1


class Handed(NamedTuple):
    """What is known of a record that was handed out."""

    lane: int
    failures: int
    flags: int
    room: int  # in the file
    stored_ns: int


class Delivery(NamedTuple):
    """A record that is handed out.

    Attributes:
      attempt: from 1.    redelivered: it may have been handed out before.
      turn: from 0 to TURN_MAX; the same if this delivery is repeated after a crash, another one for a further attempt, replay or retry.
      settled_below: the first record of its key that is not done with. An order that a sink holds up for an earlier one may go on.
    """

    record: Record
    attempt: int
    redelivered: bool
    replayed: bool
    turn: int
    settled_below: int


def turn_of(flags: int, failures: int) -> int:
    """What tells the hand-outs of one record apart."""
    return (flags >> TURN_SHIFT << ATTEMPTS_SHIFT) + failures & TURN_MAX


class Order:
    """The order of delivery of one store; `next` is the sequence from which records are looked at."""

    def __init__(self, next_sequence: int):
        self.next = next_sequence
        self.in_flight: dict[int, Handed] = {}
        self.settling: set[int] = set()  # acknowledged, and still in the tables until the next commit
        self._delayed: dict[int, Handed] = {}
        self._due: list[tuple[int, int]] = []  # heap of (monotonic ns, sequence)
        self._last_due_ns: dict[int, int] = {}  # lane: when the last of its records that wait for a retry is due
        self._stuck: dict[int, int] = {}  # lane: how many of its records wait for a retry
        self._skipped: dict[int, int] = {}  # lane: its first record that was passed over meanwhile

    @property
    def due_ns(self) -> int | None:
        """When the next retry is due on the monotonic clock; None if there is none."""
        return self._due[0][0] if self._due else None

    def take_due(self, now_ns: int) -> tuple[int, int, int, int] | None:
        """(sequence, lane, failures, flags) of the record whose retry is due. Its lane is free once no other record of it waits."""
        if not self._due or self._due[0][0] > now_ns:
            return None
        _, sequence = heapq.heappop(self._due)
        handed = self._delayed.pop(sequence)
        self._free(handed.lane)
        return sequence, handed.lane, handed.failures, handed.flags

    def may_offer(self, sequence: int, lane: int) -> bool:
        """Is this one to be handed out now? To be asked in order, from `next` on."""
        if sequence in self.in_flight or sequence in self.settling or sequence in self._delayed:
            return False
        if lane in self._stuck:
            self._skipped[lane] = min(sequence, self._skipped.get(lane, sequence))  # one that was queued again is looked at later
            return False
        return True

    def hand_out(self, sequence: int, handed: Handed) -> None:
        self.in_flight[sequence] = handed

    def take_back(self, sequence: int) -> None:
        """As if it had not been handed out."""
        del self.in_flight[sequence]
        self.next = min(self.next, sequence)

    def acknowledge(self, sequence: int) -> Handed | None:
        """None if it is not in flight: acknowledged before, or never handed out."""
        handed = self.in_flight.pop(sequence, None)
        if handed is not None:
            self.settling.add(sequence)
        return handed

    def fail(self, sequence: int, due_ns: int) -> Handed | None:
        """Hand it out again at `due_ns`; its lane waits. None if it is not in flight."""
        handed = self.in_flight.pop(sequence, None)
        if handed is None:
            return None
        handed = handed._replace(failures=handed.failures + 1)
        self._delay(sequence, handed, due_ns)
        return handed

    def put_back(self, sequence: int, due_ns: int) -> None:
        """Hand it out again at `due_ns`, but not before those of its lane that wait already: it is not its turn. Nothing was tried."""
        handed = self.in_flight.pop(sequence, None)
        if handed is not None:
            self._delay(sequence, handed, max(due_ns, self._last_due_ns.get(handed.lane, 0)))

    def _delay(self, sequence: int, handed: Handed, due_ns: int) -> None:
        self._delayed[sequence] = handed
        heapq.heappush(self._due, (due_ns, sequence))
        self._stuck[handed.lane] = self._stuck.get(handed.lane, 0) + 1
        self._last_due_ns[handed.lane] = max(due_ns, self._last_due_ns.get(handed.lane, 0))

    def oldest(self) -> dict[int, int]:
        """Of each lane its first record that is in flight or waits for a retry."""
        found: dict[int, int] = {}
        for handed in (self.in_flight, self._delayed):
            for sequence, (lane, *_) in handed.items():
                if sequence < found.get(lane, sequence + 1):
                    found[lane] = sequence
        return found

    def queue_again(self, sequence: int) -> None:
        """A record that waits once more, or for no retry any longer."""
        self.next = min(self.next, sequence)

    def forget(self, sequence: int) -> None:
        """It is given up. An answer to it means nothing from now on."""
        self.in_flight.pop(sequence, None)
        self.settling.add(sequence)

    def delay_no_longer(self, sequences: set[int]) -> None:
        """Those of them that wait for a retry do not; whether they are offered from `next` on or given up is for the caller to say."""
        ended = sequences & self._delayed.keys()
        if not ended:
            return
        self._due = [(due_ns, sequence) for due_ns, sequence in self._due if sequence not in ended]
        heapq.heapify(self._due)
        for sequence in ended:
            self._free(self._delayed.pop(sequence).lane)

    def _free(self, lane: int) -> None:
        left = self._stuck[lane] - 1
        if left:
            self._stuck[lane] = left
            return
        del self._stuck[lane]
        self._last_due_ns.pop(lane, None)
        skipped = self._skipped.pop(lane, None)
        if skipped is not None:
            self.next = min(self.next, skipped)
