"""A consumer's view of a ring: no reference, however made, leads outside the slot that it names."""

from __future__ import annotations

import itertools
import math
import mmap
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.packet import SlotRef
from streamcore.payload import DTYPES
from streamcore.shm.layout import extent
from streamcore.shm.ring import RingReader, RingWriter, geometry

HUGE = [2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


class Window:
    """What `np.asarray` needs to make an array of an interface."""

    def __init__(self, interface):
        self.__array_interface__ = interface


def ref(**changes) -> SlotRef:
    fields = {"ring": 7, "slot": 0, "offset": 0, "nbytes": 6, "dtype": "uint8", "shape": (2, 3), "strides": ()} | changes
    return SlotRef(**fields)


def touched(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int] | None:
    """Lowest and highest byte of every corner of an array, one by one: another way to the answer than the code's. None: it is empty."""
    if 0 in shape:
        return None
    if not strides:
        strides = tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    corners = [sum(c) for c in itertools.product(*({0, (n - 1) * stride} for n, stride in zip(shape, strides, strict=True)))]
    return min(corners), max(corners) + itemsize


sizes = st.integers(0, 40) | st.integers(-3, 10_000) | st.sampled_from(HUGE)
steps = st.integers(-200, 200) | st.integers(-10_000, 10_000) | st.sampled_from([*HUGE, *(-n for n in HUGE)])
hostile = st.integers(0, 5).flatmap(
    lambda ndim: st.builds(
        SlotRef,
        ring=st.just(7),
        slot=st.integers(0, 2) | st.sampled_from([-1, 3, 2**32]),
        offset=st.integers(0, 8192) | st.integers(-200, 9000) | st.sampled_from([*HUGE, *(-n for n in HUGE)]),
        nbytes=st.integers(0, 8192) | st.just(-1),
        dtype=st.sampled_from(["uint8", "float64", "uint16", "bool", "", "msgpack", "O", "object", "V8", ">u2", "u1", "datetime64[ns]"]),
        shape=st.lists(sizes, min_size=ndim, max_size=ndim).map(tuple),
        strides=st.just(()) | st.lists(steps, min_size=ndim, max_size=ndim).map(tuple) | st.lists(steps, max_size=3).map(tuple),
    )
)


def with_true_bytes(given_ref: SlotRef) -> SlotRef:
    """The same reference with the byte count that belongs to it, so that the other checks are reached."""
    itemsize = DTYPES.get(given_ref.dtype, DTYPES["uint8"]).itemsize
    return msgspec.structs.replace(given_ref, nbytes=itemsize * math.prod(given_ref.shape))


class FuzzShape:
    """The ring that is fuzzed; made once, because a property test runs thousands of times."""

    id, port, entry_count, meta_bytes, slot_count, slot_bytes = 7, "camera.out", 4, 256, 3, 8192
    memory = mmap.mmap(-1, 1 << 17)


@settings(max_examples=400)
@given(hostile, st.booleans())
def test_no_reference_leads_outside_its_slot(given_ref, honest_bytes):
    check_one(RingReader(FuzzShape.memory, FuzzShape()), with_true_bytes(given_ref) if honest_bytes else given_ref)


def test_many_references_drawn_at_random_never_lead_outside_their_slot():
    # Coarser than the search above, and fifty times as many.
    chance, reader, let_through = random.Random(3), RingReader(FuzzShape.memory, FuzzShape()), 0
    for _ in range(20_000):
        ndim = chance.randrange(4)
        shape = tuple(chance.choice([0, 1, 2, 7, 100, 8192, 2**31]) for _ in range(ndim))
        strides = tuple(chance.choice([0, 1, -1, 3, -300, 4096, 2**62]) for _ in range(chance.choice([0, ndim, ndim, ndim])))
        dtype = chance.choice(["", "uint8", "float64", "uint16"])
        given_ref = SlotRef(7, chance.randrange(9), chance.randrange(-99, 9000), 0, dtype, shape, strides)
        let_through += check_one(reader, with_true_bytes(given_ref))
    assert 2000 < let_through < 18_000


def check_one(reader: RingReader, given_ref: SlotRef) -> bool:
    """True if the reference was let through, and then it stays inside its slot."""
    shape = reader.shape
    try:
        interface = reader.interface(given_ref)
    except MessageError:
        return False
    view = np.asarray(Window(interface))  # numpy, too, must be able to build what was let through
    assert view.dtype in DTYPES.values()
    assert not view.flags.writeable
    assert 0 <= given_ref.slot < geometry(shape).slot_count
    span = touched(view.shape, view.strides, view.itemsize)
    if span is not None:
        start = view.__array_interface__["data"][0]
        slot_start = reader.slots_address + given_ref.slot * geometry(shape).slot_bytes
        assert slot_start <= start + span[0]
        assert start + span[1] <= slot_start + geometry(shape).slot_bytes
    return True


@settings(max_examples=200)
@given(st.data())
def test_every_view_that_a_node_can_cut_from_a_frame_is_accepted(data):
    # The other half: a check that refused honest crops, flips or steps would be as wrong.
    frame = np.zeros((20, 30, 3), np.uint8)
    index = tuple(
        slice(*(data.draw(st.integers(-35, 35) | st.none()) for _ in range(2)), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
        for _ in range(data.draw(st.integers(0, 3)))
    )
    view = frame[index]
    view = view.transpose() if data.draw(st.booleans()) else view
    offset = view.__array_interface__["data"][0] - frame.__array_interface__["data"][0] + 64
    reader = RingReader(FuzzShape.memory, FuzzShape())
    interface = reader.interface(SlotRef(7, 1, offset, view.nbytes, "uint8", view.shape, view.strides))
    assert (interface["shape"], interface["data"][0] - reader.slots_address) == (view.shape, 8192 + offset)


def test_a_reference_shows_the_bytes_that_were_written(writer: RingWriter, reader: RingReader):
    slot = writer.claim_slot()
    content = np.arange(60, dtype=np.uint16).reshape(4, 5, 3)
    writer.slot_view(slot, content.nbytes)[:] = content.tobytes()
    crop = content[1:3, ::-2]
    offset = crop.__array_interface__["data"][0] - content.__array_interface__["data"][0]
    for given_ref, expected in (
        (SlotRef(7, slot, 0, content.nbytes, "uint16", content.shape, ()), content),
        (SlotRef(7, slot, offset, crop.nbytes, "uint16", crop.shape, crop.strides), crop),
        (SlotRef(7, slot, 2, 4, "", (4,), ()), np.frombuffer(content.tobytes()[2:6], np.uint8)),
    ):
        assert np.array_equal(np.asarray(Window(reader.interface(given_ref))), expected)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_of_the_table_can_be_read(reader, name):
    interface = reader.interface(ref(dtype=name, shape=(3,), nbytes=3 * DTYPES[name].itemsize))
    assert np.asarray(Window(interface)).dtype == DTYPES[name]


@pytest.mark.parametrize("name", ["O", "object", "u1", "|u1", ">u2", "V8", "S4", "U4", "complex64", "datetime64[s]", "uint8,uint8", "\0"])
def test_no_other_dtype_reaches_numpy(reader, name):
    # numpy would take 'O' and read pointers out of a peer's bytes.
    with pytest.raises(MessageError, match="does not exist"):
        reader.interface(ref(dtype=name, shape=(8,), nbytes=8))


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": -1},
        {"slot": 3 + limits.TAPS_PER_PORT_MAX},
        {"offset": -1},
        {"offset": 8192 - 5},
        {"shape": (-2, -3)},
        {"shape": (2, 3, 1) + (1,) * limits.NDIM_MAX},
        {"strides": (3,)},
        {"strides": (3, 1, 1)},
        {"strides": (-3, 1)},
        {"strides": (8192, 1)},
        {"nbytes": 5},
        {"nbytes": 7},
        {"nbytes": -6},
        {"nbytes": 2**64 - 1},
        {"shape": (2**32, 2**32), "nbytes": 2**64},
        {"shape": (2**40, 2**40), "strides": (0, 0), "nbytes": 2**80},
        {"shape": (0, 2**63), "nbytes": 0},
        {"shape": (0, 2**62, 2**62), "nbytes": 0},
        {"shape": (1, 6), "strides": (2**63, 1)},
        {"shape": (0,), "nbytes": 0, "offset": 8193},
        {"shape": (0,), "nbytes": 0, "offset": -1},
    ],
    ids=str,
)
def test_a_reference_with_one_thing_wrong_is_refused(reader, changes):
    with pytest.raises(MessageError):
        reader.interface(ref(**changes))


@pytest.mark.parametrize(
    ("shape", "strides", "itemsize", "expected"),
    [
        ((2, 3), (), 1, (0, 6)),
        ((2, 3), (-3, 1), 1, (-3, 3)),
        ((), (), 8, (0, 8)),
        ((5, 0, 7), (), 4, (0, 0)),
        ((5, 0, 7), (-100, 100, 100), 4, (0, 0)),
        ((1000,), (0,), 2, (0, 2)),
        ((3, 3), (-10, 20), 4, (-20, 44)),
    ],
)
def test_the_extent_of_an_array_is_its_lowest_and_highest_byte(shape, strides, itemsize, expected):
    assert extent(shape, strides, itemsize) == expected
