"""Leases and loans: memory of a ring as node code sees it, given back when nothing refers to it any more.

A lease is the base object of every view of an input's payload, a loan that of an output slot being written. Their finalizers may run
in any thread and at any moment, so they only append to a deque; the main loop settles it. Both have a twin in leaves.c, as have the
functions that make arrays of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from streamcore import limits, native
from streamcore.node.lease import Record
from streamcore.packet import SlotRef
from streamcore.payload import DTYPES
from streamcore.shm.ring import RingReader, RingWriter


class Unique:
    """What stands for memory: there is one of it, however often `copy` or `deepcopy` meets it in a packet. A second one would give the
    memory back twice.
    """

    __slots__ = ("__array_interface__", "release")
    __array_interface__: dict[str, Any]

    def __copy__(self) -> Unique:
        return self

    def __deepcopy__(self, memo: object) -> Unique:
        return self

    @property
    def address(self) -> int:
        """Where its memory begins. Raises AttributeError if it shows none."""
        return int(self.__array_interface__["data"][0])


class Lease(Unique):
    """Keeps one input packet's memory. Packet and views share it; `release(record)` is called when the last of them is gone."""

    __slots__ = ("record",)

    def __init__(self, record: Record, release: Callable[[Record], None], interface: dict[str, Any] | None):
        self.record, self.release = record, release
        if interface is not None:  # a payload that is no array has no memory to show
            self.__array_interface__ = interface

    def __del__(self) -> None:
        self.release(self.record)


class Loan(Unique):
    """Keeps one slot of the process' own ring while an array of it exists, committed or not."""

    __slots__ = ("slot", "writer")

    def __init__(self, writer: Any, slot: int, release: Callable[[int], None], interface: dict[str, Any]):
        self.writer, self.slot, self.release = writer, slot, release
        self.__array_interface__ = interface

    def __del__(self) -> None:
        self.release(self.slot)


def lend(reader: RingReader, reach: Any, ref: SlotRef, record: Record, release: Callable[[Record], None]) -> tuple[Lease, Any, int]:
    """The lease of an input, a read-only view of its payload (a memoryview if it is bytes), and how many bytes that has.

    `reach`: that of the reader. Raises MessageError for a reference that leaves its slot.
    """
    lease = Lease(record, release, reader.interface(ref))
    view: Any = np.asarray(lease)
    return lease, view if ref.dtype else memoryview(view), ref.nbytes


def borrow(
    writer: RingWriter,
    room: memoryview,
    at: int,
    nbytes: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str,
    slot: int,
    release: Callable[[int], None],
) -> np.ndarray[Any, Any]:
    """A writable array of a slot, which begins `at` bytes behind the beginning of the ring `room`. `name`: that of its dtype."""
    interface = {"data": (writer.base_address + at, False), "shape": shape, "typestr": dtype.str, "version": 3}
    return np.asarray(Loan(writer, slot, release, interface))


def loan_ref(array: np.ndarray[Any, Any], writer: RingWriter, ring: int) -> SlotRef | None:
    """Names an array that is the whole of a loan of this writer, and makes it read-only: from now on it belongs to its readers. None for
    any other.
    """
    owner = array.base
    if type(owner) is not Loan or owner.writer is not writer:
        return None
    lent = owner.__array_interface__
    same = array.__array_interface__["data"][0] == lent["data"][0] and array.shape == lent["shape"] and array.dtype.str == lent["typestr"]
    if not same or not array.flags.c_contiguous or array.ndim > limits.NDIM_MAX:
        return None
    array.flags.writeable = False
    return SlotRef(ring, owner.slot, 0, array.nbytes, array.dtype.name, array.shape, ())


def has_form(array: np.ndarray[Any, Any], dtype: Any, shape: Any) -> bool:
    """Is an array of just this object as its dtype, and of this shape."""
    return array.dtype is dtype and array.shape == shape


_DTYPES = DTYPES | dict.fromkeys(("", "msgpack"), np.dtype("uint8"))  # SYNC: shm.ring
_NUMPY = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")  # the latter before numpy 2
_ARRAY_API = getattr(_NUMPY, "_ARRAY_API", None)
native.take_over(
    globals(), "Lease", "Loan", "lend", "borrow", "loan_ref", "has_form", ndarray=np.ndarray, DTYPES=_DTYPES, ARRAY_API=_ARRAY_API
)


def owner_of(payload: Any) -> Any:
    """The lease, loan or other object whose memory an array or memoryview shows; None if it owns its memory."""
    if isinstance(payload, memoryview):
        payload = payload.obj
    while isinstance(payload, np.ndarray):
        payload = payload.base
        if isinstance(payload, memoryview):
            payload = payload.obj
    return payload
