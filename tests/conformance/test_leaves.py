"""A leaf does what the Python does for which it stands: with what is usual, with what is odd, and with what is hostile."""

from __future__ import annotations

import mmap
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from hostile_messages import ANYTHING, DTYPES, NUMBERS, nested
from hypothesis import given
from hypothesis import strategies as st
from leaves import ENTRIES, META_AT, RING_BYTES, Forms, assert_nothing_is_left, number, outcome, plain_ref, slot_ref, u32, u64

from streamcore import StreamPacket
from streamcore.packet import Meta, SlotRef, decode_meta, encode_json, encode_meta
from streamcore.shm.layout import HEADER_BYTES
from streamcore.wire.messages import Header

CAN_FOLD = {"pclmulqdq", "sse4_1"} <= set(Path("/proc/cpuinfo").read_text().split())
KEY = 0x9E3779B9
MUTATIONS = 20_000

meta_bytes = st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(bytearray), st.none())
record = st.tuples(number, number, number, number, meta_bytes)
plain_record = st.tuples(u64, u64, u32, u32, st.binary(max_size=80))
json_value = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=40), st.binary(max_size=300)),
    lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(st.text(max_size=8), inside, max_size=4)),
    max_leaves=12,
)
hops = st.lists(st.tuples(st.text(max_size=8), u64), max_size=5)


def same(forms: Forms, name: str, *args: Any, **keywords: Any) -> Any:
    """What both forms of a function give; the same, or a failure."""
    python, leaf = outcome(forms.python[name], *args, **keywords), outcome(forms.leaves[name], *args, **keywords)
    assert plain(leaf) == plain(python), (name, args)
    assert [type(part) for part in flat(leaf)] == [type(part) for part in flat(python)]
    return leaf[1]


def plain(value: Any) -> Any:
    """Something that can be compared: structs by their fields, and each nan like another."""
    if isinstance(value, (StreamPacket, SlotRef)):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return repr(value) if isinstance(value, float) else bytes(value) if isinstance(value, memoryview) else value


def flat(value: Any) -> list[Any]:
    """A value and what it holds."""
    inside: list[Any] = []
    if isinstance(value, (tuple, list)):
        inside = list(value)
    elif isinstance(value, dict):
        inside = [*value, *value.values()]
    elif isinstance(value, (StreamPacket, SlotRef)):
        inside = [getattr(value, name) for name in value.__struct_fields__]
    return [value, *(part for one in inside for part in flat(one))]


def test_what_is_plain_is_not_left_to_python(forms):
    # Or the leaves would be right for the wrong reason, and both sides of every other test the same.
    leaf, memory = forms.leaves, mmap.mmap(-1, RING_BYTES)
    room = leaf["words"](memoryview(memory))
    table = leaf["words"](room[HEADER_BYTES:META_AT].cast("Q"))
    forms.asked.clear()
    one = leaf["new_packet"](StreamPacket, kind="a", source_id="b", meta={"fps": 30})
    ref = SlotRef(1, 2, 3, 4, "uint8", (2, 2), ())
    raw = b""
    for what in ((ref, None, 3, None), (None, {"b": [1]}, None, [("a", 1)]), (None, b"x", None, None)):
        raw = leaf["encode_packet"](one, leaf["fields_of"](one)[3], "", *what)
        leaf["open_packet"](raw, False, 1, "in", None)
    leaf["put_row"](room, table, room, (1, META_AT, 64), 1, 5, 1, ref, (1, 2, 3), 0, raw[:60])
    message = leaf["unsealed"](leaf["sealed"](leaf["data_many"](1, 1, 0, [(5, 6, 1, 0, raw)]), KEY), KEY)
    assert leaf["vouched"](table, ENTRIES, 2**62, leaf["read_data"](message, leaf["read_header"](message).records))
    assert leaf["clear_pending"](leaf["words"](memoryview(room)[HEADER_BYTES:META_AT].cast("I")), 1, 1) == 0
    leaf["data_one"](1, 1, 0, 5, 6, 1, 0, raw)
    leaf["read_receipt"](leaf["receipt"](1, 1, 9, [(1, 2, 0)]), 1)
    leaf["make_ids"](bytes(8))()
    assert not forms.asked


