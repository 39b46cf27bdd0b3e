"""The slots of one output port, as its process hands them out: lent to node code, filled with copies, given back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import prod
from operator import index
from threading import get_ident
from time import monotonic_ns
from typing import Any, Final

import numpy as np

from streamcore import limits
from streamcore.errors import PayloadError, PayloadTooLarge, RingFull
from streamcore.node.api import FOREVER
from streamcore.node.out_edge import OutEdge
from streamcore.node.views import borrow
from streamcore.packet import SlotRef
from streamcore.payload import DTYPE_NAMES
from streamcore.shm.ring import RingWriter

_WARM_BYTES: Final = limits.WARM_BYTES


class Slots:
    """What an outlet knows of its memory."""

    def __init__(
        self, full_name: str, writer: RingWriter, edges: list[OutEdge], wait_for: Callable[[Callable[[], bool], int | None], bool]
    ):
        self.full_name, self.writer, self.edges, self._wait_for = full_name, writer, edges, wait_for
        self.returned: deque[int] = deque()  # slots; filled by finalizers, in whatever thread, and by what taps have copied
        self.copied = 0
        self.poke: Callable[[], None] = lambda: None  # ends the main loop's wait; for finalizers in other threads
        self.glance: Callable[[], None] = lambda: None  # answers what has come in: the slot given back last is the one in the cache
        self._home_thread = get_ident()
        self._copy_slot = -1  # claimed by a copy that is not yet committed
        self._borrow, self._call_drop_loan = borrow, self._drop_loan
        self._lent_shape: tuple[int, ...] = ()  # the last loan, for most are like the one before; at first what none has asked for
        self._lent_dtype: Any = np.dtype("uint8")
        self._lent_type: Any = self._lent_dtype
        self._lent_bytes, self._lent_name = 1, "uint8"

    def loan(self, shape: Any, dtype: Any, timeout_ns: int) -> np.ndarray[Any, Any]:
        """See Node.loan."""
        if dtype is not self._lent_dtype or type(shape) is not tuple or shape != self._lent_shape:
            wanted = np.dtype(dtype)
            if wanted not in DTYPE_NAMES:
                raise PayloadError(f"port {self.full_name}: a loan of dtype {wanted} cannot travel")
            sizes = tuple(map(index, shape))  # those of numpy as well
            self._lent_bytes = wanted.itemsize * prod(sizes)
            self._lent_shape, self._lent_dtype, self._lent_type, self._lent_name = sizes, dtype, wanted, DTYPE_NAMES[wanted]
        nbytes, writer = self._lent_bytes, self.writer
        slot = self._claim_slot(nbytes, timeout_ns)
        at = writer.slots_offset + slot * writer.slot_bytes
        return self._borrow(writer, writer.room, at, nbytes, self._lent_shape, self._lent_type, self._lent_name, slot, self._call_drop_loan)

    def _drop_loan(self, slot: int) -> None:
        """In whatever thread. The main loop may be waiting for just this slot."""
        self.returned.append(slot)
        if get_ident() != self._home_thread:
            self.poke()

    def _claim_slot(self, nbytes: int, timeout_ns: int = FOREVER) -> int:
        writer = self.writer
        if not 0 <= nbytes <= writer.geometry.slot_bytes:
            raise PayloadTooLarge(self.full_name, nbytes, writer.geometry.slot_bytes)
        if 2 * nbytes >= _WARM_BYTES:  # of smaller ones so many fit into the cache that what comes back later will do
            self.glance()
        self.settle_loans()
        if not writer.free_slots:
            deadline_ns = None if timeout_ns == FOREVER else monotonic_ns() + timeout_ns
            self.press()
            if not self._wait_for(self._slot_is_free, deadline_ns):
                raise RingFull(self.full_name, [(edge.plan.name, edge.credit.in_flight) for edge in self.edges if edge.credit.in_flight])
        return writer.claim_slot()

    def _slot_is_free(self) -> bool:
        self.settle_loans()
        return self.writer.free_slots > 0

    def settle_loans(self) -> None:
        while self.returned:
            self.writer.release_slot(self.returned.popleft())

    def press(self) -> None:
        """Ask every consumer to report what it has completed."""
        for edge in self.edges:
            edge.ask()

    def _copy(self, array: np.ndarray[Any, Any], dtype: str) -> SlotRef:
        slot = self._copy_slot = self._claim_slot(array.nbytes)
        self.copied += 1
        if array.nbytes:
            np.ndarray(array.shape, array.dtype, self.writer.slot_view(slot, array.nbytes))[...] = array
        return SlotRef(self.writer.shape.id, slot, 0, array.nbytes, dtype, array.shape, ())

    def _copy_bytes(self, raw: bytes, dtype: str) -> SlotRef:
        """The same for bytes, a third as long for few of them: no array is made of either side."""
        nbytes, writer = len(raw), self.writer
        slot = self._copy_slot = self._claim_slot(nbytes)
        self.copied += 1
        writer.slot_view(slot, nbytes)[:] = raw
        return SlotRef(writer.shape.id, slot, 0, nbytes, dtype, (nbytes,), ())
