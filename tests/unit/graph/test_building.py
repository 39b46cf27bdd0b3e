"""Graphs from Python: the same model, checks and words as a spec, with lines of Python as places."""

from __future__ import annotations

import enum
import inspect
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from streamcore import Graph, SecretRef
from streamcore.errors import ConfigError, SpecError
from streamcore.graph.plan import plan_graph
from streamcore.spec.loading import parse, read

HERE = __file__


def line() -> int:
    frame = inspect.currentframe()
    assert frame and frame.f_back
    return frame.f_back.f_lineno


def small(**keys) -> Graph:
    graph = Graph("small", **keys)
    source = graph.node("source", "synthetic.frames", config={"width": 64, "height": 48})
    sink = graph.node("sink", "debug.null")
    graph.edge(source["out"], sink, policy="latest")
    return graph


def test_a_graph_of_names_is_that_of_the_same_spec(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        "version: 2\nname: small\ndrain_s: 3\nnodes:\n"
        "  - {id: source, plugin: synthetic.frames, config: {width: 64, height: 48}}\n  - {id: sink, plugin: debug.null}\n"
        "edges: [{from: source.out, to: sink, policy: latest}]\n"
    )
    assert small(drain_s=3).validate() == []
    assert small(drain_s=3).plan() == Graph.from_yaml(path).plan()


def test_every_problem_is_said_at_its_line_of_python():
    graph = Graph("bad")
    graph.node("camera", "synthetic.frames", config={"widht": 3}, dept=4)
    at_node = line() - 1
    graph.node("Sink", "debug.nul")
    graph.edge("camera", "sonk", policy="newest")
    found = {(problem.file, problem.line - at_node, problem.path, problem.hint) for problem in graph.validate()}
    assert found == {
        (HERE, 0, "nodes[0].dept", ""),
        (HERE, 0, "nodes[0].config.widht", "did you mean 'width'?"),
        (HERE, 2, "nodes[1].id", ""),
        (HERE, 2, "nodes[1].plugin", "did you mean 'debug.null'?"),
        (HERE, 3, "edges[0].policy", ""),
        (HERE, 3, "edges[0].to", ""),
    }
    with pytest.raises(SpecError):
        graph.plan()


class Size(enum.Enum):
    WIDE = np.int64(64)


class Name(str, enum.Enum):
    OUT = "r.jsonl"


@pytest.mark.parametrize(
    ("config", "as_a_spec_has_it"),
    [
        ({"path": Path("a") / "b.jsonl"}, {"path": "a/b.jsonl"}),
        ({"path": Name.OUT, "held": Size.WIDE}, {"path": "r.jsonl", "held": 64}),
        ({"path": "r", "interval_s": np.float32(0.5), "held": np.uint8(3)}, {"path": "r", "interval_s": 0.5, "held": 3}),
        (MappingProxyType({"path": "r", "fields": ("kind", "ts"), "fsync": True}), {"path": "r", "fields": ["kind", "ts"], "fsync": True}),
    ],
)
def test_what_python_calls_by_other_types_is_text_numbers_and_lists(config, as_a_spec_has_it):
    graph = small(limits={"shm": "1GiB"}, allow=("a_package",))
    graph.edge("source", graph.node("file", "debug.slow"), depth=np.int16(4))
    graph.edge("file", graph.node("end", "file.jsonl", config=config, cpu_affinity=(0,)))
    spec, problems = parse(graph.to_yaml().encode())
    assert not problems
    assert spec.nodes[-1].config == as_a_spec_has_it
    assert [type(value) for value in spec.nodes[-1].config.values()] == [type(value) for value in as_a_spec_has_it.values()]


