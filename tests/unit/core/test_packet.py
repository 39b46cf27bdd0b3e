"""StreamPacket: ids, derivation, and what a port may carry."""

from __future__ import annotations

import array as stdlib_array

import numpy as np
import pytest

from streamcore import StreamPacket, array, limits
from streamcore.packet import PROFILES, TYPE_STRINGS, carries_arrays, derived_id16, profile_accepts, source_id16
from streamcore.payload import DTYPES, describe_payload, payload_fits

FRAME = np.zeros((4, 6, 3), np.uint8)


def packet(**changes) -> StreamPacket:
    return StreamPacket.new(**{"kind": "frame", "source_id": "camera", "payload": FRAME, "meta": {"n": 1}} | changes)


def as_input(given: StreamPacket) -> StreamPacket:
    """The packet as a host hands it over: with a record of the input that it is."""
    given.parent = object()
    return given


def test_every_new_packet_has_an_id_of_its_own():
    ids = {packet().packet_id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(text) == 32 and int(text, 16) >= 0 for text in ids)


def test_the_id_of_a_source_packet_follows_from_node_port_and_position_alone():
    # After a restart the same position must give the same id, or every repeat would look new.
    assert source_id16("camera", "out", 7) == source_id16("camera", "out", 7)
    names = [("camera", "out"), ("camera", "aux"), ("cam", "eraout"), ("camerao", "ut")]
    assert len({source_id16(node, port, n) for node, port in names for n in range(100)}) == 400


def test_the_id_of_an_output_differs_by_parent_and_salt():
    parents, salts = [bytes([n]) * 16 for n in range(20)], [b"blur.out\0%d" % n for n in range(20)]
    assert len({derived_id16(parent, salt) for parent in parents for salt in salts}) == 400


def test_a_derived_packet_keeps_source_capture_time_and_redelivery():
    given = as_input(packet(wall_ns=5, capture_ns=6))
    given.redelivered, given.trace = True, [("camera", 1)]
    out = given.derive(payload={"n": 2}, kind="count", port="aux")
    assert (out.source_id, out.wall_ns, out.capture_ns, out.redelivered, out.trace) == ("camera", 5, 6, True, [("camera", 1)])
    assert (out.payload, out.kind, out.port, out.parent) == ({"n": 2}, "count", "aux", given.parent)
    assert out.sequence == -1
    assert out.lease is None


def test_a_derived_packet_takes_over_meta_and_kind_unless_told_otherwise():
    given = as_input(packet())
    assert given.derive(payload=1).meta == {"n": 1}
    assert given.derive(payload=1, meta={}).meta == {}
    assert given.derive(payload=1).kind == "frame"
    assert given.derive(payload=1, source_id="other").source_id == "other"


def test_a_packet_derived_from_one_made_here_has_an_id_of_its_own():
    made = packet()
    assert made.derive(payload=1).packet_id != made.packet_id


def test_a_packet_is_captured_now_unless_told_otherwise():
    first, second = packet(), packet()
    assert second.capture_ns >= first.capture_ns > 0
    assert packet(wall_ns=1_795_417_200_000_000_000, capture_ns=9).ts == "2026-11-23T07:00:00.000000Z"


def test_packets_are_equal_only_to_themselves():
    # Comparing payloads would compare arrays, element by element, wherever a packet is sought in a list.
    made = packet()
    assert made != packet()
    assert made in [made]


JSON = [None, True, 3, 2.5, "text", [1], {"a": 1}, (1, 2)]
BYTES = [b"x", bytearray(b"x"), memoryview(b"x")]


@pytest.mark.parametrize("payload", JSON, ids=repr)
def test_json_values_fit_json_and_any_only(payload):
    assert [profile for profile in PROFILES if payload_fits(profile, payload)] == ["json", "any"]
    assert not payload_fits(array(), payload)


@pytest.mark.parametrize("payload", BYTES, ids=lambda payload: type(payload).__name__)
def test_bytes_fit_bytes_and_any_only(payload):
    assert [profile for profile in PROFILES if payload_fits(profile, payload)] == ["bytes", "any"]
    assert not payload_fits(array("uint8"), payload)


@pytest.mark.parametrize(
    ("profile", "fits"),
    [
        (array(), True),
        (array("uint8"), True),
        (array("uint8", ndim=3), True),
        (array(ndim=3), True),
        ("any", True),
        (array("uint16"), False),
        (array(ndim=2), False),
        ("json", False),
        ("bytes", False),
    ],
    ids=str,
)
def test_an_array_fits_by_dtype_and_ndim(profile, fits):
    assert payload_fits(profile, FRAME) is fits


REFUSED_ARRAYS = {
    "objects": np.array([object()]),
    "text": np.array(["a"]),
    "complex": np.zeros(2, np.complex128),
    "big endian": np.zeros(2, ">u2"),
    "dates": np.zeros(2, "datetime64[s]"),
    "records": np.zeros(2, [("x", "u1")]),
    "too many axes": np.zeros((1,) * (limits.NDIM_MAX + 1), np.uint8),
}


@pytest.mark.parametrize("payload", REFUSED_ARRAYS.values(), ids=REFUSED_ARRAYS.keys())
def test_an_array_that_cannot_travel_fits_nowhere(payload):
    # An object array would carry pointers of this process into others.
    assert not any(payload_fits(profile, payload) for profile in (*PROFILES, array(), array("uint8")))


@pytest.mark.parametrize("payload", [object(), {1, 2}, np.uint8(3), np.int64(3), 3j, stdlib_array.array("d")], ids=repr)
def test_other_objects_fit_nowhere(payload):
    assert not any(payload_fits(profile, payload) for profile in (*PROFILES, array()))


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_that_may_be_declared_fits(name):
    assert payload_fits(array(name), np.zeros(1, name))
    assert payload_fits("any", np.zeros(1, name))


@pytest.mark.parametrize(("dtype", "ndim"), [("object", None), ("u1", None), ("float128", None), (None, -1), (None, 9)])
def test_a_profile_that_no_array_can_have_is_refused(dtype, ndim):
    with pytest.raises(ValueError, match=r"cannot travel|is not 0 to"):
        array(dtype, ndim)


@pytest.mark.parametrize(
    ("wanted", "offered", "accepted"),
    [
        (array(), array("uint8", ndim=3), True),
        (array("uint8"), array("uint8", ndim=3), True),
        (array("uint8", ndim=3), array("uint8"), False),  # may turn out to have two axes
        (array("uint8"), array(), False),
        (array("uint8"), array("uint16"), False),
        (array(), "json", False),
        ("json", array(), False),
        ("json", "json", True),
        ("json", "bytes", False),
        ("any", array("uint8"), True),
        (array("uint8"), "any", True),
        ("json", "any", True),
    ],
    ids=str,
)
def test_a_port_accepts_what_can_never_surprise_it(wanted, offered, accepted):
    assert profile_accepts(wanted, offered) is accepted


def test_only_arrays_and_any_carry_arrays():
    assert [carries_arrays(profile) for profile in (array(), "any", "json", "bytes")] == [True, True, False, False]


def test_a_payload_is_described_without_its_content():
    assert describe_payload(FRAME) == "array of dtype uint8, shape (4, 6, 3)"
    assert describe_payload({"password": "secret"}) == "dict"


def test_the_type_strings_are_those_of_numpy():
    # The table stands without numpy, so that the coordinator can do without; a wrong one would show a consumer other pixels.
    assert {name: np.dtype(name).str for name in TYPE_STRINGS} == TYPE_STRINGS
