"""The leaves that store to shared memory, and look there: the same bytes and the same answers as from Python."""

from __future__ import annotations

import copy
import math
import mmap
import sys
from typing import Any

import numpy as np
import pytest
from hostile_messages import DTYPES
from hypothesis import given
from hypothesis import strategies as st
from leaves import ENTRIES, META_AT, RING_BYTES, Forms, assert_nothing_is_left, number, outcome, plain_ref, shape, slot_ref, u32, u64

from streamcore.graph.model import RingPlan
from streamcore.packet import FRAME_DTYPES, SlotRef
from streamcore.shm.layout import COMMITTED, ENTRY, ENTRY_BYTES, ENTRY_U32, HEADER_BYTES
from streamcore.shm.ring import RingReader, RingWriter, clear_table, geometry, ring_bytes


def memories(form: str, nbytes: int = 64) -> tuple[mmap.mmap, memoryview]:
    memory = mmap.mmap(-1, nbytes)
    return memory, memoryview(memory).cast(form)


@given(
    st.sampled_from("BIQ"),
    st.lists(st.tuples(st.one_of(st.integers(-20, 70), number), st.one_of(u64, u32, st.integers(-1, 255), number)), max_size=12),
)
def test_words_are_a_memoryview(forms, form, stores):
    (plain_memory, view), (memory, other) = memories(form), memories(form)
    words = forms.leaves["words"](other)
    assert len(words) == len(view)
    for place, value in stores:
        assert outcome(words.__setitem__, place, value) == outcome(view.__setitem__, place, value)
        assert outcome(words.__getitem__, place) == outcome(view.__getitem__, place)
        assert plain_memory[:] == memory[:]
    assert words[2:5].tolist() == view[2:5].tolist() and list(words) == list(view) and bytes(words) == bytes(view)


@given(st.integers(-2, 70), st.integers(-2, 70), st.binary(max_size=70))
def test_bytes_are_stored_as_in_a_memoryview(forms, start, stop, raw):
    (plain_memory, view), (memory, other) = memories("B"), memories("B")
    words = forms.leaves["words"](other)
    assert outcome(words.__setitem__, slice(start, stop), raw) == outcome(view.__setitem__, slice(start, stop), raw)
    assert plain_memory[:] == memory[:]


def test_words_keep_their_memory_and_let_go_of_it(forms):
    memory, view = memories("Q")
    words = forms.leaves["words"](view)
    del view
    with pytest.raises(BufferError):
        memory.close()
    words[0] = 5
    del words
    memory.close()


@pytest.mark.parametrize(
    "make", [lambda: memoryview(bytes(16)).cast("d"), lambda: memoryview(bytearray(16))[::2], lambda: memoryview(bytearray(16)).cast("h")]
)
def test_what_is_no_words_stays_what_it_is(forms, make):
    view = make()
    assert forms.leaves["words"](view) is view


def test_words_of_memory_that_is_only_read_refuse_a_store(forms):
    words = forms.leaves["words"](memoryview(bytes(16)).cast("Q"))
    assert words[1] == 0
    with pytest.raises(TypeError):
        words[1] = 5
    with pytest.raises(TypeError, match="expected a memoryview"):
        forms.leaves["words"](b"bytes")


@given(
    st.one_of(
        st.tuples(st.one_of(u32, st.none()), st.integers(0, 600).map(lambda at: META_AT + at), st.sampled_from([0, 64, 65536])),
        st.tuples(number, number, number),
        st.none(),
    ),
    st.one_of(st.integers(0, 12), number),
    number,
    st.one_of(u32, number),
    st.one_of(plain_ref, slot_ref, st.none()),
    st.one_of(st.tuples(u32, u32, u64), st.tuples(number, number, number), st.none()),
    st.one_of(u32, number),
    st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(bytearray)),
)
def test_a_row_is_stored(forms, places, entry, sequence, pending, ref, parent, flags, meta):
    if places is not None and places[0] is None and ref is not None:
        places = (ref.ring, *places[1:])
    found = []
    for form in (forms.python, forms.leaves):
        memory = mmap.mmap(-1, RING_BYTES)
        room = form["words"](memoryview(memory))
        table = form["words"](room[HEADER_BYTES:META_AT].cast("Q"))
        args = (places, entry, sequence, pending, ref, parent, flags, meta)
        found.append((outcome(form["put_row"], room, table, room, *args), memory[:]))
    # What Python stored before it met what is wrong is not held against the leaf: a row that is not committed is nobody's.
    assert found[1] == found[0] or (found[1][0] == found[0][0] and found[0][0][0] != "gives")


