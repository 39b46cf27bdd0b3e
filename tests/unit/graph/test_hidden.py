"""Edges that bring a node with them: what becomes of them, on specs built in Python; tests/specs_bad has what users are told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from streamcore import Graph
from streamcore.errors import SpecError
from streamcore.graph.basis import Basis
from streamcore.graph.check import examine
from streamcore.graph.describe import describe
from streamcore.graph.explain import explain
from streamcore.graph.hidden import reveal
from streamcore.graph.mermaid import mermaid
from streamcore.graph.picture import picture_of
from streamcore.graph.plan import plan_graph
from streamcore.graph.revision import compare
from streamcore.graph.wiring import wire
from streamcore.manifest import Manifest
from streamcore.spec.freeze import digest_of
from streamcore.spec.loading import load, parse
from streamcore.spec.model import EdgeSpec, NodeSpec, Spec
from streamcore.spec.writing import to_yaml
from streamcore_nodes.durable_spill import DurableSpill

TEXT = """\
version: 2
name: disk
nodes:
  - {id: cam, plugin: synthetic.frames}
  - {id: slow, plugin: debug.slow}
  - {id: file, plugin: file.jsonl, config: {path: out.jsonl}}
edges:
  - {from: cam, to: slow, policy: spill, depth: 3}
  - from: slow.out
    to: file
    outbox: {codec: png, max_bytes: 8MiB}
