"""Mutual exclusion that is asked for with each packet."""

from __future__ import annotations

from queue import SimpleQueue


class Turn:
    """One thread at a time has it: whoever has called `take`, until it calls `give(None)`.

    What a Lock does, in half the time: its `acquire` parses keywords, which takes longer than most of what a turn is for. Not for `with`,
    which takes as long again.
    """

    def __init__(self) -> None:
        tokens: SimpleQueue[None] = SimpleQueue()
        tokens.put(None)
        self.take, self.give = tokens.get, tokens.put