DEEP: list = []
DEEP.append(DEEP)


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        (object(), "path", "a value of the type object"),
        ({"w"}, "path", "a value of the type set"),
        (b"r.jsonl", "path", "a value of the type bytes"),
        (["kind", object()], "path[1]", "a value of the type object"),
        ({"a": {3: 4}}, "path.a", "a key 3"),
        (2**64, "path", "a larger integer"),
        (float("nan"), "path", "nan"),
        ("\ud800", "path", "text with half a surrogate pair"),
        (DEEP, "path" + "[0]" * 30, "nesting deeper than 64"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_no_spec_can_hold_is_a_problem_at_its_line(value, path, found):
    graph = small()
    graph.node("file", "file.jsonl", config={"path": value})
    first = graph.validate()[0]
    assert (first.file, first.line, first.found) == (HERE, line() - 2, found)
    assert first.path.startswith(f"nodes[2].config.{path}")


@pytest.mark.parametrize(
    ("path", "name", "keys"),
    [
        ("name", 5, {}),
        ("limits", "x", {"limits": [1]}),
        ("allow", "x", {"allow": "my_nodes"}),
        ("drain_s", Path("x"), {"drain_s": object()}),
    ],
)
def test_what_is_wrong_about_the_whole_graph_is_a_problem_like_any_other(path, name, keys):
    graph = Graph(name, **keys)
    graph.edge(graph.node("a", "synthetic.frames"), graph.node("b", "debug.null", [1]))
    graph.node("c", None)
    assert {problem.path for problem in graph.validate()} == {path, "nodes[1].config", "nodes[2].plugin"}


def test_what_only_files_have_is_said_to_be_a_loop_or_a_file():
    graph = Graph("x")
    graph.node("cam", "synthetic.frames", for_each=["a", "b"])
    graph.edge("cam", graph.node("end", "debug.null", include="sub.yaml"))
    assert {problem.path: problem.expected.partition(",")[0] for problem in graph.validate()} == {
        "nodes[0].for_each": "a loop of Python that adds the nodes",
        "nodes[1].include": "the nodes themselves",
    }


def test_checks_and_the_port_of_the_web_pages_are_written():
    spec, problems = parse(small(checks="all", http={"port": 8080}).to_yaml().encode())
    assert (problems, spec.checks, spec.http.port) == ([], "all", 8080)
    assert {problem.path for problem in small(checks="some", http="x").validate()} == {"checks", "http"}


def test_a_secret_is_given_by_where_it_is_and_its_value_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SC_TOKEN", "geheim-4711")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("geheim-4711\n")
    graph = small()
    graph.node("file", "file.jsonl", config={"path": SecretRef("file:token")}, env={"TOKEN": SecretRef("env:SC_TOKEN")}, nice="geheim-4711")
    (problem,) = (problem for problem in graph.validate() if problem.path.endswith("nice"))
    assert problem.found == "'***'"
    graph = small()
    graph.edge("source", graph.node("post", "http.post", {"url": "http://a/", "headers": {"X": SecretRef("file:token")}}))
    assert graph.validate() == []
    text = graph.to_yaml()
    assert "geheim" not in text and f'!secret "file:{tmp_path}/token"' in text
    assert parse(text.encode(), "/in/another/folder.yaml")[0].nodes[2].config["headers"]["X"].reveal() == "geheim-4711"


@pytest.mark.parametrize("text", ["env:SC_NOWHERE", "file:nowhere", "geheim-4711"])
def test_a_secret_that_is_not_there_is_a_problem_at_its_line(text):
    graph = small()
    graph.edge("source", graph.node("post", "http.post", {"url": SecretRef(text)}))
    (problem,) = graph.validate()
    assert (problem.line, problem.path) == (line() - 2, "nodes[2].config.url")


def test_a_secret_of_a_file_beside_the_spec_is_found_wherever_it_is_written_to(tmp_path):
    (tmp_path / "token").write_text("geheim-4711\n")
    path = tmp_path / "spec.yaml"
    path.write_text("version: 2\nnodes: [{id: a, plugin: debug.null, config: {}, env: {T: !secret file:token}}]\n")
    spec, problems = parse(Graph.from_yaml(path).to_yaml().encode(), "/in/another/folder.yaml")
    assert not problems and spec.nodes[0].process.env["T"].reveal() == "geheim-4711"


def test_classes_are_found_where_they_are_defined():
    import graph_plugins

    graph = Graph("classes")
    graph.edge(graph.node("a", graph_plugins.Camera), graph.node("b", graph_plugins.Out))
    assert graph.validate() == []
    assert graph.plan().nodes[0].target == "graph_plugins:Camera"
    assert "allow:\n- graph_plugins\n" in graph.to_yaml()


def test_a_class_that_nobody_can_import_is_refused():
    from streamcore import Sink

    class Local(Sink):
        inputs = {}

    graph = Graph("local")
    graph.node("a", Local)
    assert "package.module:Class" in graph.validate()[0].expected


@pytest.mark.parametrize("name", sorted(path.name for path in (Path(__file__).parents[3] / "specs").glob("*.yaml")))
def test_yaml_to_model_to_yaml_keeps_the_meaning(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3] / "specs")
    graph = Graph.from_yaml(name)
    text = graph.to_yaml()
    again, problems = parse(text.encode(), name)
    assert problems == []
    assert again is not None
    first, _ = read(name)
    assert first is not None
    assert again.digest == first.digest