def test_the_leaves_look_into_packets_of_this_msgspec(forms):
    # Where they cannot, all of it is left to Python, which is right and slow.
    assert forms.knows_packets()


# --- messages


@given(st.tuples(number, number, number, number, number, number, number, meta_bytes))
def test_a_message_with_one_record(forms, args):
    same(forms, "data_one", *args)


@given(u32, u32, st.integers(0, 1), u64, u64, u32, u32, st.binary(max_size=80))
def test_a_plain_message_with_one_record_is_made_and_read(forms, edge, incarnation, want, sequence, sent_ns, entry, flags, meta):
    raw = same(forms, "data_one", edge, incarnation, want, sequence, sent_ns, entry, flags, meta)
    assert isinstance(raw, bytes)
    assert same(forms, "read_header", raw)[:5] == (1, want, 1, edge, incarnation)
    assert same(forms, "read_data", raw, 1) == [(sequence, sent_ns, entry, flags, meta)]


@given(number, number, number, st.one_of(st.lists(record, max_size=4), st.lists(plain_record, max_size=6), st.just(())))
def test_a_message_with_many_records(forms, edge, incarnation, want, records):
    same(forms, "data_many", edge, incarnation, want, records)


@given(st.lists(plain_record, max_size=6), st.integers(0, 8))
def test_plain_records_are_made_and_read(forms, records, count):
    raw = same(forms, "data_many", 7, 1, 0, records)
    assert same(forms, "read_data", raw, len(records)) == records
    same(forms, "read_data", raw, count)  # a count that is not theirs


@given(number, number, number, st.lists(st.tuples(number, number, st.one_of(number, st.integers(0, 7))), max_size=5))
def test_a_receipt(forms, edge, incarnation, upto, completions):
    same(forms, "receipt", edge, incarnation, upto, completions)


@given(u64, st.lists(st.tuples(u64, u32, st.integers(0, 7)), max_size=6), st.integers(0, 7))
def test_a_plain_receipt_is_made_and_read(forms, upto, completions, count):
    raw = same(forms, "receipt", 7, 1, upto, completions)
    found = same(forms, "read_receipt", raw, len(completions))
    assert found == (upto, completions) or any(one[2] > 5 for one in completions)
    same(forms, "read_receipt", raw, count)


@pytest.mark.parametrize("size", [*range(80), 127, 128, 129, 255, 256, 257, 1000, 65_536])  # each tail, and each length of what is folded
def test_a_seal_of_what_is_summed_here_and_of_what_zlib_sums(forms, size):
    message = random.Random(size).randbytes(size)
    for folded in (False, True):  # the latter at the end: so it is done where the processor can
        assert forms.fold(folded) == (folded and CAN_FOLD)
        for key in (0, 1, KEY, 2**31, 2**32 - 1, 2**32, -1, True):
            raw = same(forms, "sealed", message, key)
            if isinstance(raw, bytes):
                assert raw == message + zlib.crc32(message, key).to_bytes(4, "little")
                assert same(forms, "unsealed", raw, key) == message


@given(st.one_of(st.binary(max_size=200), st.none(), st.binary(max_size=9).map(bytearray)), st.one_of(u32, number))
def test_a_seal(forms, message, key):
    raw = same(forms, "sealed", message, key)
    if isinstance(raw, bytes):
        assert same(forms, "unsealed", raw, key) == message
        same(forms, "unsealed", raw, KEY)
    same(forms, "unsealed", message, key)


