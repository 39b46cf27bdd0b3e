"""Every value as it takes effect, and where it comes from: a place, a param, an item, the environment, a default, the plan."""

from __future__ import annotations

import pytest

from streamcore.graph.check import examine
from streamcore.graph.explain import explain, matching
from streamcore.graph.plan import plan_graph

SPEC = """\
version: 2
name: told
params: {width: 64, token: !secret env:SC_TOKEN}
nodes:
  - id: cam
    for_each: {front: 10, rear: 5}
    plugin: synthetic.frames
    config: {width: "${width}", height: "${env:SC_HEIGHT:-48}", rate: "${each}"}
    restart: always
    ring: {slots: 99}
  - {id: sink, plugin: debug.null, env: {TOKEN: "x-${token}"}, drain_s: 3}
edges:
  - {from: cam.*, to: sink, policy: latest}
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.setenv("SC_TOKEN", "geheim-4711")
    monkeypatch.delenv("SC_HEIGHT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "told.yaml").write_text(SPEC)

    def rows(sets=None):
        graph = examine("told.yaml", sets or {})
        return {row.path: row for row in explain(graph, plan_graph(graph, None, None), sets or {})}

    return rows


def origin(row):
    return (row.value, row.origin.kind, row.origin.line, row.origin.written, row.origin.by)


def test_each_value_has_its_origin(told):
    rows = told()
    base = "nodes.cam.rear"
    assert origin(rows[f"{base}.config.width"]) == (64, "file", 8, "${width}", "param width, line 3")
    assert origin(rows[f"{base}.config.height"]) == (48, "file", 8, "${env:SC_HEIGHT:-48}", "environment variable SC_HEIGHT")
    assert origin(rows[f"{base}.config.rate"]) == (5, "file", 8, "${each}", "item of for_each")
    assert origin(rows[f"{base}.config.channels"]) == (3, "default", 0, "", "synthetic.frames")
    assert origin(rows[f"{base}.restart.policy"]) == ("always", "file", 9, "", "")
    assert origin(rows[f"{base}.restart.window_s"]) == (60.0, "default", 0, "", "")
    assert origin(rows[f"{base}.ring.out.slots"]) == (99, "file", 10, "", "")
    assert origin(rows[f"{base}.drain_s"]) == (10.0, "default", 0, "", "the run")
    assert origin(rows["nodes.sink.drain_s"]) == (3.0, "file", 11, "", "")
    assert origin(rows["edges.cam.front.out->sink.in.policy"]) == ("latest", "file", 13, "", "")
    assert origin(rows["edges.cam.front.out->sink.in.depth"])[:2] == (1, "planned")


def test_what_was_set_is_said_and_secrets_are_not(told):
    rows = told({"width": "32"})
    assert origin(rows["params.width"])[0::4] == (32, "--set width")
    assert origin(rows["nodes.cam.front.config.width"])[0::4] == (32, "--set width")
    assert (rows["params.token"].value, rows["nodes.sink.env.TOKEN"].value) == ("***", "***")
    assert "geheim" not in repr(rows)


def test_a_path_selects_what_is_at_it_and_below(told):
    rows = list(told().values())
    assert {row.path for row in matching(rows, "nodes.sink.env")} == {"nodes.sink.env.TOKEN"}
    assert [row.path for row in matching(rows, "name")] == ["name"]
    assert matching(rows, "nodes.sin") == []
