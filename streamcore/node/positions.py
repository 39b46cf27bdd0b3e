"""Where a source resumes. On the status page, so it survives."""

from __future__ import annotations

from bisect import bisect
from collections import deque

from streamcore.shm.status import WORD, StatusWriter

POSITION_MAX = 2**63 - 1  # the status page holds one more, in a u64


class Positions:
    """Follows positions in the order in which they were emitted; they need not be contiguous, but must not go back.

    A position may be that of several packets, one per port. `tells`: the node has an `on_completed`, which has to hear of every packet; of
    such a node it is followed of which it has heard. For a position that several packets carry it has to hear of all of them.
    """

    def __init__(self, status: StatusWriter, ports: int, tells: bool):
        self._words = status.words
        self._place, self._emitted_place = WORD["position"], WORD["position_emitted"]
        self._unsure, self._tells = min(ports - 1, 1), tells  # 1: of several ports, the last position may not have come out of each
        self.emitted_before = self._words[self._emitted_place] - 1  # by a predecessor: what comes up to here is a repeat
        self._order: deque[int] = deque()
        self._open: dict[int, int] = {}  # position: packets not yet told of
        self._reached = -1  # by this process; before it lies what has to be told once more

    @property
    def resume(self) -> int | None:
        """Behind which position to go on, once the rows of a predecessor are adopted; None: from the beginning.

        What was emitted has been completed, or is in a row, and comes from there again. Who is told of completions may not have heard of
        some, and goes on behind those that it has heard of.
        """
        last = self._words[self._place] - 1 if self._tells else self._words[self._emitted_place] - 1 - self._unsure
        return last if last >= 0 else None

    def emitted(self, position: int) -> None:
        self._reached = position
        self.adopted(position)

    def adopted(self, position: int) -> None:
        """A row of a predecessor carries it: it was emitted, and completes like ours."""
        if self._tells:
            if position in self._open:
                self._open[position] += 1
            else:
                self._open[position] = 1
                if self._order and position < self._order[-1]:  # only while we give again what lies between adopted ones
                    self._order.insert(bisect(self._order, position), position)
                else:
                    self._order.append(position)
        if position >= self._words[self._emitted_place]:
            self._words[self._emitted_place] = position + 1

    def told(self, position: int) -> None:
        """The node has heard of the completion of a packet."""
        self._open[position] -= 1
        order, still = self._order, self._open
        while order and order[0] + self._unsure <= self._reached and not still[order[0]]:
            done = order.popleft()
            del still[done]
            if done >= self._words[self._place]:
                self._words[self._place] = done + 1
