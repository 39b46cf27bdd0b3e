"""Both forms of what leaves.c stands for: the Python that is its rule, and the leaves, which have learnt that Python."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import struct
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from hostile_messages import DTYPES, NUMBERS
from hypothesis import strategies as st

from streamcore import native, packet
from streamcore.errors import MessageError, PayloadError
from streamcore.packet import SlotRef
from streamcore.shm.layout import ENTRY_BYTES, HEADER_BYTES

SOURCES = (
    "streamcore.wire.messages",
    "streamcore.shm.words",
    "streamcore.shm.histogram",
    "streamcore.node.packing",
    "streamcore.node.views",
    "streamcore.wire.sockets",
)
MESSAGES = ("sealed", "unsealed", "data_one", "data_many", "receipt", "read_header", "read_data", "read_receipt")
WORDS = ("words", "put_row", "clear_pending", "vouched", "put_span")
VIEWS = ("Lease", "Loan", "lend", "borrow", "loan_ref", "has_form")
PACKING = ("encode_packet", "fields_of", "open_packet")


ENTRIES, META_AT = 8, HEADER_BYTES + 8 * ENTRY_BYTES  # of a ring that is a table and metadata only
RING_BYTES = META_AT + 8 * 64

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
number = st.one_of(u64, u32, st.integers(0, 300), st.sampled_from(NUMBERS), st.booleans(), st.none(), st.floats(), st.text(max_size=3))
shape = st.lists(st.one_of(st.integers(0, 4000), st.sampled_from(NUMBERS)), max_size=9).map(tuple)
slot_ref = st.builds(SlotRef, number, number, number, number, st.sampled_from(DTYPES), shape, shape)
plain_ref = st.builds(SlotRef, u32, u32, u64, u64, st.sampled_from(DTYPES), shape, shape)

ERRORS = (
    PayloadError,
    MessageError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    BufferError,
    OSError,
)


def from_source(module: str) -> ModuleType:
    """A module of its own, made from its source as if there were no libraries."""
    spec = importlib.util.spec_from_file_location(f"{module}_from_source", native.source_of(module))
    assert spec is not None and spec.loader is not None
    found, take_over, new = importlib.util.module_from_spec(spec), native.take_over, packet.StreamPacket.__dict__["new"]
    native.take_over = lambda namespace, *names, **known: None
    sys.modules[spec.name] = found
    try:
        spec.loader.exec_module(found)
    finally:
        native.take_over = take_over
        packet.StreamPacket.new = new  # type: ignore[method-assign]
    return found


class Forms:
    """`python` and `leaves`: by name, the two functions that must do the same. Raises ImportError where there are no libraries."""

    def __init__(self) -> None:
        messages, words, histogram, packing, views, sockets = map(from_source, SOURCES)
        made_from_source = from_source("streamcore.packet")
        self.python: dict[str, Callable[..., Any]] = {"make_ids": made_from_source.make_ids}
        self.python["new_packet"] = vars(made_from_source.StreamPacket)["new"].__func__
        self.python |= {"gather": sockets.gather, "transmit": sockets.transmit, "note": histogram.note}
        for module, names in ((messages, MESSAGES), (words, WORDS), (packing, PACKING), (views, VIEWS)):
            self.python |= {name: getattr(module, name) for name in names}
        library = self._library()
        self.asked: set[str] = set()  # what leaves have left to Python
        decode_own, decode_trace = msgspec.msgpack.Decoder(dict[str, Any]).decode, msgspec.msgpack.Decoder(list[tuple[str, int]]).decode
        known = {"Header": messages.Header, "SlotRef": packet.SlotRef, "StreamPacket": packet.StreamPacket, "decode_own": decode_own}
        known |= {"ndarray": np.ndarray, "DTYPES": views._DTYPES, "ARRAY_API": views._ARRAY_API}
        known |= {"decode_trace": decode_trace, "encode_json": packet.encode_json, "decode_json": packet.decode_json}
        for name, value in known.items():
            library.learn(name, value)
        self.leaves: dict[str, Callable[..., Any]] = {name: library.learn(name, self._counted(name)) for name in self.python}
        self.leaves["make_ids"](os.urandom(8))  # those of new_packet
        self.knows_packets: Callable[[], bool] = library.knows_packets
        self.fold: Callable[[bool], bool] = library.fold
        self.learn: Callable[[str, Any], Any] = library.learn
        self.learn_arrays: Callable[[], Any] = lambda: library.learn("ARRAY_API", views._ARRAY_API)

    def _counted(self, name: str) -> Callable[..., Any]:
        """The Python of a leaf, as the leaf asks it."""

        def asked(*args: Any, **keywords: Any) -> Any:
            self.asked.add(name)
            return self.python[name](*args, **keywords)

        return asked

    @staticmethod
    def _library() -> ModuleType:
        """A second copy, beside that which this process may run: what one has learnt is nothing to the other."""
        why = native.obstacle(native.folder())
        if why:
            raise ImportError(why)
        copy = Path(tempfile.mkdtemp()) / Path(native.library_of(native.folder(), native.LEAVES)).name
        shutil.copyfile(native.library_of(native.folder(), native.LEAVES), copy)
        spec = importlib.util.spec_from_file_location("leaves", copy)
        assert spec is not None and spec.loader is not None
        library = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(library)
        shutil.rmtree(copy.parent)
        return library


def outcome(call: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[Any, ...]:
    """What a call gives, or the class and text of its error."""
    try:
        return ("gives", call(*args, **keywords))
    except (*ERRORS, struct.error) as error:
        return (type(error), str(error))


def assert_nothing_is_left(once: Callable[[], None], kept: tuple[Any, ...]) -> None:
    """Calling it again and again keeps no reference to what it works with, and no memory."""
    for _ in range(20):
        once()
    gc.collect()
    counts = [sys.getrefcount(one) for one in kept]
    tracemalloc.start()
    try:
        grown = []  # what is lost each time is lost in every round, what something else keeps in one of them
        for _ in range(3):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(300):
                once()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(one) for one in kept] == counts
    assert min(grown) < 300 * 16, f"{grown} bytes more, each after 300 times the same: no object has less than 16"
