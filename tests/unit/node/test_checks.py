"""The check of packets against their port: what it refuses, how it says so, and when it is over."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, Port, array, json_schema
from streamcore.node.checks import ALL, FIRST, OFF, Check, check_for
from streamcore.schema_check import compiled

BGR = Port("frame", array("uint8", shape=(None, None, 3)))
FRAME = np.zeros((4, 6, 3), np.uint8)
BOXES = {
    "title": "boxes",
    "type": "object",
    "required": ["boxes"],
    "properties": {"boxes": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}}},
    "additionalProperties": {"type": "null"},
}


def test_first_is_over_with_the_first_packet_that_fits():
    check = Check("blur.in", BGR, FIRST)
    for _ in range(2):  # one that does not fit says nothing of the next
        with pytest.raises(PayloadError):
            check.done_with(FRAME[:, :, :1])
    assert check.done_with(FRAME)


def test_all_is_never_over():
    check = Check("blur.in", BGR, ALL)
    assert not check.done_with(FRAME)


def test_nothing_is_asked_when_it_is_off_or_could_refuse_nothing():
    assert check_for("blur.in", BGR, OFF, {}) is None
    assert check_for("file.in", Port("any", "any"), ALL, {}) is None
    assert check_for("file.in", BGR, FIRST, {}) is not None


def test_a_misfit_names_port_found_and_expected():
    with pytest.raises(PayloadError) as caught:
        Check("blur.in", BGR).done_with(FRAME[:, :, :1])
    found, expected = "array of dtype uint8, shape (4, 6, 1)", "array(uint8, shape=(None, None, 3))"
    assert str(caught.value) == f"port blur.in: found {found}, expected {expected}"


def test_a_port_for_anything_says_what_that_is():
    with pytest.raises(PayloadError, match="found object, expected JSON, bytes, or an array of booleans, integers or floats"):
        Check("file.in", Port("any", "any")).done_with(object())


def test_what_stores_packets_takes_arrays_only_with_a_codec():
    port = Port("any", "any", transport="durable")
    Check("store.in", port, config={"codec": "png"}).done_with(FRAME)
    check = check_for("store.in", port, FIRST, {})
    assert check is not None
    for payload in ({"a": 1}, b"bytes"):
        check.done_with(payload)
    with pytest.raises(PayloadError, match="JSON or bytes: its transport is durable, and the node's config names no codec"):
        check.done_with(FRAME)


def test_a_schema_says_which_rule_is_broken_and_where_but_never_the_content():
    pytest.importorskip("fastjsonschema")
    check = Check("events.in", Port("thing", json_schema(BOXES)), ALL)
    assert not check.done_with({"boxes": [{"x": 1.5}]})
    for payload, broken in (
        ({"boxes": [{"x": 1}, {"x": "a secret"}]}, "'type' at boxes.1.x"),
        ({"a secret": 1}, "'required' at its top"),
        ({"boxes": [], "a secret": 3}, "'type' at *"),
    ):
        with pytest.raises(PayloadError) as caught:
            check.done_with(payload)
        assert str(caught.value) == f"port events.in: found dict that breaks {broken}, expected json_schema 'boxes'"
    with pytest.raises(PayloadError, match="found list, expected|found list that breaks 'type'"):
        check.done_with([])


def test_a_schema_never_changes_the_payload():
    pytest.importorskip("fastjsonschema")
    payload: dict[str, object] = {}
    assert compiled(json_schema({"properties": {"a": {"default": 3}}}).text)(payload) == ""
    assert payload == {}


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/x", "file:///etc/passwd"])
def test_a_schema_that_points_elsewhere_is_refused_unread(ref):
    pytest.importorskip("fastjsonschema")
    with pytest.raises(ConfigError, match="port a.out: its json_schema is no JSON Schema that can be checked: .*only references within"):
        Check("a.out", Port("thing", json_schema({"$ref": ref})))


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjsonschema", None)
    compiled.cache_clear()
    with pytest.raises(ConfigError, match=r"its json_schema needs the package fastjsonschema: pip install 'streamcore\[schema\]'"):
        Check("a.out", Port("thing", json_schema(BOXES)))
