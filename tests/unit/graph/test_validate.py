"""Rules that a graph must keep, on specs built in Python; tests/specs_bad has the texts that users see."""

from __future__ import annotations

import msgspec
import pytest

from streamcore import limits
from streamcore.errors import PluginError
from streamcore.graph.validate import validate
from streamcore.plugins.configs import Checked
from streamcore.spec.model import EdgeSpec, NodeSpec, RingSpec, Spec
from streamcore.spec.schema import Finding


def spec(nodes: str, *edges: EdgeSpec | str) -> Spec:
    """spec("cam:Camera out:Out", "cam->out")"""
    parts = [node.partition(":") for node in nodes.split()]
    made = [edge if isinstance(edge, EdgeSpec) else EdgeSpec(*edge.split("->")) for edge in edges]
    return Spec("a.yaml", "a", tuple(NodeSpec(name, plugin) for name, _, plugin in parts), tuple(made))


@pytest.fixture
def problems(manifests):
    def run(given: Spec, checked=None, **more):
        return [(problem.path, problem.found) for problem in validate(given, {**manifests, **more}, checked or {})]

    return run


def test_a_good_graph_has_no_problem(problems):
    good = spec("cam:Camera det:Detect file:JsonOut view:Out", "cam->det", "det.detections->file", "det.frames->view", "cam->view")
    assert problems(good) == []


def test_one_source_alone_is_a_graph(problems):
    assert problems(spec("cam:Camera")) == []


def test_a_node_whose_outputs_go_nowhere_is_allowed(problems):
    assert problems(spec("cam:Camera fwd:Forward", "cam->fwd")) == []


def test_a_node_without_any_edge_is_not(problems):
    assert problems(spec("cam:Camera out:Out spare:Camera", "cam->out")) == [("nodes[2]", "'spare' without any edge")]


def test_fan_in_to_one_port_is_fine(problems):
    assert problems(spec("a:Camera b:Camera out:Out", "a->out", "b->out")) == []


@pytest.mark.parametrize(
    ("producer", "consumer", "fits"),
    [
        ("Camera", "Out", True),
        ("Camera", "Anything", True),
        ("Anything", "Forward", True),  # found out packet by packet
        ("Numbers", "JsonOut", True),
        ("Numbers", "Forward", False),
        ("Camera", "JsonOut", False),
    ],
)
def test_kinds_and_payloads_fit_or_both_ends_are_named(problems, producer, consumer, fits):
    nodes = f"a:{producer} b:{consumer}" + (" z:Camera" if producer == "Anything" else "")
    found = problems(spec(nodes, "a->b", *(["z->a"] if producer == "Anything" else [])))
    assert (found == []) == fits
    if not fits:
        assert found[0][0] == "edges[0]"
        assert "a.out gives kind" in found[0][1]


def test_optional_inputs_need_no_edge_required_ones_do(problems):
    assert problems(spec("s:Stereo p:Pair", "s.left->p.left", "s.right->p.right")) == []
    assert problems(spec("s:Stereo p:Pair", "s.left->p.left")) == [("nodes[1]", "no edge to p.right")]


def test_what_may_follow_from_another_problem_is_not_reported(problems):
    assert [path for path, _ in problems(spec("s:Stereo p:Pair", "s.left->p.left", "s.right->p.rigth"))] == ["edges[1].to"]
    assert [path for path, _ in problems(spec("s:Stereo p:Pair", "s.left->p.left", "s.right->q.right"))] == ["edges[1].to"]


def test_a_plugin_that_cannot_be_loaded_hides_only_what_depends_on_its_ports(problems):
    given = spec("cam:Gone det:Detect out:Out spare:Camera", "cam.x->det", "det.frmes->out")
    found = problems(given, Gone=PluginError("it is gone"))
    assert [path for path, _ in found] == ["nodes[0].plugin", "edges[1].from", "nodes[3]"]


def test_every_cycle_is_named_as_a_path(problems):
    given = spec("a:Forward b:Forward c:Forward", "a->b", "b->c", "c->a", "c->c")
    assert problems(given) == [("edges[2]", "the cycle a -> b -> c -> a"), ("edges[3]", "the cycle c -> c")]
    assert problems(spec("a:Forward b:Forward", "a->b", "b->a")) == [("edges[1]", "the cycle a -> b -> a")]


def test_a_cycle_is_seen_beside_a_plugin_that_is_missing_but_not_through_it(problems):
    # Nobody knows whether a cycle may pass through it.
    assert problems(spec("a:Gone b:Forward", "a->b", "b->a")) == [("nodes[0].plugin", "'Gone'")]
    found = problems(spec("a:Gone b:Forward c:Forward", "a->b", "b->c", "c->b"))
    assert ("edges[2]", "the cycle b -> c -> b") in found


@pytest.mark.parametrize(
    ("edge", "path"),
    [
        (EdgeSpec("cam", "out", policy="lates"), "policy"),
        (EdgeSpec("cam", "out", completion="never"), "completion"),
        (EdgeSpec("cam", "out", depth=0), "depth"),
        (EdgeSpec("cam", "out", depth=limits.DEPTH_MAX + 1), "depth"),
        (EdgeSpec("cam", "out", policy="latest", depth=2), "depth"),
        (EdgeSpec("cam", "out", policy="sample"), "rate"),
        (EdgeSpec("cam", "out", policy="block", rate=5.0), "rate"),
    ],
)
def test_a_policy_and_its_numbers_must_go_together(problems, edge, path):
    assert [found for found, _ in problems(spec("cam:Camera out:Out", edge))] == [f"edges[0].{path}"]


