"""Where a source resumes: the highest position up to which everything that it emitted was completed. On the status page, so it survives."""

from __future__ import annotations

from collections import deque

from streamcore.shm.status import WORD, StatusWriter

POSITION_MAX = 2**63 - 1  # the status page holds one more, in a u64


class Positions:
    """Follows positions in the order in which they were emitted; they need not be contiguous, but must not go back.

    A position that several packets carry (one per port) is completed when all of them are.
    """

    def __init__(self, status: StatusWriter):
        self._words = status.words
        self._place, self._emitted_place = WORD["position"], WORD["position_emitted"]
        self.resume = self._words[self._place] - 1 if self._words[self._place] else None
        self.emitted_before = self._words[self._emitted_place] - 1  # by a predecessor: what comes up to here is a repeat
        self._order: deque[int] = deque()
        self._open: dict[int, int] = {}  # position: packets not yet completed

    def emitted(self, position: int) -> None:
        if position in self._open:
            self._open[position] += 1
        else:
            self._order.append(position)
            self._open[position] = 1
        if position >= self._words[self._emitted_place]:
            self._words[self._emitted_place] = position + 1

    def completed(self, position: int) -> None:
        self._open[position] -= 1
        order, still = self._order, self._open
        while order and not still[order[0]]:
            done = order.popleft()
            del still[done]
            if done >= self._words[self._place]:
                self._words[self._place] = done + 1
