"""What a manifest tells of a class, and that it survives the way through JSON."""

from __future__ import annotations

import msgspec
import pytest

from streamcore import Node, Port, Source, array
from streamcore.manifest import Manifest
from streamcore.node.api import forwarded_inputs, number_of


class Blur(Node):
    """Blur frames.

    More of it.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3), doc="a frame"), "hint": Port("hint", "json", required=False)}
    outputs = {"out": Port("frame", array("uint8", ndim=3), forwards=("in",)), "rest": Port("any")}
    config = {"keep": {"type": "integer", "default": 3}, "room": {"type": ("size", "string"), "allowed": ["1MiB", 5]}}
    retention = "keep"
    batch_max = 4

    def process(self, packet):
        return None


def test_a_manifest_says_what_the_class_says():
    found = Manifest.of(Blur, "acme.blur")
    assert (found.name, found.target, found.role) == ("acme.blur", f"{__name__}:Blur", "node")
    assert found.doc == "Blur frames.\n\nMore of it."
    assert (found.inputs, found.outputs) == (Blur.inputs, Blur.outputs)
    assert (found.retention, found.batch_max, found.has_code) == ("keep", 4, False)
    assert found.config == {"keep": {"type": "integer", "default": 3}, "room": {"type": ["size", "string"], "allowed": ["1MiB", 5]}}
    for port in Blur.outputs:
        assert forwarded_inputs(found, port) == forwarded_inputs(Blur, port)
    assert number_of(found, "retention", {"keep": 7}) == 7


def test_it_comes_back_from_json_as_it_was():
    found = Manifest.of(Blur)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Manifest) == found


def test_a_port_may_be_of_a_subclass_and_travels_as_a_port():
    class Special(Port):
        pass

    made = type("Cam", (Source,), {"outputs": {"out": Special("frame", "json", forwards=["in"])}})
    assert Manifest.of(made).outputs == {"out": Port("frame", "json", forwards=("in",))}


LOOP: dict = {"type": "dict"}
LOOP["schema"] = {"again": LOOP}


@pytest.mark.parametrize(
    "rules",
    [
        {"a": {"check_with": lambda field, value, error: None}},
        {"a": {"coerce": int}},
        {"a": {"coerce": [str, int]}},
        {"a": {"default_setter": lambda document: 1}},
        {"a": {"type": "dict", "schema": {"b": {"anyof": [{"type": "string"}, {"coerce": int}]}}}},
        {"a": {"allowed": {1, 2}}},
        {"a": {"default": 1.5j}},
        {"a": {"default": float("inf")}},
        {"a": {"default": 2**64}},
        {"a": "a rule set that the plugin registered"},
        {"a": {"type": "list", "schema": "another one"}},
        {1: {"type": "integer"}},
        LOOP,
    ],
)
def test_a_schema_that_is_no_pure_data_is_marked_and_can_still_be_shown(rules):
    # If it were taken for data, a check that calls code would silently be left out.
    found = Manifest.of(type("Cam", (Source,), {"config": rules}))
    assert found.has_code
    assert msgspec.json.decode(msgspec.json.encode(found), type=Manifest) == found
