"""A job spec becomes a graph with one node: the same rules, and every problem at the place where the user wrote it."""

from __future__ import annotations

import pytest
from boxes import SPECS
from hypothesis import given
from hypothesis import strategies as st

from streamcore.errors import SpecError
from streamcore.graph.check import prepare
from streamcore.spec import job, rules
from streamcore.spec.conversion import convert
from streamcore.spec.loading import parse, read
from streamcore.spec.model import Mark

GOOD = """\
version: 1
name: nightly
params: {day: monday, tries: 3}
allow: [my_pkg]
job:
  command: [python3, -u, work.py, --day, "${day}", 5]
  config: {depth: "${tries}"}
  env: {MODE: fast}
  cwd: work
restart: {policy: always, max_restarts: "${tries}"}
startup_s: 5
progress_s: 3600
drain_s: 30
limits: {rss: 256MiB}
"""


def parsed(text: str, **sets: str):
    found, problems = parse(text.encode(), "a.yaml", sets)
    assert problems == [], "\n".join(map(str, problems))
    return found


def test_a_job_becomes_one_node_with_all_that_the_spec_says_of_it():
    spec = parsed(GOOD, day="friday")
    (node,) = spec.nodes
    assert (spec.name, spec.edges, spec.drain_s, spec.allow) == ("nightly", (), 30.0, ("my_pkg",))
    assert (node.id, node.plugin, node.startup_s) == ("job", "job.command", 5.0)
    assert node.config["command"] == ["python3", "-u", "work.py", "--day", "friday", 5]
    assert (node.config["config"], node.config["env"], node.config["cwd"]) == ({"depth": 3}, {"MODE": "fast"}, "work")
    assert (node.care.restart.policy, node.care.restart.max_restarts, node.care.progress_s, node.care.rss) == ("always", 3, 3600.0, 2**28)


def test_an_entry_is_run_by_the_other_plugin_and_the_name_comes_from_the_file():
    spec = parsed("version: 1\njob: {entry: 'my_pkg.jobs:main'}\n")
    assert (spec.name, spec.nodes[0].plugin, spec.nodes[0].config) == ("a", "job.callable", {"entry": "my_pkg.jobs:main"})


def test_a_value_of_the_node_has_the_place_that_it_has_in_the_job():
    spec = parsed(GOOD)
    assert spec.mark("nodes[0].config.env.MODE") == Mark("a.yaml", 8, 15)
    assert spec.mark("nodes[0].restart.policy", at_key=True) == Mark("a.yaml", 10, 11)
    assert spec.mark("nodes[0].id") == spec.mark("name") == Mark("a.yaml", 2, 7)
    assert spec.mark("drain_s") == Mark("a.yaml", 13, 10)


def test_every_key_of_a_job_is_one_of_a_graph_or_of_its_node():
    assert {*job._OF_GRAPH, *job.OF_NODE, "version", "job"} == set(job.KEYS)
    assert set(job._OF_GRAPH) <= set(rules.TOP)
    assert set(job.OF_NODE) <= set(rules.NODE)


def test_a_job_may_take_as_long_as_it_takes_unless_the_spec_bounds_it(tmp_path):
    path = tmp_path / "a.yaml"
    for text, progress_s in (("", 0.0), ("progress_s: 60\n", 60.0)):
        path.write_text(f"version: 1\njob: {{command: [sh]}}\n{text}")
        assert prepare(path).nodes[0].progress_s == progress_s


def test_a_job_may_stand_beside_other_nodes(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "version: 2\nnodes:\n  - {id: job, plugin: job.command, config: {command: [sh]}}\n"
        "  - {id: a, plugin: synthetic.frames}\n  - {id: b, plugin: debug.null}\nedges: [{from: a, to: b}]\n"
    )
    assert [node.progress_s for node in prepare(path).nodes] == [0.0, 30.0, 30.0]


