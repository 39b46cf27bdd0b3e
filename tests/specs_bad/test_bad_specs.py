"""Every file NAME.yaml beside this one is wrong in some way; NAME.expected is exactly what a user is told.

To write the expected files anew after a change of words, run with UPDATE_EXPECTED=1 and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bad_specs import HERE, NAMES, told

SECRETS = "hunter2"  # every secret in this corpus holds it


@pytest.fixture(autouse=True)
def _in_this_directory(monkeypatch, importable):
    monkeypatch.chdir(HERE)
    importable(HERE)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_spec_is_refused_with_exactly_this_text(name):
    text, golden = f"{told(name)}\n", (HERE / name).with_suffix(".expected")
    if os.environ.get("UPDATE_EXPECTED"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert SECRETS not in text


def test_the_corpus_is_complete():
    # A golden file without its spec would be a rule that nobody checks any more.
    assert {path.stem for path in HERE.glob("*.expected")} == {Path(name).stem for name in NAMES}
    assert len(NAMES) >= 170


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_names_its_place_and_what_was_expected(name):
    for problem in told(name).problems:
        # Of an included file, of a policy, or of an option, which has no lines.
        assert problem.file == name or os.path.isfile(HERE / problem.file) or problem.file.startswith(("--", "$")) or not problem.line
        assert problem.line >= 1 or problem.path in ("spec", "policy") or problem.file.startswith(("--", "$"))
        assert problem.found
        assert problem.expected
        assert "\n" not in problem.found + problem.expected + problem.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_place_is_reported_once(name):
    # A second sentence on one value follows from the first.
    places = [(problem.file, problem.line, problem.column, problem.path) for problem in told(name).problems if problem.line]
    assert len(set(places)) == len(places) or name in TWICE


TWICE = {"include_with_missing.yaml", "environment_missing_in_text.yaml"}  # several are missing at one place, and each is named
