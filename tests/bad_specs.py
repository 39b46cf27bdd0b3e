"""The bad specs in specs_bad/ and what a user is told of each. `told` reads a spec once per session, however many tests ask.

A spec whose first line reads `# with: WORD ...` is checked as `streamctl validate WORD ...` would: `NAME=VALUE` sets an environment
variable, `--set NAME=VALUE`, `--allow PACKAGE`, `--name RUN` and `--include-from DIR` are options, `--policy FILE` takes the place of the
machine's policy. Graphs that they include lie in parts/, policies in policies/.
"""

from __future__ import annotations

import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamcore import errors
from streamcore.errors import SpecError
from streamcore.graph.check import prepare
from streamcore.plugins import naming

HERE = Path(__file__).parent / "specs_bad"
NAMES = sorted(path.name for path in HERE.glob("*.yaml"))
_WITH = b"# with: "


def options_of(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(arguments of prepare, environment) of the first line of a spec."""
    first = (HERE / name).read_bytes().partition(b"\n")[0]
    words = iter(shlex.split(first.removeprefix(_WITH).decode()) if first.startswith(_WITH) else [])
    sets: dict[str, str] = {}
    given: dict[str, Any] = {"sets": sets, "allow": [], "folders": []}
    environment: dict[str, str] = {}
    for word in words:
        if word == "--set":
            key, _, value = next(words).partition("=")
            sets[key] = value
        elif word in ("--allow", "--include-from"):
            given[{"--allow": "allow", "--include-from": "folders"}[word]].append(next(words))
        elif word in ("--name", "--policy"):
            given[{"--name": "run", "--policy": "policy_file"}[word]] = next(words)
        else:
            key, _, value = word.partition("=")
            environment[key] = value
    return given, environment


Site = tuple[str, int]  # a source file and a line in it


def _note_sites(cls: type, patch: pytest.MonkeyPatch, sites: set[Site]) -> None:
    """From now on every place that an instance is made from, and all their callers, join `sites`."""
    original = cls.__init__

    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            sites.add((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back  # type: ignore[assignment]
        original(self, *args, **kwargs)

    patch.setattr(cls, "__init__", recorded)


@cache
def _asked(name: str) -> tuple[SpecError, frozenset[Site]]:
    given, environment = options_of(name)
    sites: set[Site] = set()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        _note_sites(errors.Problem, patch, sites)
        _note_sites(naming.PluginRefused, patch, sites)
        with pytest.raises(SpecError) as caught:
            prepare(name, **given)
    return caught.value, frozenset(sites)


def told(name: str) -> SpecError:
    """Called in HERE, with HERE importable."""
    return _asked(name)[0]


def reporters(name: str) -> frozenset[Site]:
    """Where in the sources the problems of this spec were reported from, with all that called there; called as `told` is."""
    return _asked(name)[1]
