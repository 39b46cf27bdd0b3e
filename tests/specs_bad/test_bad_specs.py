"""Every file NAME.yaml beside this one is wrong in some way; NAME.expected is exactly what a user is told.

To write the expected files anew after a change of words, run with UPDATE_EXPECTED=1 and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamcore.errors import SpecError
from streamcore.graph.check import prepare

HERE = Path(__file__).parent
NAMES = sorted(path.name for path in HERE.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_this_directory(monkeypatch, importable):
    monkeypatch.chdir(HERE)
    importable(HERE)


def told(name: str) -> str:
    with pytest.raises(SpecError) as caught:
        prepare(name)
    return str(caught.value) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_spec_is_refused_with_exactly_this_text(name):
    text, golden = told(name), (HERE / name).with_suffix(".expected")
    if os.environ.get("UPDATE_EXPECTED"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_the_corpus_is_complete():
    # A golden file without its spec would be a rule that nobody checks any more.
    assert {path.stem for path in HERE.glob("*.expected")} == {Path(name).stem for name in NAMES}
    assert len(NAMES) >= 60


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_names_its_place_and_what_was_expected(name):
    with pytest.raises(SpecError) as caught:
        prepare(name)
    for problem in caught.value.problems:
        assert problem.file == name
        assert problem.line >= 1 or problem.path == "spec"
        assert problem.found
        assert problem.expected
        assert "\n" not in problem.found + problem.expected + problem.hint