"""


@pytest.fixture(autouse=True)
def _state(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "disk.yaml"
    path.write_text(TEXT)
    return path


def spec(*edges: EdgeSpec, nodes: str = "a b c") -> Spec:
    return Spec("a.yaml", "a", tuple(NodeSpec(name, "x.y") for name in nodes.split()), edges)


def test_a_spec_without_such_edges_is_left_as_it_is():
    plain = spec(EdgeSpec("a", "b", "latest"))
    assert reveal(plain) is plain


def test_an_edge_becomes_two_with_a_node_between_and_keeps_its_place():
    found = reveal(spec(EdgeSpec("c", "a"), EdgeSpec("a.out", "b.in", depth=5, outbox={"max_bytes": 7}, where=("edges", 8))), "night")
    hidden = found.nodes[-1]
    assert (hidden.id, hidden.plugin, hidden.hidden, hidden.where) == ("b.outbox", "durable.queue", "outbox", ("edges", 8, "outbox"))
    assert hidden.config == {"path": "/var/state/streamcore/night/a.out--b.in", "max_bytes": 7}
    assert [(edge.from_, edge.to, edge.policy, edge.depth, edge.where) for edge in found.edges] == [
        ("c", "a", "block", None, ("edges", 0)),
        ("a.out", "b.outbox.in", "block", None, ("edges", 8)),
        ("b.outbox.out", "b.in", "block", 5, ("edges", 8)),
    ]
    assert reveal(found) is found  # whoever asks twice gets no second one


def test_the_folder_is_the_runs_own_unless_a_path_is_given(monkeypatch):
    def path(run: str | None = None, **options) -> str:
        return str(reveal(spec(EdgeSpec("a", "b", "spill", spill=options)), run).nodes[-1].config["path"])

    assert (path(), path("night"), path(path="here")) == ("/var/state/streamcore/a/a--b", "/var/state/streamcore/night/a--b", "here")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # means nothing, says the XDG specification
    monkeypatch.setenv("HOME", "/home/me")
    assert path() == "/home/me/.local/state/streamcore/a/a--b"


def test_hidden_nodes_have_names_of_their_own():
    edges = [EdgeSpec("a", "b", "spill"), EdgeSpec("c", "b", "spill"), EdgeSpec("a", "c.spill", "spill"), EdgeSpec("a", "b", outbox={})]
    found = reveal(spec(*edges))
    assert [node.id for node in found.nodes[3:]] == ["b.spill", "b.spill-2", "c.spill-2", "b.outbox"]  # c.spill is a port of c
    inside = reveal(spec(EdgeSpec("gate.cam", "gate.cam.x", "spill"), nodes="gate.cam gate.cam.x"))
    assert inside.nodes[-1].id == "gate.cam.x.spill"


def test_an_edge_to_nowhere_brings_nothing():
    lost = spec(EdgeSpec("a", "nobody", outbox={}))
    found = reveal(lost)
    assert ([node.id for node in found.nodes], [edge.to for edge in found.edges]) == (["a", "b", "c"], ["nobody"])


def test_it_is_planned_as_what_passes_through_it(written):
    # As if the ends were connected directly: depth, slots and checks follow from what the producer gives.
    plan = plan_graph(examine(written), None, None)
    assert [(edge.name, edge.policy, edge.depth, edge.completion) for edge in plan.edges] == [
        ("cam.out->slow.spill.in", "block", 8, "hop"),
        ("slow.spill.out->slow.in", "block", 3, "hop"),
        ("slow.out->file.outbox.in", "block", 8, "hop"),
        ("file.outbox.out->file.in", "block", 8, "delivered"),
    ]
    assert [plan.rings[ring].port for ring in plan.node("slow").reads] == ["cam.out", "slow.spill.out"]  # forwarded, or back from the disk
    assert [(node.id, node.hidden) for node in plan.nodes[3:]] == [("slow.spill", "spill"), ("file.outbox", "outbox")]
    told = "\n".join(describe(plan))
    assert "hidden: the spill of an edge, in /var/state/streamcore/disk/cam--slow" in told
    assert "processes (5," in told


def test_both_halves_carry_what_the_producer_declares(manifests):
    # JSON gets the depth and the small slots of JSON, though the node between takes anything.
    nodes = (NodeSpec("n", "Numbers"), NodeSpec("end", "JsonOut"))
    graph = wire(Spec("a.yaml", "a", nodes, (EdgeSpec("n", "end", "spill"),)), {**manifests, "durable.spill": Manifest.of(DurableSpill)})
    plan = plan_graph(graph, None, None)
    assert [edge.depth for edge in plan.edges] == [128, 128]
    assert {ring.slot_bytes for ring in plan.rings} == {1 << 20}


def test_a_picture_shows_one_edge_with_its_word(written):
    graph = examine(written)
    drawn = mermaid(picture_of(graph, plan_graph(graph, None, None)))
    assert re.findall(r"n\d .*", drawn) == ['n0 -->|"any, spill 3"| n1', 'n1 -->|"any, outbox 8"| n2']
    assert len(re.findall(r"n\d[\[(]", drawn)) == 3


def test_every_value_has_its_place_at_the_edge(written):
    graph = examine(written)
    rows = {row.path: row for row in explain(graph, plan_graph(graph, None, None))}
    size, depth = rows["nodes.file.outbox.config.max_bytes"], rows["edges.slow.spill.out->slow.in.depth"]
    assert (size.value, size.origin.line, depth.value, depth.origin.line) == (8 << 20, 11, 3, 8)
    assert str(rows["edges.cam.out->slow.spill.in.policy"].origin) == "planned of spill"
    assert str(rows["nodes.file.outbox.config.retry_s"].origin) == "default of durable.queue"


def test_a_problem_in_its_options_is_told_at_the_edge(written):
    written.write_text(TEXT.replace("max_bytes: 8MiB", "max_byte: 8MiB"))
    with pytest.raises(SpecError) as caught:
        examine(written)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path, problem.hint) == (11, "edges[1].outbox.max_byte", "did you mean 'max_bytes'?")


def test_a_spec_is_written_as_it_was_given_and_false_is_none():
    given, _ = parse(TEXT.replace("spill, depth: 3", "spill, depth: 3, outbox: false").encode())
    again, problems = parse(to_yaml(given).encode())
    assert problems == []
    assert [replace(edge, where=()) for edge in again.edges] == [replace(edge, where=()) for edge in given.edges]
    assert (again.edges[0].outbox, again.edges[1].outbox, again.digest) == (None, {"codec": "png", "max_bytes": "8MiB"}, given.digest)
    assert "outbox: true" in to_yaml(replace(given, edges=(EdgeSpec("slow", "file", outbox={}),)))


def test_options_belong_to_the_version_of_a_graph():
    digests = {digest_of(spec(EdgeSpec("a", "b", **more))) for more in ({}, {"outbox": {}}, {"outbox": {"x": 1}}, {"spill": {}})}
    assert len(digests) == 4


def test_graphs_from_python_have_them_too():
    graph = Graph("disk")
    slow = graph.node("slow", "debug.slow")
    graph.edge(graph.node("cam", "synthetic.frames"), slow, policy="spill", spill={"max_bytes": "1GiB"})
    graph.edge(slow, graph.node("end", "debug.null"), outbox={"codec": "raw"})
    assert graph.validate() == []
    assert [node.id for node in graph.plan("night").nodes] == ["slow", "cam", "end", "slow.spill", "end.outbox"]
    assert graph.plan("night").node("slow.spill").config["path"] == "/var/state/streamcore/night/cam--slow"
    assert "outbox: {codec: raw}" in graph.to_yaml()
    assert "hidden" not in graph.to_yaml()


def test_a_reload_gives_the_hidden_node_its_new_options_and_nothing_else(written):
    def basis() -> Basis:
        graph = examine(written)
        return Basis(plan_graph(graph, None, None), graph.spec, {}, {}, {node.id: frozenset() for node in graph.spec.nodes})

    before = basis()
    written.write_text(TEXT.replace("8MiB", "9MiB"))
    assert compare(before, basis()).nodes == {"file.outbox": (f"config changed ({written}:11)",)}
    written.write_text(TEXT.replace("    outbox: {codec: png, max_bytes: 8MiB}\n", ""))
    assert any("edge slow.out->file.in is new" in line for line in compare(before, basis()).obstacles)
    assert load(written).edges[1].outbox is None