def test_damaged_messages(forms):
    rng = random.Random(11)
    make = forms.python
    records = [(n, 5 * n, n % 8, n & 1, bytes(n)) for n in range(1, 5)]
    seeds = [
        make["data_one"](7, 1, 1, 9, 10, 3, 1, b"metadata"),
        make["data_many"](7, 1, 0, records),
        make["receipt"](7, 1, 4, [(1, 2, 0)] * 4),
    ]
    for _ in range(MUTATIONS):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            raw[rng.randrange(len(raw))] = rng.choice((0, 1, 4, 5, 127, 128, 255))
        if rng.random() < 0.3:
            del raw[rng.randrange(len(raw)) :]
        if rng.random() < 0.1:
            raw += bytes(rng.randrange(40))
        found = outcome(make["read_header"], bytes(raw))
        same(forms, "read_header", bytes(raw))
        count = found[1].records if isinstance(found[1], Header) else rng.randrange(9)
        same(forms, "read_data", bytes(raw), count)
        same(forms, "read_receipt", bytes(raw), count)


# --- packets


def packet_with(**fields: Any) -> StreamPacket:
    return StreamPacket(**{"kind": "frame", "source_id": "camera"} | fields)


@given(
    st.one_of(st.text(max_size=70), number),
    st.one_of(st.text(max_size=140), number),
    number,
    number,
    st.one_of(st.none(), st.dictionaries(st.one_of(st.text(max_size=5), number), json_value, max_size=3), json_value),
    st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20), number),
    st.one_of(st.just(""), st.text(max_size=70)),
    st.one_of(st.none(), slot_ref),
    json_value,
    st.one_of(st.none(), number),
    st.one_of(st.none(), hops, json_value),
)
def test_any_packet_is_encoded_or_refused(forms, kind, source_id, wall_ns, capture_ns, own, id16, declared, ref, value, position, trace):
    one = packet_with(kind=kind, source_id=source_id, wall_ns=wall_ns, capture_ns=capture_ns, meta=own)
    raw = same(forms, "encode_packet", one, id16, declared, ref, value, position, trace)
    if isinstance(raw, bytes):
        same(forms, "open_packet", raw, False, 5, "in", None)


@given(
    st.text(max_size=64),
    st.text(max_size=128),
    u64,
    u64,
    st.one_of(st.none(), st.dictionaries(st.text(max_size=5), json_value, max_size=3)),
    st.one_of(st.none(), plain_ref),
    json_value,
    st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    st.one_of(st.none(), hops),
)
def test_a_plain_packet_is_encoded_and_opened(forms, kind, source_id, wall_ns, capture_ns, own, ref, value, position, trace):
    one, id16 = packet_with(kind=kind, source_id=source_id, wall_ns=wall_ns, capture_ns=capture_ns, meta=own), bytes(range(16))
    raw = same(forms, "encode_packet", one, id16, "", ref, None if ref else value, position, trace)
    if isinstance(raw, bytes):
        found = same(forms, "open_packet", raw, True, 2**40, "in", one)
        if isinstance(found, tuple):
            assert found[1] == id16 and found[0].parent is one and found[0].redelivered and found[0].in_port == "in"


def test_what_is_no_packet_and_has_lost_a_field(forms):
    class Look:
        payload = parent = position = id16 = trace = redelivered = meta = None
        kind = source_id = "x"
        wall_ns = capture_ns = 1

    class Own(StreamPacket):
        extra: int = 3

    lost = packet_with()
    del lost.source_id, lost.payload
    for one in (Look(), Own("frame", "camera"), lost, 7, None, packet_with(kind=None), packet_with(source_id="half \ud800")):
        same(forms, "fields_of", one)
        same(forms, "encode_packet", one, bytes(16), "", None, {"a": 1}, None, None)
        same(forms, "encode_packet", one, bytes(16), "frame", SlotRef(1, 2, 3, 4, "uint8", (2, 2), ()), None, 7, [("a", 1)])


