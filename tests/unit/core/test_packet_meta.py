"""Metadata on its way between processes: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import limits
from streamcore.errors import MessageError, PayloadError
from streamcore.packet import FRAME_DTYPES, ID_BYTES, Meta, SlotRef, decode_json, decode_meta, encode_json, encode_meta

MUTATIONS = 200_000

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
refs = st.builds(
    SlotRef,
    ring=st.integers(0, 2**32 - 1),
    slot=st.integers(0, 2**32 - 1),
    offset=st.integers(0, 2**40),
    nbytes=st.integers(0, 2**40),
    dtype=st.sampled_from(["", "msgpack", *FRAME_DTYPES]),
    shape=st.lists(st.integers(0, 2**31), max_size=8).map(tuple),
    strides=st.lists(int64, max_size=8).map(tuple),
)
metas = st.builds(
    Meta,
    id16=st.binary(min_size=ID_BYTES, max_size=ID_BYTES),
    kind=st.text(st.characters(exclude_categories=["Cs"]), max_size=limits.KIND_CHARS_MAX),
    source_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=limits.SOURCE_ID_CHARS_MAX),
    wall_ns=int64,
    capture_ns=int64,
    ref=st.none() | refs,
    value=json,
    meta=st.none() | st.dictionaries(text, json, max_size=4),
    position=st.none() | int64,
    trace=st.none() | st.lists(st.tuples(text, int64), max_size=4),
)


def meta(**changes) -> Meta:
    return Meta(**{"id16": b"i" * ID_BYTES, "kind": "frame", "source_id": "camera", "wall_ns": 1, "capture_ns": 2} | changes)


@given(metas)
def test_metadata_survives_the_journey(given_meta):
    assert decode_meta(encode_meta(given_meta)) == given_meta


@given(json)
def test_a_json_value_survives_the_journey(value):
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize("value", [object(), {1j}, "\ud800", {"a": object()}, 2**64, -(2**63) - 1, lambda: None], ids=repr)
@pytest.mark.parametrize("field", ["value", "meta"])
def test_what_is_not_json_is_refused_where_it_was_made(field, value):
    with pytest.raises(PayloadError):
        encode_meta(meta(**{field: value if field == "value" else {"x": value}}))


def test_a_value_that_contains_itself_is_refused():
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(PayloadError, match="not JSON"):
        encode_meta(meta(value=ring))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "k" * (limits.KIND_CHARS_MAX + 1)},
        {"source_id": "s" * (limits.SOURCE_ID_CHARS_MAX + 1)},
        {"meta": [1]},
        {"meta": {1: 2}},
        {"meta": "text"},
    ],
    ids=str,
)
def test_what_its_consumer_would_refuse_is_refused_where_it_was_made(changes):
    # Otherwise the consumer is blamed for what the producer did.
    with pytest.raises(MessageError):
        decode_meta(msgspec.msgpack.encode(meta(**changes)))
    with pytest.raises(PayloadError, match="found"):
        encode_meta(meta(**changes))


@pytest.mark.parametrize("nbytes", [0, ID_BYTES - 1, ID_BYTES + 1])
def test_a_packet_id_of_another_length_is_refused(nbytes):
    with pytest.raises(MessageError, match="wrong length"):
        decode_meta(msgspec.msgpack.encode(meta(id16=b"x" * nbytes)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc0",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        msgspec.msgpack.encode([*range(10)]),
        msgspec.msgpack.encode([b"i" * 16, "k", "s", 1, 2, None, None, None, None, None, "one field too many"]),
        msgspec.msgpack.encode([b"i" * 16, "k", "s", 1, 2, [0, 0, 0, 0, "uint8", [1], [], "more"]]),
        msgspec.msgpack.encode([b"i" * 16, "k", "s", 1.5, 2]),
        msgspec.msgpack.encode([b"i" * 16, "k", "s", 1, 2, [True, 0, 0, 0, "uint8", [1], []]]),
        b"\x9f" + b"\xff" * 15,
        b"\x96\xc4\x10" + b"i" * 16 + b"\xa1k\xa1s\x01\x02\xc0\x81\x80\x01",
    ],
    ids=range(11),
)
def test_hostile_metadata_is_refused_and_nothing_else_happens(raw):
    with pytest.raises(MessageError):
        decode_meta(raw)


def test_mutated_metadata_is_refused_or_still_well_formed_never_anything_else():
    chance = random.Random(20261123)
    ref = SlotRef(3, 1, 4096, 6_220_800, "uint8", (1080, 1920, 3), (-5760, 3, 1))
    parts = {"value": {"boxes": [[1, 2.5, None]], "n": "é"}, "meta": {"a": [1, {"b": True}]}, "trace": [("camera", 12), ("blur", 34)]}
    seeds = [encode_meta(meta(ref=ref, position=77)), encode_meta(meta(**parts)), encode_meta(meta())]
    refused = 0
    for number in range(MUTATIONS):
        raw = bytearray(seeds[number % len(seeds)])
        for _ in range(1 + number % 3):
            raw[int(chance.random() * len(raw))] = int(chance.random() * 256)
        if number % 5 == 0:
            del raw[int(chance.random() * len(raw)) :]
        try:
            found = decode_meta(raw)
        except MessageError:
            refused += 1
        else:
            assert len(found.id16) == ID_BYTES
    # Most mutations hit a length or a type; the others change a letter or a number, which nobody can see from here.
    assert MUTATIONS // 4 < refused < MUTATIONS


ANYTHING = (
    None,
    True,
    0,
    -1,
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 200,
    "\ud800",
    b"",
    b"i" * 16,
    b"i" * 17,
)
ANYTHING = (*ANYTHING, [], [[]], [("n", 1)], [("n", "1")], [["n", 1, 2]], {}, {"a": 1}, {1: 2}, {"a": object()}, object(), 10**400, (), {1})


@pytest.mark.parametrize("field", [name for name in Meta.__struct_fields__ if name != "ref"])
def test_what_can_be_encoded_can_be_decoded_whatever_stands_in_a_field(field):
    # Else the fault would be found at the consumer, where nobody can mend it.
    refused = 0
    for value in ANYTHING:
        try:
            raw = encode_meta(meta(**{field: value}))
        except PayloadError:
            refused += 1
        else:
            decode_meta(raw)
    assert 3 <= refused < len(ANYTHING)
