"""The record of an input packet, from its taking to its completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamcore.packet import SlotRef
from streamcore.wire.messages import OK


class Record:
    """One input packet from its taking to its completion.

    It is in use until process() has returned and node code has let go of it; then it is marked as processed, so that a successor of this
    process does not process it again. It is completed when, besides, every output that depends on it was completed by all its consumers.
    Its outcome is the worst of its own and of theirs.
    """

    __slots__ = (
        "behind",
        "complete",
        "derived",
        "entry",
        "id16",
        "inlet",
        "mark",
        "outcome",
        "outputs",
        "ref",
        "sent_ns",
        "sequence",
        "uses",
    )

    def __init__(self, inlet: Any, sequence: int, entry: int, mark: Callable[[Record], None], complete: Callable[[Record], None]):
        self.inlet, self.sequence, self.entry = inlet, sequence, entry
        self.mark, self.complete = mark, complete
        self.ref: SlotRef | None = None
        self.id16 = b""  # of its packet
        self.sent_ns = 0  # when it was sent here; 0: it was not
        self.outcome = self.behind = OK  # behind: the worst of its outputs so far
        self.derived = 0  # outputs made from it so far, dropped ones included; part of their ids
        self.uses = 2  # the process call and the lease
        self.outputs = 0  # that must be completed first

    def __copy__(self) -> Record:
        """There is one of it, as of a lease (see views.Unique)."""
        return self

    def __deepcopy__(self, memo: object) -> Record:
        return self

    def settle(self) -> None:
        """The process call, or the lease, is over."""
        self.uses -= 1
        if not self.uses:
            self.mark(self)
            if not self.outputs:
                self.complete(self)

    def settle_unused(self) -> None:
        """It will not be processed: a predecessor did that, or it is a repeat, or it may not be."""
        self.uses = 1
        self.settle()

    def worsen(self, outcome: int) -> None:
        """An edge behind it has completed an output, but not well. Said before the output's row forgets it: a successor learns it here."""
        self.behind = max(self.behind, outcome)
        if outcome > self.outcome:
            self.outcome = outcome
            self.inlet.mark_again(self)

    def settle_output(self) -> None:
        """An output that depends on it was completed by all its consumers."""
        self.outputs -= 1
        if not self.outputs and not self.uses:
            self.complete(self)
