"""docs/spec.md says what the code does: its examples load, and its tables name every key, policy and bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streamcore import limits
from streamcore.graph.model import NodePlan, RestartPlan
from streamcore.spec import job, rules
from streamcore.spec.loading import parse
from streamcore.spec.model import COMPLETIONS, GIVE_UPS, ON_EXCEED, POLICIES, RESTARTS

TEXT = (Path(__file__).resolve().parents[3] / "docs/spec.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def keys_of(table: str) -> set[str]:
    """The first column of the table that begins with this heading."""
    rows = TEXT.split(f"| {table} |")[1].split("\n\n")[0].splitlines()[2:]
    return {match.group(1) for row in rows if (match := re.match(r"\| `(\w+)` \|", row))}


def test_the_tables_name_exactly_the_keys_that_are_accepted():
    assert keys_of("top level") == set(rules.TOP)
    assert keys_of("node") == set(rules.NODE)
    assert keys_of("include") == set(rules.INCLUDE)
    assert keys_of("edge") == set(rules.EDGE)
    assert keys_of("policy") == set(POLICIES)
    assert keys_of("job") == set(job.JOB_KEYS)
    beside = TEXT.split("Beside `job` there may be")[1].split(". The node")[0]
    assert all(f"`{key}`" in beside for key in job.KEYS if key not in ("version", "job"))
    ring = next(row for row in TEXT.splitlines() if row.startswith("| `ring`"))
    assert all(f"`{key}`" in ring for key in rules.RING)
    assert all(f"`{word}`" in TEXT for word in COMPLETIONS)
    assert keys_of("restart") == set(rules.RESTART)
    assert all(f"`{word}`" in TEXT for word in (*RESTARTS, *GIVE_UPS, *ON_EXCEED))
    node_limits = next(row for row in TEXT.splitlines() if row.startswith("| `limits` | none | `rss`"))
    assert all(f"`{key}`" in node_limits for key in rules.NODE_LIMITS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_example_loads(block, tmp_path, monkeypatch):
    nodes = "" if "nodes:" in block else "nodes: [{id: a, plugin: b.c}]\n"
    whole = block if "version:" in block else f"version: 2\n{nodes}{block}"
    monkeypatch.setenv("CAMERA_PASSWORD", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token.txt").write_text("t")
    (tmp_path / "camera.yaml").write_text(next(block for block in BLOCKS if "# camera.yaml" in block))
    sets = {name: value for name, value in {"url": "x", "cameras": "2"}.items() if f"{name}: {{required: true" in block}
    _, problems = parse(whole.encode(), "spec.yaml", sets)
    assert problems == []


def test_the_example_of_a_problem_is_what_is_printed():
    shown = re.search(r"```\n(two_cams[^`]*)\n1 problem in ", TEXT)
    assert shown
    lines = [*["# filler"] * 15, "version: 2", "nodes: [{id: a, plugin: b.c}]", "edges:", "  - from: a", "    to: b"]
    lines += ["  - {from: a, to: b,", "     policy: drop_oldset}"]
    _, (problem,) = parse("\n".join(lines).encode(), "two_cams.yaml")
    found = str(problem).splitlines()
    assert shown.group(1).splitlines()[1:] == found[1:]
    assert (problem.line, problem.column) == (22, 14)


def test_bounds_and_defaults_are_those_of_the_code():
    assert f"nodes, 1 to {limits.NODES_MAX} |" in TEXT
    assert f"{limits.DEPTH_FRAMES} on ports that can carry arrays, else {limits.DEPTH_SMALL}" in TEXT
    assert f"at the consumer, 1 to {limits.DEPTH_MAX} |" in TEXT
    assert f"more than {limits.EDGES_PER_PORT_MAX} edges" in TEXT
    assert f"the {limits.IPC_PATH_BYTES_MAX} bytes" in TEXT
    assert f"than {limits.SPEC_NESTING_MAX} levels, more than {limits.SPEC_EVENTS_MAX:,} values" in TEXT
    assert f"| `startup_s` | {limits.STARTUP_S:g} |" in TEXT
    assert f"| `drain_s` | {limits.DRAIN_S:g} |" in TEXT
    node, restart = NodePlan("a", "p", "t", "node", {}, {}, (), (), ()), RestartPlan()
    for name in ("progress_s", "heartbeat_s", "poison_limit"):
        assert f"| `{name}` | {getattr(node, name):g} |" in TEXT
    assert f"| `on_error` | `{node.on_error}` |" in TEXT
    assert f"| `restart` | `{restart.policy}` |" in TEXT
    for name in ("max_restarts", "window_s", "backoff_s", "backoff_max_s"):
        assert f"| `{name}` | {getattr(restart, name):g} |" in TEXT
    assert f"| `on_give_up` | `{restart.on_give_up}` |" in TEXT
    assert f"`{node.on_exceed}` (default)" in TEXT
    assert limits.ID_PATTERN in TEXT


def test_both_versions_are_described():
    assert yaml.safe_load(BLOCKS[0])["version"] == rules.VERSION
    assert {int(found[1]) for block in BLOCKS if (found := re.search(r"^version: (\d)", block, re.M))} == {rules.VERSION, job.VERSION}