@pytest.mark.parametrize("value", [*ANYTHING, {1, 2}, object(), 2**70, -(2**70), [("a", 1)], "\ud800", {"\ud800": 1}, {1: 2}, b"x" * 3000])
def test_values_that_are_odd(forms, value):
    for place in range(3):
        args = [None, value, None, None]
        one = packet_with(meta=value) if place == 1 else packet_with()
        if place:
            args[1] = None
        if place == 2:
            args[3] = value
        raw = same(forms, "encode_packet", one, bytes(16), "", *args)
        if isinstance(raw, bytes):
            same(forms, "open_packet", raw, False, 1, "in", None)


def metadata(rng: random.Random) -> bytes:
    ref = SlotRef(*(rng.choice(NUMBERS[:30]) for _ in range(4)), rng.choice(DTYPES), (480, 640, 3), rng.choice(((), (1, 2, 3))))
    value = rng.choice(({"a": [1, 2.5, "x"]}, None, b"bytes" * 20, [[[]]], "text", -7))
    own, trace = rng.choice((None, {"fps": 30})), rng.choice((None, [("camera", 123456789)]))
    return encode_meta(
        Meta(bytes(16), "frame", "camera", 10**18, 10**12, rng.choice((None, ref)), value, own, rng.choice((None, 0, 77)), trace)
    )


