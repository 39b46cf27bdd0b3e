"""Which port of a run is meant, and what is said if none is."""

from __future__ import annotations

import pytest

from streamcore.control import ports
from streamcore.errors import ConfigError


def ring(number: int, port: str) -> dict:
    return {"id": number, "port": port, "entry_count": 4, "meta_bytes": 64, "slot_count": 3, "slot_bytes": 4096, "slot_terms": []}


def node(name: str, outputs: dict, in_edges: tuple = ()) -> dict:
    return {"id": name, "outputs": outputs, "in_edges": list(in_edges)}


def edge(start: str, end: str) -> dict:
    (from_node, from_port), (to_node, to_port) = start.rsplit(".", 1), end.rsplit(".", 1)
    return {"from_node": from_node, "from_port": from_port, "to_node": to_node, "to_port": to_port}


PLAN = {
    "nodes": [
        node("yard.camera", {"out": 0}),
        node("split", {"left": 1, "right": 2}, (0,)),
        node("sink", {}, (1, 2)),
        node("job", {}),
    ],
    "edges": [edge("yard.camera.out", "split.in"), edge("split.left", "sink.in"), edge("split.right", "sink.also")],
    "rings": [ring(0, "yard.camera.out"), ring(1, "split.left"), ring(2, "split.right")],
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("yard.camera", ("yard.camera", "out")),  # the id of a node that an include has made has a dot
        ("yard.camera.out", ("yard.camera", "out")),
        ("split.left", ("split", "left")),
        ("split.right", ("split", "right")),
    ],
)
def test_a_port_is_found_with_its_ring(wanted, found):
    port = ports.find(PLAN, wanted)
    assert (port.node, port.name) == found
    assert port.ring.port == port.full_name == ".".join(found)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("yard", "found 'yard', expected one of: yard.camera.out, split.left, split.right"),
        ("", "expected one of: yard.camera.out"),
        ("split", "several output ports, say which: split.left, split.right"),
        ("split.out", "no output port 'out', it has left, right"),
        ("split.in", "it has left, right; what reaches its input in leaves at yard.camera.out"),
        ("sink", "is a sink and has no output port; what reaches it leaves at split.left, split.right"),
        ("sink.also", "is a sink and has no output port"),
        ("job", "node 'job' is a job and gives no packets; the ports of this run: yard.camera.out, split.left, split.right"),
    ],
)
def test_a_wrong_one_is_answered_with_what_there_is(wanted, said):
    with pytest.raises(ConfigError) as caught:
        ports.find(PLAN, wanted)
    assert said in str(caught.value)


def test_a_run_of_a_job_alone_and_one_of_very_many_ports():
    with pytest.raises(ConfigError, match="this run has no other nodes that do"):
        ports.find({"nodes": [node("job", {})], "edges": [], "rings": []}, "job")
    many = {"nodes": [node(f"n{number}", {"out": 0}) for number in range(100)], "edges": [], "rings": []}
    with pytest.raises(ConfigError, match=r"n39\.out and 60 more$"):
        ports.find(many, "x")
