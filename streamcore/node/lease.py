"""Leases and loans: memory of a ring as node code sees it, given back when nothing refers to it any more.

A lease is the base object of every view of an input's payload, a loan that of an output slot being written. Their finalizers may run
in any thread and at any moment, so they only append to a deque; the main loop settles it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from streamcore.packet import SlotRef
from streamcore.wire.messages import OK


class Unique:
    """What stands for memory: there is one of it, however often `copy` or `deepcopy` meets it in a packet. A second one would give the
    memory back twice.
    """

    __slots__ = ()

    def __copy__(self) -> Unique:
        return self

    def __deepcopy__(self, memo: object) -> Unique:
        return self


class Record(Unique):
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


class Lease(Unique):
    """Keeps one input packet's memory. Packet and views share it; `release(record)` is called when the last of them is gone."""

    __slots__ = ("__array_interface__", "record", "release")
    __deletable__ = ("record", "release")  # never deleted, but a compiled finalizer must look whether a half made object has them

    def __init__(self, record: Record, release: Callable[[Record], None], interface: dict[str, Any] | None):
        self.record, self.release = record, release
        if interface is not None:  # a payload that is no array has no memory to show
            self.__array_interface__ = interface

    def __del__(self) -> None:
        self.release(self.record)


class Loan(Unique):
    """Keeps one slot of the process' own ring while an array of it exists, committed or not."""

    __slots__ = ("__array_interface__", "release", "slot", "writer")
    __deletable__ = ("release", "slot")  # see Lease

    def __init__(self, writer: Any, slot: int, release: Callable[[int], None], interface: dict[str, Any]):
        self.writer, self.slot, self.release = writer, slot, release
        self.__array_interface__ = interface

    def __del__(self) -> None:
        self.release(self.slot)


def owner_of(payload: Any) -> Any:
    """The lease, loan or other object whose memory an array or memoryview shows; None if it owns its memory."""
    if isinstance(payload, memoryview):
        payload = payload.obj
    while isinstance(payload, np.ndarray):
        payload = payload.base
        if isinstance(payload, memoryview):
            payload = payload.obj
    return payload