def test_a_row_is_committed_with_all_its_fields(forms):
    for form in (forms.python, forms.leaves):
        memory = mmap.mmap(-1, RING_BYTES)
        room = form["words"](memoryview(memory))
        table = form["words"](room[HEADER_BYTES:META_AT].cast("Q"))
        ref = SlotRef(4, 5, 6, 7, "", (), ())
        assert form["put_row"](room, table, room, (4, META_AT, 64), 3, 2**61, 0xF0000001, ref, (8, 9, 10), 1, b"meta") == 5
        row = memory[HEADER_BYTES + 3 * ENTRY_BYTES :][:ENTRY_BYTES]
        assert ENTRY.unpack(row) == (2**61, COMMITTED, 0xF0000001, 4, 5, 6, 7, 8, 9, 10, 4, 1)
        assert memory[META_AT + 3 * 64 :][:5] == b"meta\0"


@given(st.lists(st.tuples(st.one_of(st.integers(0, ENTRIES - 1), st.integers(-9, 20), number), st.one_of(st.integers(0, 3), u32, number))))
def test_edges_complete_a_row(forms, completions):
    (plain_memory, plain), (memory, view) = memories("I", ENTRIES * ENTRY_BYTES), memories("I", ENTRIES * ENTRY_BYTES)
    for place in range(ENTRIES * ENTRY_U32):
        plain[place] = view[place] = 0b11  # two edges, so that the row gets free
    table = forms.leaves["words"](view)
    for entry, bit in completions:
        assert outcome(forms.leaves["clear_pending"], table, entry, bit) == outcome(forms.python["clear_pending"], plain, entry, bit)
        assert plain_memory[:] == memory[:]


@given(
    st.lists(st.one_of(st.sampled_from([0, 1, 5, 2**63, 2**64 - 1]), u64), min_size=ENTRIES, max_size=ENTRIES),
    st.one_of(st.integers(0, ENTRIES), st.just(ENTRIES + 5)),
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 2**64 - 1)), max_size=6),
)
def test_rows_vouch_for_records(forms, sequences, entries, wanted):
    memory = memoryview(bytearray(ENTRIES * ENTRY_BYTES)).cast("Q")
    for entry, sequence in enumerate(sorted(sequences)):
        memory[entry * 8] = sequence
    records = [(memory[entry * 8] if honest and entry < ENTRIES else other, 0, entry, 0, b"") for entry, honest, other in wanted]
    for given_records in (records, sorted(records)):
        python = outcome(forms.python["vouched"], memory, entries, 2**62, given_records)
        assert outcome(forms.leaves["vouched"], forms.leaves["words"](memory), entries, 2**62, given_records) == python


# --- arrays of a ring's slots


class Ring:
    """A ring with two slots of 4096 bytes, written and read by this process."""

    def __init__(self) -> None:
        self.shape = RingPlan(3, "camera.out", 2, 256, 2, 4096, ())
        memory = mmap.mmap(-1, ring_bytes(self.shape))
        memory[:] = bytes(n % 251 for n in range(len(memory)))
        clear_table(memory, geometry(self.shape))
        self.writer, self.reader = RingWriter(memory, self.shape), RingReader(memory, self.shape)


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring()


def looks(view: Any) -> Any:
    """All that can be told of a view."""
    if isinstance(view, memoryview):
        return ("bytes", bytes(view), view.readonly, view.format, view.shape)
    place = view.__array_interface__["data"]
    flags = [view.flags[name] for name in ("WRITEABLE", "C_CONTIGUOUS", "F_CONTIGUOUS", "ALIGNED", "OWNDATA")]
    return (view.tobytes(), view.dtype, view.shape, view.strides, flags, place)


WELL = st.sampled_from([(2, 3, 4), (4096,), (0,), (0, 3), (), (7,), (1, 1, 1), (64, 64), (2, 2, 2, 2, 2, 2, 2, 2)])


