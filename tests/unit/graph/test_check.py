"""From a file to a plan in one call."""

from __future__ import annotations

import pytest

from streamcore import limits
from streamcore.errors import SpecError
from streamcore.graph.check import check_structure, prepare

GOOD = """\
version: 2
name: door
params: {video: a.mp4}
nodes:
  - {id: cam, plugin: "graph_plugins:Camera", config: {path: "${video}"}}
  - {id: out, plugin: "graph_plugins:Out"}
edges:
  - {from: cam, to: out}
"""


@pytest.fixture
def spec(tmp_path):
    def write(text: str):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        return path

    return write


def paths(*args, **more):
    with pytest.raises(SpecError) as caught:
        prepare(*args, **more)
    return [(problem.file.rpartition("/")[2], problem.path) for problem in caught.value.problems]


def test_a_file_becomes_a_plan(spec, tmp_path):
    plan = prepare(spec(GOOD), {"video": "b.mp4"}, ["graph_plugins"], run="night", run_root=tmp_path)
    assert (plan.run, plan.graph) == ("night", "door")
    assert plan.node("cam").config["path"] == "b.mp4"
    assert prepare(spec("allow: [graph_plugins]\n" + GOOD)).run == "door"


def test_without_leave_nothing_of_a_package_is_imported(spec):
    import sys

    sys.modules.pop("graph_plugins", None)
    assert paths(spec(GOOD)) == [("a.yaml", "nodes[0].plugin"), ("a.yaml", "nodes[1].plugin")]
    assert "graph_plugins" not in sys.modules


def test_the_problems_of_all_stages_come_together_in_the_order_of_the_file(spec):
    text = GOOD.replace("name: door", "name: Door").replace("cam, to: out}", "cma, to: out, polcy: x}").replace(":Out", ":Otu")
    assert paths(spec(text), {"vido": "x"}, ["graph_plugins", "a b"], run="N") == [
        ("--allow", "a b"),
        ("--name", "name"),
        ("--set", "vido"),
        ("a.yaml", "name"),
        ("a.yaml", "nodes[1].plugin"),
        ("a.yaml", "edges[0].from"),
        ("a.yaml", "edges[0].polcy"),
    ]


def test_a_later_stage_does_not_repeat_what_an_earlier_one_reported(spec):
    text = GOOD.replace('"${video}"', '"${vido}"').replace("to: out}", "to: out, depth: 0}")
    assert paths(spec(text), {}, ["graph_plugins"]) == [("a.yaml", "nodes[0].config.path"), ("a.yaml", "edges[0].depth")]


def test_nothing_is_concluded_from_entries_that_were_left_out(spec):
    # The node without an id may be the one that the edge means.
    text = GOOD.replace("{id: out, ", "{")
    assert paths(spec(text), {}, ["graph_plugins"]) == [("a.yaml", "nodes[1].id")]
    text = GOOD.replace("{from: cam, to: out}", "{from: cam}")
    assert paths(spec(text), {}, ["graph_plugins"]) == [("a.yaml", "edges[0].to")]


def test_more_nodes_than_a_box_can_run_are_refused_before_their_plugins_are_loaded(spec):
    import sys

    sys.modules.pop("graph_plugins", None)
    nodes = "".join(f'  - {{id: n{i}, plugin: "graph_plugins:Out"}}\n' for i in range(limits.NODES_MAX + 1))
    assert paths(spec(f"version: 2\nnodes:\n{nodes}"), {}, ["graph_plugins"]) == [("a.yaml", "nodes")]
    assert "graph_plugins" not in sys.modules


def test_the_length_of_socket_paths_is_checked_with_the_run_directory(spec, tmp_path):
    assert paths(spec(GOOD), {}, ["graph_plugins"], run_root=tmp_path / ("r" * 100)) == [("a.yaml", "nodes[0].id")]


def test_leave_may_come_from_the_environment(spec, monkeypatch):
    monkeypatch.setenv("STREAMCORE_PLUGINS", "other:graph_plugins")
    assert prepare(spec(GOOD)).run == "door"
    monkeypatch.setenv("STREAMCORE_PLUGINS", "graph_plugins:*")
    assert paths(spec(GOOD)) == [("$STREAMCORE_PLUGINS", "*")]


def test_the_machines_policy_comes_before_leave_of_any_kind(spec, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("allow: [other]\n")
    refused = [("a.yaml", "nodes[0].plugin"), ("a.yaml", "nodes[1].plugin")]
    assert paths(spec("allow: [graph_plugins]\n" + GOOD), {}, ["graph_plugins"], policy_file=str(policy)) == refused
    policy.write_text("allow: [graph_plugins]\n")
    assert prepare(spec(GOOD), policy_file=str(policy)).run == "door"


def test_a_policy_that_is_wrong_lets_nothing_load_and_hides_no_problem_of_structure(spec, tmp_path, monkeypatch):
    monkeypatch.setattr("streamcore.graph.check.find", lambda *args: pytest.fail("a plugin was looked for"))
    policy = tmp_path / "policy.yaml"
    policy.write_text("denny: [other]\n")
    text = GOOD.replace("to: out}", "to: nobody}")
    assert paths(spec(text), {}, ["graph_plugins"], policy_file=str(policy)) == [("policy.yaml", "denny"), ("a.yaml", "edges[0].to")]


def test_the_structure_is_checked_without_any_plugin(spec):
    text = GOOD.replace("graph_plugins:", "not_there:")
    assert len(check_structure(spec(text)).nodes) == 2
    lonely = text.replace("edges:\n  - {from: cam, to: out}\n", "edges: []\n")
    with pytest.raises(SpecError) as caught:
        check_structure(spec(lonely))
    assert [problem.found for problem in caught.value.problems] == ["'cam' without any edge", "'out' without any edge"]


def test_a_cpu_that_this_box_lacks_is_a_problem_where_the_box_is_known(spec):
    path = spec(GOOD.replace('id: out, plugin: "graph_plugins:Out"', 'id: out, plugin: "graph_plugins:Out", cpu_affinity: "0-2,7"'))
    prepare(path, allow=["graph_plugins"])  # as it is checked for another box
    prepare(path, allow=["graph_plugins"], cpus=range(8))
    with pytest.raises(SpecError) as caught:
        prepare(path, allow=["graph_plugins"], cpus={0, 1, 4})
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (6, "nodes[1].cpu_affinity")
    assert (problem.found, problem.expected) == ("CPU 2,7", "CPUs that this box has: 0-1,4")