def test_damaged_metadata(forms):
    rng = random.Random(13)
    for _ in range(MUTATIONS):
        raw = bytearray(metadata(rng))
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
            raw[rng.randrange(len(raw))] = rng.choice((*range(0x90, 0xE0), 0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del raw[rng.randrange(len(raw)) :]
        if rng.random() < 0.05:
            raw += b"\0"
        same(forms, "open_packet", bytes(raw), False, 1, "in", None)


@pytest.mark.parametrize("depth", [10, 500, 2000, 50_000])
def test_metadata_that_is_nested(forms, depth):
    head = encode_meta(Meta(bytes(16), "frame", "camera", 1, 1))[:-4]
    for at in range(4):
        raw = head + b"\xc0" * at + nested(depth) + b"\xc0" * (3 - at)
        python, leaf = (outcome(form["open_packet"], raw, False, 1, "in", None) for form in (forms.python, forms.leaves))
        assert leaf[0] == python[0] and (isinstance(leaf[1], tuple) or leaf[1] == python[1])
    announced = b"\xdd\xff\xff\xff\xff" * 3
    same(forms, "open_packet", head + announced, False, 1, "in", None)


@pytest.mark.parametrize("raw", [b"", b"\x9a", None, bytearray(b"\x9a"), memoryview(b"\x9a"), encode_json([1, 2])])
def test_what_is_no_metadata(forms, raw):
    same(forms, "open_packet", raw, False, 1, "in", None)


def test_a_text_that_comes_again_is_the_same_and_another_is_not(forms):
    for kind in ("frame", "frame", "audio", "frame", "größe", "größe"):
        raw = encode_meta(Meta(bytes(16), kind, "camera", 1, 1))
        assert same(forms, "open_packet", raw, False, 1, "in", None)[0].kind == kind


# --- making packets

GIVEN: list[dict[str, Any]] = [
    {},
    {"kind": "a"},
    {"source_id": "b"},
    {"kind": "a", "source_id": "b", "colour": 1},
    {"kind": "a", "source_id": "b", "payload": [1], "meta": {"x": 1}, "position": 5, "port": "left", "wall_ns": 3, "capture_ns": 4},
    {"kind": None, "source_id": 7, "payload": object, "meta": 3, "position": "x", "port": None, "wall_ns": "w", "capture_ns": 1.5},
    {"kind": "a", "source_id": "b", "wall_ns": 0, "capture_ns": 0},
]


@pytest.mark.parametrize("fields", GIVEN)
@pytest.mark.parametrize("args", [(), (1,)])
def test_a_new_packet(forms, fields, args):
    class Own(StreamPacket):
        pass

    for cls in (StreamPacket, Own):
        fixed = {"wall_ns": 1, "capture_ns": 2} | fields
        python, leaf = (outcome(form["new_packet"], cls, *args, **fixed) for form in (forms.python, forms.leaves))
        for found in (python, leaf):
            if isinstance(found[1], StreamPacket):
                assert type(found[1]) is cls and len(found[1].id16) == 16
                found[1].id16 = b""
        assert plain(leaf) == plain(python)


def test_a_new_packet_is_of_this_moment(forms):
    import time

    before = time.time_ns(), time.monotonic_ns()
    packets = [forms.leaves["new_packet"](StreamPacket, kind="a", source_id="b") for _ in range(1000)]
    after = time.time_ns(), time.monotonic_ns()
    assert all(before[0] <= one.wall_ns <= after[0] and before[1] <= one.capture_ns <= after[1] for one in packets)
    assert len({one.id16 for one in packets}) == 1000


# --- what they leave behind


def test_nothing_is_leaked(forms):
    rng = random.Random(3)
    leaf = forms.leaves
    memory = mmap.mmap(-1, RING_BYTES)
    room = leaf["words"](memoryview(memory))
    table = leaf["words"](room[HEADER_BYTES:META_AT].cast("Q"))
    bits = leaf["words"](memoryview(room)[HEADER_BYTES:META_AT].cast("I"))
    kept: list[Any] = [packet_with(meta={"a": 1}), SlotRef(1, 2, 3, 4, "uint8", (2, 2), ()), "in", object()]
    hostile = [bytes(rng.randrange(256) for _ in range(60)) for _ in range(20)]

    def once() -> None:
        one, ref, port, parent = kept
        raws = [
            leaf["encode_packet"](one, bytes(16), "", *more)
            for more in ((ref, None, 3, None), (None, {"b": [1]}, None, [("a", 1)]), (None, b"x", None, None))
        ]
        for raw in raws:
            leaf["open_packet"](raw, False, 1, port, parent)
            leaf["put_row"](room, table, room, (1, META_AT, 64), 1, 5, 1, ref, (1, 2, 3), 0, raw[:60])
            leaf["clear_pending"](bits, 1, 1)
            message = leaf["sealed"](leaf["data_many"](1, 1, 0, [(5, 6, 1, 0, raw)] * 3), KEY)
            again = leaf["unsealed"](message, KEY)
            leaf["vouched"](table, ENTRIES, 2**62, leaf["read_data"](again, leaf["read_header"](again).records)[:1])
            leaf["read_receipt"](leaf["receipt"](1, 1, 9, [(1, 2, 0)] * 3), 3)
            leaf["fields_of"](leaf["new_packet"](StreamPacket, kind="a", source_id="b", payload=raw))
        for raw in hostile:
            for name, args in (
                ("open_packet", (raw, False, 1, port, parent)),
                ("read_header", (raw,)),
                ("read_data", (raw, 3)),
                ("unsealed", (raw, 1)),
            ):
                outcome(leaf[name], *args)
        outcome(leaf["data_one"], -1, 1, 1, 1, 1, 1, 1, b"")
        outcome(leaf["words"], room[0:8])

    assert_nothing_is_left(once, (*kept, StreamPacket, SlotRef, Header))


@pytest.mark.parametrize("prefix", [b"prefix 8", b"short", bytearray(8), "text"])
def test_ids_of_a_prefix(forms, prefix):
    ids = [outcome(form["make_ids"], prefix) for form in (forms.python, forms.leaves)]
    python, leaf = ([outcome(give) for _ in range(300)] if callable(give) else give for _, give in ids)
    assert leaf == python


def test_opening_gives_what_decode_meta_gives(forms):
    rng = random.Random(5)
    for _ in range(500):
        raw = metadata(rng)
        meta = decode_meta(raw)
        one, id16, ref, _ = forms.leaves["open_packet"](raw, False, 1, "in", None)
        assert (one.kind, one.source_id, one.wall_ns, one.capture_ns, one.meta, one.position, one.trace, id16) == (
            (meta.kind, meta.source_id, meta.wall_ns, meta.capture_ns, meta.meta, meta.position, meta.trace, meta.id16)
        )
        assert ref == meta.ref