@given(
    st.one_of(st.just(3), number),
    st.one_of(st.integers(0, 7), number),
    st.one_of(st.sampled_from([0, 8, 4095, 4096, 4097]), number),
    st.one_of(st.none(), number),
    st.sampled_from(DTYPES),
    st.one_of(WELL, shape),
    st.one_of(st.just(()), st.just(()), shape),
)
def test_a_payload_is_shown_or_refused(forms, ring, number_of_ring, slot, offset, nbytes, dtype, sizes, strides):
    if nbytes is None:  # what it should be
        itemsize = {"": 1, "msgpack": 1}.get(dtype) or (np.dtype(dtype).itemsize if dtype in FRAME_DTYPES else 1)
        nbytes = itemsize * math.prod(sizes)
    ref, told = SlotRef(number_of_ring, slot, offset, nbytes, dtype, sizes, strides), ([], [])
    found = []
    for form, releases in zip((forms.python, forms.leaves), told, strict=True):
        kind, given_back = outcome(form["lend"], ring.reader, ring_reach(forms, form, ring), ref, "record", releases.append)
        if kind != "gives":
            found.append((kind, given_back))
            del given_back
            continue
        lease, view, size = given_back
        assert lease.record == "record" and not releases
        found.append((kind, looks(view), size, lease.address if size else 0))
        kept = view[..., :1] if isinstance(view, np.ndarray) and view.ndim else view
        del given_back, lease, view
        assert not releases, "a view is left"
        del kept
        assert releases == ["record"]
    assert found[0] == found[1]


def ring_reach(forms: Forms, form: dict[str, Any], ring: Ring) -> Any:
    """Each form has words of its own."""
    g = geometry(ring.shape)
    return form["words"](memoryview(ring.reader.memory)), g.slots_offset, g.slot_bytes, g.slot_count


LOANS = st.tuples(st.sampled_from([(64,), (2, 4, 8), (0,), (), (4096,), (8, 8)]), st.sampled_from(FRAME_DTYPES))


@given(LOANS, st.sampled_from(["whole", "reversed", "cut", "reshaped", "another type", "transposed", "a copy", "of another writer"]))
def test_a_loan_is_named_if_it_is_whole(forms, ring, loan, change):
    sizes, name = loan
    dtype = np.dtype(name)
    nbytes = dtype.itemsize * math.prod(sizes)
    if nbytes > 4096:
        return
    found = []
    for form in (forms.python, forms.leaves):
        back: list[int] = []
        room, at = form["words"](memoryview(ring.writer.memory)), ring.writer.slots_offset + ring.writer.slot_bytes
        array = form["borrow"](ring.writer, room, at, nbytes, sizes, dtype, name, 1, back.append)
        seen = looks(array)[1:]  # not what an earlier one has left there
        array[...] = 1
        if change == "reshaped" and array.ndim:
            array.shape = (-1, 1)
        elif change == "another type" and array.ndim and array.size:
            array.dtype = np.dtype("uint8")
        elif change == "transposed":
            array = array.T
        elif change == "reversed" and array.ndim:
            array = array[::-1]
        elif change == "cut" and array.ndim:
            array = array[1:]
        elif change == "a copy":
            array = array.copy()
        writer = ring.writer if change != "of another writer" else ring
        ref = form["loan_ref"](array, writer, 3)
        found.append((seen, plain_of(ref), array.flags.writeable))
        assert not back or change == "a copy"
        del array
        assert back == [1]
    assert found[0] == found[1]


@given(LOANS, st.sampled_from(["plain", "reversed", "cut", "transposed", "another object", "a record"]), st.one_of(WELL, shape, number))
def test_the_form_of_an_array_is_known(forms, form, change, asked):
    sizes, name = form
    array, dtype = np.zeros(sizes, name), np.dtype(name)
    if change == "reversed" and array.ndim:
        array = array[::-1]
    elif change == "cut" and array.ndim:
        array = array[1:]
    elif change == "transposed":
        array = array.T
    elif change == "another object":  # equal is not the same
        dtype = np.dtype(name, metadata={"of": "its own"})
    elif change == "a record":
        array = array.view(np.recarray)
    for wanted in (asked, sizes, array.shape, list(array.shape)):
        leaf, python = (outcome(one["has_form"], array, dtype, wanted) for one in (forms.leaves, forms.python))
        assert leaf == python
    assert forms.leaves["has_form"](array, array.dtype, array.shape)


