"""The inner loop is compiled before it is measured, where it can be; what is in the way is one line."""

from __future__ import annotations

import pytest

from streamcore import native
from streamcore_bench import compiling
from streamcore_bench.compiling import compile_inner_loop
from streamcore_bench.environments import Environment
from streamcore_bench.programs import Failed, Stop

TOOL = """
import os, pathlib, sys
if sys.argv[1:] == ["--look"]:
    sys.exit({look})
pathlib.Path(__file__).with_name("done").write_text(os.environ["PYTHONPATH"])
print("some compiler: no room")
sys.exit({status})
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A source tree whose tool ends as `tree(look, status)` says; gives what was said and where the tool leaves its word."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "setup.cfg").write_text("[options.extras_require]\nnative =\n    # why\n    mypy>=2.4,<3\n    setuptools>=68\n")
    monkeypatch.setattr(compiling, "ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "obstacle", lambda place: "it is not there")
    made = []
    monkeypatch.setattr(Environment, "make", lambda self, stop, say: made.append(self.requirements))

    def go(look=3, status=0):
        (tmp_path / "tools" / "compile_native.py").write_text(TOOL.format(look=look, status=status))
        said: list[str] = []
        with Stop() as stop:
            compile_inner_loop(stop, said.append)
        done = tmp_path / "tools" / "done"
        return said, made, done.read_text() if done.exists() else None

    return go


def test_it_is_compiled_with_a_compiler_from_an_environment_of_its_own(tree):
    said, made, path = tree()
    assert said == ["compiling the inner loop of streamcore (about a minute)"]
    assert made[0].splitlines()[:2] == ["mypy>=2.4,<3", "setuptools>=68"] and made[0].endswith("constraints.txt\n")
    site, theirs = path.split(":")
    assert site.endswith("site-packages") and theirs == "/theirs"


def test_a_compiler_that_fails_is_said_in_one_line(tree):
    said, _, _ = tree(status=1)
    assert said[1:] == ["streamcore is measured in pure Python: some compiler: no room"]


def test_nothing_is_installed_where_nothing_can_be_compiled(tree):
    said, made, path = tree(look=2)
    assert (len(said), made, path) == (1, [], None)
    assert said[0].startswith("streamcore is measured in pure Python: ")


def test_an_environment_that_cannot_be_made_is_said(tree, monkeypatch):
    def make(self, stop, say):
        raise Failed("its environment could not be made: no network")

    monkeypatch.setattr(Environment, "make", make)
    said, _, path = tree()
    assert (said, path) == (["streamcore is measured in pure Python: its environment could not be made: no network"], None)


@pytest.mark.parametrize("asked", ["0", "1"])
def test_who_says_what_to_use_gets_that(tree, monkeypatch, asked):
    monkeypatch.setenv(native.VARIABLE, asked)
    assert tree() == ([], [], None)


def test_what_is_compiled_is_not_compiled_again(tree, monkeypatch):
    monkeypatch.setattr(native, "obstacle", lambda place: "")
    assert tree() == ([], [], None)


def test_the_tool_and_what_it_needs_are_where_they_are_looked_for():
    assert (compiling.ROOT / "tools" / "compile_native.py").is_file()
    assert "mypy" in compiling._requirements()
