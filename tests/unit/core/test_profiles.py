"""What ports may declare of their payloads: shapes and JSON Schemas, and which of them fit together."""

from __future__ import annotations

import itertools
import random

import msgspec
import numpy as np
import pytest

from streamcore import Port, array, json_schema
from streamcore.packet import profile_accepts, profile_differs
from streamcore.payload import payload_fits

BGR = array("uint8", shape=(None, None, 3))
THING = {"type": "object", "properties": {"x": {"type": "number"}}}


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((4, 6, 3), True), ((0, 0, 3), True), ((4, 6, 1), False), ((4, 6), False), ((4, 6, 3, 1), False)],
)
def test_a_payload_fits_a_shape_by_its_sizes(shape, fits):
    assert payload_fits(BGR, np.zeros(shape, np.uint8)) is fits


def test_axes_of_one_letter_have_one_size():
    square = array(shape=("N", "N", "C"))
    assert payload_fits(square, np.zeros((4, 4, 3)))
    assert not payload_fits(square, np.zeros((4, 5, 3)))


def test_ndim_follows_from_a_shape():
    assert array("uint8", shape=(None, 3)).ndim == 2
    with pytest.raises(ValueError, match="ndim 3 with a shape of 2 axes"):
        array("uint8", 3, (None, 3))


@pytest.mark.parametrize("entry", [-1, 1.0, True, "n", "HW", "", "É", (1,)], ids=repr)
def test_a_shape_of_anything_else_is_refused(entry):
    with pytest.raises(ValueError, match="is not a size, None or a capital letter"):
        array(shape=(entry,))


@pytest.mark.parametrize(
    ("wanted", "offered", "differs"),
    [
        (BGR, array("uint8", shape=(480, 640, 3)), ""),
        (BGR, array("uint8", ndim=3), ""),  # a size that one side leaves open is checked per packet
        (array("uint8", ndim=3), BGR, ""),
        (BGR, array("uint8", shape=(480, 640, 1)), "axis 2 cannot be both 1 and 3 long"),
        (BGR, array("uint16", shape=(480, 640, 3)), "dtype uint16 and uint8"),
        (BGR, array("uint8", shape=(480, 640)), "ndim 2 and 3"),
        (BGR, array("uint8"), "ndim any and 3"),
        (BGR, "json", "json and array"),
        ("json", json_schema(THING), ""),
        (json_schema(THING), "json", ""),
        (json_schema(THING), json_schema(dict(reversed(THING.items()))), ""),  # the order of keys says nothing
        (json_schema(THING), json_schema({**THING, "required": ["x"]}), "schemas, first at required"),
        (json_schema({"minimum": 1}), json_schema({"minimum": True}), "schemas, first at minimum"),
        (json_schema(THING), "bytes", "bytes and json"),
        (json_schema(THING), "any", ""),
    ],
    ids=str,
)
def test_two_profiles_differ_in_what_is_named(wanted, offered, differs):
    assert profile_differs(wanted, offered) == differs
    assert profile_accepts(wanted, offered) is (not differs)


def test_two_shapes_fit_exactly_if_some_array_fits_both():
    chance = random.Random(20261126)
    for _ in range(2000):
        ndim = chance.randrange(1, 4)
        one, two = (array(shape=[chance.choice([None, 1, 2, "A", "B"]) for _ in range(ndim)]) for _ in range(2))
        # Three sizes are enough: two that the patterns name and one more.
        both = any(
            payload_fits(one, found) and payload_fits(two, found)
            for found in (np.empty(sizes, np.uint8) for sizes in itertools.product((1, 2, 3), repeat=ndim))
        )
        assert profile_accepts(one, two) is both, (one, two)


@pytest.mark.parametrize("schema", [[], "object", {"a": object()}, {"a": float("nan")}], ids=repr)
def test_what_is_no_json_schema_is_refused(schema):
    with pytest.raises(ValueError, match="a JSON Schema"):
        json_schema(schema)


def test_profiles_are_named_as_they_are_written():
    assert str(BGR) == "array(uint8, shape=(None, None, 3))"
    assert str(array(shape=("N",))) == "array(any dtype, shape=(N,))"
    assert str(json_schema({"title": "thing"})) == "json_schema 'thing'"


@pytest.mark.parametrize("profile", [BGR, array("uint8", shape=("N", "N", None)), array(), json_schema(THING), "json", "any"], ids=str)
def test_a_port_travels_as_json(profile):
    port = Port("any", profile, transport="durable")
    assert msgspec.json.decode(msgspec.json.encode(port), type=Port) == port


def test_a_port_has_a_known_transport():
    assert Port("any").transport == "shm"
    with pytest.raises(ValueError, match="transport 'tcp' is not one of shm, durable, network"):
        Port("any", transport="tcp")