# --- functions that a config names


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package in a working directory of its own; importing it raises."""
    package = tmp_path / "work_pkg"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "jobs.py").write_text(
        "if __name__ == '__main__':\n    main()\ntry:\n    from fast import run\nexcept ImportError:\n    run = None\n"
    )
    (tmp_path / "spaces" / "inner" / "deep").mkdir(parents=True)
    (tmp_path / "spaces" / "inner" / "deep" / "jobs.py").write_text("def main(): pass\n")
    (package / "made.py").write_text("globals()['main'] = print\n")
    (package / "stars.py").write_text("from os.path import *\n")
    (package / "broken.py").write_text("def main(:\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(entry: str, allow: tuple[str, ...] = ("work_pkg",)) -> list[tuple[str, str]]:
    with open("a.yaml", "w") as file:
        file.write(f"version: 1\njob: {{entry: '{entry}'}}\n")
    try:
        prepare("a.yaml", allow=allow)
    except SpecError as error:
        return [(problem.path, problem.found) for problem in error.problems]
    return []


@pytest.mark.parametrize("entry", ["jobs:run", "made:main", "stars:join", "broken:main"])
def test_what_may_be_there_is_left_to_the_start(entry, project):
    assert problems_of(f"work_pkg.{entry}") == []


@pytest.mark.parametrize("entry", ["spaces.inner.deep.jobs:main", "os.path:join", "streamcore.node.start:main", "time:sleep"])
def test_modules_of_every_kind_are_found(entry, project):
    assert problems_of(entry, ("spaces", "os", "streamcore", "time")) == []


@pytest.mark.parametrize(
    ("entry", "found"),
    [("work_pkg.jobs:walk", "no 'walk' in 'work_pkg.jobs'"), ("work_pkg.jbos:run", "no module 'work_pkg.jbos'")],
)
def test_what_is_certainly_not_there_is_a_problem_and_nothing_is_imported(entry, found, project):
    assert problems_of(entry) == [("job.entry", found)]


@pytest.mark.parametrize("allow", [(), ("work",), ("work_pkg.other",)])
def test_a_function_needs_leave_as_a_class_does(allow, project):
    assert problems_of("work_pkg.jobs:run", allow) == [("job.entry", "a function of 'work_pkg.jobs'")]


# --- conversion


def converted(text: str, tmp_path) -> str:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode())
    return convert(path)


@pytest.mark.parametrize("text", [GOOD, (SPECS / "job.yaml").read_text("utf-8"), "version: 1\njob: {entry: 'a.b:c'}\n"])
@pytest.mark.parametrize("sets", [{}, {"day": "friday"}, {"count": "2"}])
def test_a_converted_job_is_the_same_graph(text, sets, tmp_path):
    sets = {name: value for name, value in sets.items() if f"{name}:" in text}
    graph = parsed(converted(text, tmp_path), **sets)
    assert graph.digest == parsed(text, **sets).digest != ""


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS.filter(lambda key: key != "<<"), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_a_config_holds_is_read_back_as_it_was(value):
    from streamcore.spec.conversion import _mapping

    text = "\n".join(_mapping({"version": 2, "nodes": [{"id": "a", "plugin": "b", "config": {"it": value}}]}, "", {}))
    assert parsed(text).nodes[0].config == {"it": value}


@pytest.mark.parametrize(("text", "found"), [("version: 2\n", "2"), ("nodes: []\n", "nothing"), ("version: 1\n", "nothing"), ("[", "")])
def test_what_is_no_job_is_not_converted(text, found, tmp_path):
    with pytest.raises(SpecError) as caught:
        converted(text, tmp_path)
    assert found in caught.value.problems[0].found


def test_what_is_wrong_with_a_value_stays_for_the_graph_to_say(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(converted("version: 1\nparams: {a: {required: true}}\njob: {command: ['${a}', '${b}']}\ndrain_s: -1\n", tmp_path))
    assert [problem.path for problem in read(path)[1]] == ["params.a", "drain_s", "nodes[0].config.command[1]"]
