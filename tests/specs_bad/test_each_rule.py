"""Every rule has bad specs of its own: each key of the rules, each place in the sources that reports, each thing a plugin can do wrong.

What there is to break is read from the sources, so that a rule cannot be added without specs that break it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from bad_specs import HERE, NAMES, reporters, told

import streamcore
from streamcore.spec import rules

LEAST = 3  # files in which a rule is broken
ROOT = Path(streamcore.__file__).parent
MODULES = [
    *("spec/reader.py", "spec/interpolate.py", "spec/expand.py", "spec/freeze.py", "spec/job.py", "spec/loading.py"),
    *("graph/wiring.py", "graph/validate.py", "graph/plan.py", "graph/named_code.py", "graph/check.py", "plugins/policy.py"),
    "plugins/naming.py",
]
REPORTERS = {"add", "add_at", "add_problem", "add_problem_at", "refuse", "_report", "Problem", "PluginRefused"}
FEWER = {  # what a call says, to in how many files and why not in more
    "more than {limits.SPEC_BYTES_MAX} bytes": (0, "a file of a megabyte: see test_bombs.py"),
    "a readable spec file": (0, "no file: see test_load.py"),
    "text that YAML cannot hold": (0, "only the parser in Python lets it pass: see test_reader.py"),
    "half of a surrogate pair": (0, "only the parser in Python lets it pass: see test_reader.py"),
    "SPEC_EVENTS_MAX} values": (0, "a file of a megabyte: see test_bombs.py"),
    "different files": (0, "257 files: see test_expand.py"),
    "edges in all": (1, "takes a second"),
    "{len(made.nodes)} nodes": (1, "takes a second"),
    "show(spec.policy)": (0, "only in a graph that Python has built: see test_validate.py"),
    "show(spec.completion)": (0, "only in a graph that Python has built: see test_validate.py"),
    "show(spec.depth)": (0, "only in a graph that Python has built: see test_validate.py"),
    "CPUs that this box has": (0, "depends on the box, and asked by plan and up alone: see test_check.py"),
    "IPC_PATH_BYTES_MAX": (0, "depends on where a run lies: see test_plan.py"),
    "registered by several packages": (0, "needs two packages that disagree: see test_policy.py"),
}


def sites() -> dict[tuple[str, int], tuple[int, str]]:
    """(module, first line) of every call that reports a problem, to its last line and its text."""
    found = {}
    for module in MODULES:
        source = (ROOT / module).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            reports = len(node.args) > 1 or any(isinstance(arg, ast.Starred) for arg in node.args)
            if name in REPORTERS and reports:
                found[module, node.lineno] = (node.end_lineno or node.lineno, ast.get_source_segment(source, node) or "")
    return found


@pytest.fixture
def reached(monkeypatch, importable) -> dict[tuple[str, int], set[str]]:
    """Every reporting call to the specs that made it report."""
    monkeypatch.chdir(HERE)
    importable(HERE)
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    spans = {
        (str(ROOT / module), line): (module, first) for (module, first), (last, _) in sites().items() for line in range(first, last + 1)
    }
    for name in NAMES:
        for place in spans.keys() & reporters(name):
            found[spans[place]].add(name)
    return found


def test_each_place_that_reports_is_reached_by_specs_of_the_corpus(reached):
    missing = []
    for (module, line), (_, text) in sites().items():
        count = len(reached[module, line])
        if count < next((least for said, (least, _) in FEWER.items() if said in text), LEAST):
            missing.append(f"{module}:{line}: {count} ({', '.join(sorted(reached[module, line]))})  {' '.join(text.split())[:110]}")
    assert not missing, "\n".join(missing)


def _paths(schema: Any, prefix: str) -> list[str]:
    found = []
    for key, rule in schema.items():
        path = f"{prefix}.{key}".lstrip(".")
        found.append(path)
        inner = rule.get("schema")
        if isinstance(inner, dict) and inner and all(isinstance(value, dict) for value in inner.values()):
            found += _paths(inner, path)
        elif isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
            found += _paths(inner["schema"], f"{path}[]")
        if "valuesrules" in rule and "schema" in rule["valuesrules"]:
            found += _paths(rule["valuesrules"]["schema"], f"{path}.*")
    return found


def test_each_key_is_wrong_in_specs_of_the_corpus(monkeypatch, importable):
    monkeypatch.chdir(HERE)
    importable(HERE)
    where: dict[str, set[str]] = defaultdict(set)
    for name in NAMES:
        for problem in told(name).problems:
            path = re.sub(r"\[\d+\]", "[]", problem.path)
            path = re.sub(r"^(?:nodes\[\]\.include\.)+", "", path)
            path = re.sub(r"(ports\.(?:inputs|outputs))\.[\w-]+", r"\1.*", path)
            for key in {path, re.sub(r"(env|config|params|with|for_each|cpu_affinity)\b.*", r"\1", path), re.sub(r"\[\]$", "", path)}:
                where[key].add(name)
    keys = [*_paths(rules.TOP, ""), "nodes[].with"]
    missing = [f"{key}: {len(where[key])} ({', '.join(sorted(where[key]))})" for key in keys if len(where[key]) < LEAST]
    assert not missing, "\n".join(missing)
