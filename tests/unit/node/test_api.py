"""The node API: what a class declares, and what an author may leave out."""

from __future__ import annotations

import pytest

import streamcore
from streamcore import Node, Port, Sink, Source, StreamPacket, array
from streamcore.node.api import attach, forwarded_inputs, number_of, role_of


class Blur(Node):
    inputs = {"in": Port("frame", array("uint8", ndim=3)), "mask": Port("mask", "json"), "ref": Port("frame", "any")}
    outputs = {
        "out": Port("frame", array("uint8", ndim=3)),
        "boxes": Port("boxes", "json"),
        "own": Port("frame", array(), forwards=()),
        "ref": Port("frame", "any", forwards=("ref",)),
    }
    retention = "keep"
    batch_max = 3
    config = {"keep": {"type": "integer"}}


class Runtime:
    """What runs a node, as far as these tests need one."""

    stopping = False
    resume_position = 41
    log = metrics = None

    def __init__(self):
        self.calls = []

    def loan(self, *arguments):
        self.calls.append(arguments)
        return "the loan"

    def wait_until(self, deadline_ns):
        return deadline_ns < 10


@pytest.mark.parametrize("name", streamcore.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(streamcore, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = streamcore.nonsense


@pytest.mark.parametrize("profile", ["frames", "", None, 3])
def test_a_port_refuses_a_profile_that_does_not_exist(profile):
    with pytest.raises(ValueError, match="is not array"):
        Port("frame", profile)


@pytest.mark.parametrize(
    ("port", "inputs"),
    [("out", ("in", "ref")), ("boxes", ()), ("own", ()), ("ref", ("ref",))],
)
def test_a_port_may_forward_what_it_says_or_all_that_can_carry_arrays(port, inputs):
    # The plan keeps memory for exactly these; anything else is copied.
    assert forwarded_inputs(Blur, port) == inputs


def test_a_number_of_a_class_may_stand_in_its_config():
    assert number_of(Blur, "retention", {"keep": 7}) == 7
    assert number_of(Blur, "batch_max", {}) == 3
    assert number_of(Node, "retention", {}) == 0


@pytest.mark.parametrize(("kind", "role"), [(Source, "source"), (Sink, "sink"), (Node, "node")])
def test_the_role_of_a_class_follows_from_its_base(kind, role):
    assert role_of(type("X", (kind,), {})) == role


def test_a_node_without_process_says_so_by_name():
    with pytest.raises(NotImplementedError, match="Blur has no process"):
        Blur().process(StreamPacket.new(kind="x", source_id="x"))
    with pytest.raises(NotImplementedError, match="X has no run"):
        type("X", (Source,), {})().run()


def test_a_node_that_takes_batches_must_say_what_it_does_with_them():
    with pytest.raises(NotImplementedError, match="Blur has batch_max but no process_batch"):
        Blur().process_batch([StreamPacket.new(kind="x", source_id="x")])


def test_an_attached_node_has_its_id_its_config_and_what_runs_it():
    runtime, node, config = Runtime(), type("X", (Source,), {})(), {"a": 1}
    attach(node, "camera", config, runtime)
    config["a"] = 2
    assert (node.id, node.config, node.resume_position, node.stopping) == ("camera", {"a": 1}, 41, False)
    assert node.loan("out", (2, 3)) == "the loan"
    assert runtime.calls[0][:2] == ("out", (2, 3))
    assert (node.wait_until(9), node.wait_until(10)) == (True, False)
    assert node.flush() is node.setup() is node.close() is None