def test_everything_that_a_node_and_an_edge_can_say_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SC_TOKEN", "geheim-4711")
    text = """
version: 2
name: all
params: {p: !secret env:SC_TOKEN}
limits: {shm: 1GiB}
drain_s: 4
allow: [a.b]
nodes:
  - id: a
    plugin: x.y
    config: {text: "$${literal}", n: [1, 2.5, true, null, "yes", "017"], url: "u:${p}@h-${p}", whole: "${p}"}
    startup_s: 5
    heartbeat_s: 4
    progress_s: 3
    drain_s: 2
    poison_limit: 0
    on_error: {retry: 3}
    restart: {policy: always, max_restarts: 2, window_s: 30, backoff_s: 0.5, backoff_max_s: 2, on_give_up: isolate}
    limits: {rss: 64MiB, on_exceed: warn}
    ring: {slots: 20, slot_bytes: 1MiB, meta_bytes: 4KiB}
    env: {TOKEN: "${p}", N: 3}
    cpu_affinity: 0-1
    nice: 5
  - {id: b, plugin: x.z, on_error: stop, restart: never}
edges:
  - {from: a.o, to: b.i, policy: sample, rate: 2.5, depth: 3, completion: delivered}
"""
    path = tmp_path / "all.yaml"
    path.write_text(text)
    first, problems = read(path)
    assert problems == []
    written = Graph.from_yaml(path).to_yaml()
    assert "geheim" not in written
    again, problems = parse(written.encode(), "all.yaml")
    assert problems == []
    assert (again.nodes[0].config["url"].reveal(), again.nodes[0].config["text"]) == ("u:geheim-4711@h-geheim-4711", "${literal}")
    assert [node.care for node in again.nodes] == [node.care for node in first.nodes]
    assert (again.nodes[0].ring, again.nodes[0].process, again.limits, again.drain_s) == (
        first.nodes[0].ring,
        first.nodes[0].process,
        first.limits,
        first.drain_s,
    )
    assert [vars(edge) | {"where": ()} for edge in again.edges] == [vars(edge) | {"where": ()} for edge in first.edges]


def test_a_secret_from_the_command_line_is_not_written(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text('version: 2\nparams: {p: {required: true, secret: true}}\nnodes: [{id: a, plugin: x.y, config: {k: "${p}"}}]\n')
    with pytest.raises(ConfigError, match="cannot be written"):
        Graph.from_yaml(path, {"p": "geheim-4711"}).to_yaml()


def test_nothing_is_added_to_a_graph_from_a_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("version: 2\nnodes: [{id: a, plugin: x.y}]\n")
    with pytest.raises(ConfigError, match="loaded from a file"):
        Graph.from_yaml(path).node("b", "x.y")


def test_a_chain_of_100_000_nodes_is_built_and_validated():
    graph, count = Graph("chain"), 100_000
    before = graph.node("source", "synthetic.frames", config={"width": 64, "height": 48})
    for number in range(count):
        after = graph.node(f"n{number}", "flow.forward")
        graph.edge(before, after)
        before = after
    assert graph.validate() == []
    with pytest.raises(SpecError, match="each is a process"):
        graph.plan()


def test_a_plan_of_many_nodes_names_each_ring_once():
    graph = Graph("fan")
    source = graph.node("source", "synthetic.frames", config={"width": 64, "height": 48})
    for number in range(20):
        graph.edge(source, graph.node(f"sink{number}", "debug.null"))
    plan = plan_graph(graph._wired(), None, None)
    assert len(plan.rings) == 1