def test_with_an_unknown_numpy_arrays_are_made_and_asked_as_python_does(forms, ring):
    form, releases = forms.leaves, list[Any]()
    room, at = form["words"](memoryview(ring.writer.memory)), ring.writer.slots_offset
    forms.learn("ARRAY_API", None)
    try:
        array = form["borrow"](ring.writer, room, at, 24, (2, 3), np.dtype("float32"), "float32", 0, releases.append)
        array[...] = [[1, 2, 3], [4, 5, 6]]
        assert array.flags.writeable and form["has_form"](array, np.dtype("float32"), (2, 3))
        assert form["loan_ref"](array, ring.writer, 3) is None and array.base.address == ring.writer.base_address + at
        lent = SlotRef(3, 0, 0, 24, "float32", (2, 3), ())
        lease, view, nbytes = form["lend"](ring.reader, ring_reach(forms, form, ring), lent, "record", releases.append)
        assert view.tolist() == array.tolist() and not view.flags.writeable and nbytes == 24
        del array, lease, view
        assert releases == [0, "record"]
    finally:
        forms.learn_arrays()


@pytest.mark.parametrize("table", [None, object(), {}, "capsule"])
def test_what_is_no_table_of_numpy_is_not_asked(forms, table):
    forms.learn("ARRAY_API", table)
    forms.learn_arrays()
    assert forms.leaves["has_form"](np.zeros(3), np.dtype("float64"), (3,))


def plain_of(ref: SlotRef | None) -> Any:
    return ref and {name: getattr(ref, name) for name in ref.__struct_fields__}


@pytest.mark.parametrize("odd", [None, 7, b"x", np.zeros(3), np.zeros(3)[1:], np.zeros(3).view(np.recarray)])
def test_what_is_no_loan_is_not_named(forms, ring, odd):
    leaf, python = (outcome(form["loan_ref"], odd, ring.writer, 3) for form in (forms.leaves, forms.python))
    assert leaf == python


@pytest.mark.parametrize("kind", ["Lease", "Loan"])
def test_what_stands_for_memory_is_one_however_often_it_is_copied(forms, kind):
    for form in (forms.python, forms.leaves):
        back: list[Any] = []
        args = ("record", back.append, None) if kind == "Lease" else ("writer", 5, back.append, {"data": (77, False)})
        held = form[kind](*args)
        assert copy.copy(held) is held and copy.deepcopy([held])[0] is held
        assert kind == "Lease" or held.address == 77
        assert kind == "Loan" or outcome(getattr, held, "address")[0] is AttributeError
        del held
        assert back == (["record"] if kind == "Lease" else [5])


def test_a_finalizer_that_fails_is_told_and_harms_nobody(forms, capsys, monkeypatch):
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append(told.exc_type))
    for form in (forms.python, forms.leaves):
        try:
            held = form["Lease"]("record", lambda record: 1 // 0, None)
            raise KeyError("in flight")
        except KeyError:
            del held
    assert seen == [ZeroDivisionError, ZeroDivisionError]


def test_views_and_loans_leave_nothing_behind(forms, ring):
    form, record, back = forms.leaves, object(), list[Any]()
    room, at, dtype = form["words"](memoryview(ring.writer.memory)), ring.writer.slots_offset, np.dtype("uint8")
    reach = ring_reach(forms, form, ring)
    shapes = ((64, 64), (4096,), (64, 65))  # the last is not that of its bytes

    def once() -> None:
        for sizes in shapes:
            outcome(form["lend"], ring.reader, reach, SlotRef(3, 1, 0, 4096, "uint8", sizes, ()), record, back.append)
            array = form["borrow"](ring.writer, room, at, 4096, shapes[0], dtype, "uint8", 0, back.append)
            form["loan_ref"](array[1:], ring.writer, 3)
            form["loan_ref"](array, ring.writer, 3)
            form["has_form"](array, dtype, shapes[1])
        form["Lease"](record, back.append, None)
        outcome(form["Lease"], record)
        back.clear()

    kept = (record, room, dtype, ring.writer, ring.reader, shapes[0], form["Lease"], form["Loan"], SlotRef)
    assert_nothing_is_left(once, kept)


def test_plain_views_and_loans_are_not_left_to_python(forms, ring):
    form = forms.leaves
    room, reach = form["words"](memoryview(ring.writer.memory)), ring_reach(forms, form, ring)
    forms.asked.clear()
    for dtype in ("uint8", "", "msgpack"):
        form["lend"](ring.reader, reach, SlotRef(3, 1, 0, 4096, dtype, (4096,), ()), "record", list[Any]().append)
    at = ring.writer.slots_offset
    array = form["borrow"](ring.writer, room, at, 64, (64,), np.dtype("uint8"), "uint8", 0, list[Any]().append)
    assert form["loan_ref"](array, ring.writer, 3) is not None
    assert form["has_form"](array, np.dtype("uint8"), (64,))
    assert not forms.asked
