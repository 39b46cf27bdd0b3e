"""The JSON Schema for editors: it is current, takes every right spec, and marks what is wrong in the usual ways."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streamcore.cli.root import run
from streamcore.spec import job, rules
from streamcore.spec.json_schema import spec_schema
from streamcore.spec.problems import Problems
from streamcore.spec.reader import read_tree

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "specs/spec.schema.json"
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
DOCUMENTED = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/spec.md").read_text("utf-8"), re.DOTALL)
BAD = {  # of tests/specs_bad, and where the schema marks it
    "unknown_keys": "",
    "edge_misspelt_policy": "edges",
    "edge_numbers": "edges",
    "edge_incomplete": "edges",
    "node_without_id": "nodes",
    "node_without_plugin": "nodes",
    "nodes_missing": "",
    "nodes_as_mapping": "nodes",
    "no_nodes": "nodes",
    "node_is_text": "nodes",
    "care": "nodes",
    "sizes": "",
    "list_at_top": "",
    "version_missing": "",
    "job_both": "job",
    "job_neither": "job",
    "job_is_list": "job",
    "job_missing": "",
    "job_unknown_keys": "",
    "job_misspelt_key": "",
    "job_command_text": "job",
    "job_care": "",
}


def tree_of(text: str) -> Any:
    """As streamctl reads YAML; an editor's parser differs only in what streamctl refuses."""
    problems = Problems("spec.yaml")
    tree, _ = read_tree(text, problems)
    assert problems.listed() == []
    return json.loads(json.dumps(tree, default=str))


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_schema_beside_the_examples_is_current(capsys):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    rows = config["options.entry_points"]["streamcore.nodes"].strip().splitlines()
    plugins = [row.partition("=")[0].strip() for row in rows]
    assert run(["schema", *plugins]) == 0
    made, said = capsys.readouterr()
    assert said == ""
    assert made == SCHEMA.read_text("utf-8"), f"to renew it: streamctl schema {' '.join(plugins)} > specs/spec.schema.json"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_example_is_right(path, validator):
    assert [error.message for error in validator.iter_errors(tree_of(path.read_text("utf-8")))] == []


@pytest.mark.parametrize("text", [text for text in DOCUMENTED if "version:" in text], ids=lambda text: text[:30])
def test_every_whole_spec_of_the_documents_is_right(text, validator):
    assert [error.message for error in validator.iter_errors(tree_of(text))] == []


@pytest.mark.parametrize(("name", "where"), BAD.items(), ids=BAD)
def test_what_is_wrong_in_the_usual_ways_is_marked(name, where, validator):
    found = list(validator.iter_errors(tree_of((ROOT / f"tests/specs_bad/{name}.yaml").read_text("utf-8"))))
    assert found
    assert any("/".join(map(str, error.absolute_path)).startswith(where) for error in found)


def graph(**node):
    return {"version": 2, "nodes": [{"id": "a", "plugin": "video.file", **node}]}


def test_a_param_may_stand_for_any_value_and_for_a_whole_config(validator):
    assert validator.is_valid(graph(config="${all}"))
    assert validator.is_valid(graph(config={"path": "${video}"}, nice="${nice}", limits={"rss": "${env:RSS:-1GiB}"}))
    assert not validator.is_valid(graph(config="all"))


def test_the_config_of_a_registered_plugin_is_checked_and_that_of_others_is_not(validator):
    assert not validator.is_valid(graph(config={"path": "a.mp4", "pase": "realtime"}))
    assert not validator.is_valid(graph(config={"path": ["a.mp4"]}))
    assert not validator.is_valid(graph(config={"path": "a.mp4", "pace": "slow"}))
    assert validator.is_valid(graph(plugin="my_nodes:Camera", config={"anything": 1}))
    assert not validator.is_valid(graph(plugin="video.flie"))


def test_a_key_that_takes_any_value_takes_any_value():
    whole = Draft202012Validator(spec_schema({"my.node": {"value": {"nullable": True}, "word": {"coerce": str}}}))
    for value in (None, 1, "text", [1], {"a": 1}):
        assert whole.is_valid(graph(plugin="my.node", config={"value": value, "word": value}))


def test_each_version_has_its_own_keys(validator):
    night = {"version": 1, "job": {"command": ["true"]}}
    assert validator.is_valid({**night, "restart": "never", "progress_s": 7200, "limits": {"rss": "1GiB"}})
    assert not validator.is_valid({**night, "nodes": []})
    assert not validator.is_valid({**night, "limits": {"shm": "1GiB"}})
    assert not validator.is_valid({**night, "version": 2})
    assert not validator.is_valid({**graph(), "version": 1})
    assert not validator.is_valid({**graph(), "version": 3})
    assert not validator.is_valid({"job": night["job"]})


def test_the_keys_are_those_that_the_loader_knows():
    made = spec_schema()["$defs"]
    assert set(made["graph"]["properties"]) == set(rules.TOP)
    assert set(made["graph"]["properties"]["nodes"]["items"]["properties"]) == {*rules.NODE, "with"}
    assert set(made["job"]["properties"]) == set(job.KEYS)
    assert set(made["job"]["properties"]["job"]["properties"]) == set(job.JOB_KEYS)