@pytest.mark.parametrize(
    "edge", [EdgeSpec("cam", "out", "latest", 1), EdgeSpec("cam", "out", "latest"), EdgeSpec("cam", "out", "sample", 4, 2.5)]
)
def test_policies_with_their_numbers_are_fine(problems, edge):
    assert problems(spec("cam:Camera out:Out", edge)) == []


@pytest.mark.parametrize("bad", ["Cam", "1cam", "cam\n", "", "a.", "a.B", "a b", "../a", "a" * 33, "\u0430", "-a"])
def test_ids_are_matched_as_a_whole(problems, bad):
    given = Spec("a.yaml", "a", (NodeSpec(bad, "Camera"),), ())
    assert [path for path, _ in problems(given)] == ["nodes[0].id"]


def test_the_same_edge_twice_is_found_also_when_one_names_its_ports(problems):
    assert problems(spec("cam:Camera out:Out", "cam->out", "cam.out->out.in"))[0][0] == "edges[1]"


def test_a_port_has_as_many_edges_as_its_mask_has_bits(problems):
    outs = [f"o{i}" for i in range(limits.EDGES_PER_PORT_MAX + 1)]
    nodes = "cam:Camera " + " ".join(f"{name}:Out" for name in outs)
    assert problems(spec(nodes, *(f"cam->{name}" for name in outs[:-1]))) == [(f"nodes[{len(outs)}]", f"no edge to {outs[-1]}.in")]
    found = problems(spec(nodes, *(f"cam->{name}" for name in outs)))
    assert [path for path, _ in found] == [f"edges[{limits.EDGES_PER_PORT_MAX}].from"]


def test_config_is_checked_by_the_plugins_schema(problems):
    given = Spec("a.yaml", "a", (NodeSpec("cam", "Camera", {"path": 5, "bufer": 1, "buffer": "1MB"}),), ())
    assert {path for path, _ in problems(given)} == {"nodes[0].config.path", "nodes[0].config.bufer", "nodes[0].config.buffer"}


@pytest.mark.parametrize("config", [{"size": 0}, {"keep": -1}])
def test_numbers_that_a_config_key_holds_are_checked(problems, config):
    given = Spec("a.yaml", "a", (NodeSpec("cam", "Camera"), NodeSpec("b", "Batch", config)), (EdgeSpec("cam", "b"),))
    assert [path for path, _ in problems(given)] == [f"nodes[1].config.{next(iter(config))}"]


def test_a_config_that_json_cannot_carry_is_the_plugins_fault(problems, manifests):
    given = Spec("a.yaml", "a", (NodeSpec("cam", "Camera", {"path": 1.5j}),), ())
    loose = msgspec.structs.replace(manifests["Camera"], config={"path": {}})
    assert [path for path, _ in problems(given, Camera=loose)] == ["nodes[0].plugin"]


def test_a_config_that_needs_the_plugins_code_counts_as_that_code_has_judged_it(problems, manifests):
    coded = {"Coded": msgspec.structs.replace(manifests["Camera"], has_code=True)}
    given = Spec("a.yaml", "a", (NodeSpec("cam", "Coded", {"path": "x"}),), ())
    assert problems(given, {0: Checked({"path": "made of x"})}, **coded) == []
    assert problems(given, {0: Checked(findings=(Finding(("path",), "'x'", "y"),))}, **coded) == [("nodes[0].config.path", "'x'")]
    assert problems(given, {0: Checked(fault="a check that hangs")}, **coded) == [("nodes[0].plugin", "a check that hangs")]
    assert [path for path, _ in problems(given, **coded)] == ["nodes[0].plugin"]  # unchecked is not taken for right


def test_ring_settings_change_nothing_about_validity(problems):
    assert problems(Spec("a.yaml", "a", (NodeSpec("cam", "Camera", ring=RingSpec(slots=9)),), ())) == []


def test_a_chain_of_100_000_nodes_validates(problems):
    count = 100_000
    middle = tuple(NodeSpec(f"n{i}", "Forward") for i in range(count))
    edges = (EdgeSpec("cam", "n0"), *(EdgeSpec(f"n{i}", f"n{i + 1}") for i in range(count - 1)))
    chain = Spec("a.yaml", "a", (NodeSpec("cam", "Camera"), *middle), edges)
    # Quadratic work would take hours, and recursion would end in a RecursionError.
    assert problems(chain) == []
    closed = Spec("a.yaml", "a", (NodeSpec("cam", "Camera"), *middle), (*edges, EdgeSpec(f"n{count - 1}", "n0")))
    found = problems(closed)
    assert [path for path, _ in found] == [f"edges[{count}]"]
    assert len(found[0][1]) < 200


def test_a_graph_of_hostile_size_is_judged(problems):
    nodes = tuple(NodeSpec(f"node{i}", "Camera") for i in range(5000))
    edges = tuple(EdgeSpec(f"nodee{i}", f"nodd{i}") for i in range(5000))
    assert problems(Spec("a.yaml", "a", nodes, edges))  # comparing every name with every other would take an hour
