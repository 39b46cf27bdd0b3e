"""Load a spec: read, params, expand, check its shape, freeze. Every step adds to one list of problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.errors import Problem, SpecError
from streamcore.spec.expand import Expanded, expand, refuse_secrets
from streamcore.spec.freeze import freeze
from streamcore.spec.interpolate import Filler, resolve_params
from streamcore.spec.job import VERSION as JOB_VERSION
from streamcore.spec.job import as_graph
from streamcore.spec.model import Spec
from streamcore.spec.problems import PROBLEMS_MAX, Problems, show
from streamcore.spec.reader import Unreadable, decode, read_file, read_tree
from streamcore.spec.rules import TOP, VERSION
from streamcore.spec.schema import Checker

_checker = Checker(TOP, proven=True)
_LISTS = ("nodes", "edges")
_PLAIN: dict[str, dict[str, type]] = {"nodes": {"id": str, "plugin": str, "config": dict}, "edges": {"from": str, "to": str}}


def load(path: str | Path, sets: Mapping[str, str] = {}, folders: Sequence[str] = ()) -> Spec:
    """Load a spec file.

    Args:
      sets: the values of `--set`, as text.   folders: where included files may lie besides the folder of the spec.
    Raises:
      SpecError: with all problems that can be found without knowing the plugins.
    """
    spec, problems = read(path, sets, folders)
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def read(path: str | Path, sets: Mapping[str, str] = {}, folders: Sequence[str] = ()) -> tuple[Spec | None, list[Problem]]:
    """As `load`, but returns the problems, and with them a partial spec of what is right, so that later checks can add theirs."""
    shown = str(path).encode("utf-8", "backslashreplace").decode()  # a file name may hold bytes that are not UTF-8
    return _read(shown, str(path), sets, folders, lambda problems: read_file(path, problems))


def parse(raw: bytes, file: str = "spec.yaml", sets: Mapping[str, str] = {}) -> tuple[Spec | None, list[Problem]]:
    """As `read`, from bytes. `file` is what the problems name."""
    return _read(file, file, sets, (), lambda problems: decode(raw, problems))


def _read(
    shown: str, path: str, sets: Mapping[str, str], folders: Sequence[str], text: Callable[[Problems], str]
) -> tuple[Spec | None, list[Problem]]:
    problems = Problems(shown)
    try:
        tree, problems.places = read_tree(text(problems), problems)
        tree = _check_version(tree, problems)
    except Unreadable:
        return None, problems.listed()
    filler, folder = Filler(problems, os.environ), Path(path).parent
    params = resolve_params(tree.get("params", {}), sets, filler, folder)
    made = expand(tree, params, path, folders, filler)
    if len(made.nodes) > limits.NODES_MAX:  # to judge so many would take seconds, and to read their plugins minutes
        if not made.partial:  # else it is reported where they became too many
            problems.add(("nodes",), f"{len(made.nodes)} nodes", f"at most {limits.NODES_MAX}: each is a process", at_key=True)
        return None, problems.listed()
    normalised = _check(tree, params, made, filler, folder)
    if normalised is None:
        return None, problems.listed()
    return freeze(normalised, shown, params, made, problems), problems.listed()


def _check(tree: Mapping[str, Any], params: Mapping[str, Any], made: Expanded, filler: Filler, folder: Path) -> dict[str, Any] | None:
    """The expanded tree with what its rules convert; None if there is too much wrong to go on."""
    whole = dict(tree)
    for key, value in tree.items():
        if key not in ("version", "params") and not (key in _LISTS and isinstance(value, list)):
            whole[key] = filler.fill(value, (key,), params, folder)
    return check_tree(whole, made, filler.problems)


def check_tree(whole: Mapping[str, Any], made: Expanded, problems: Problems) -> dict[str, Any] | None:
    """A tree with the nodes and edges of `made` by the rules, and with what these convert; None if there is too much wrong to go on.

    Entries of a few keys of obvious types are right as they are: the checker takes half a millisecond for each of the others.
    """
    lists = {key: getattr(made, key) for key in _LISTS if isinstance(whole.get(key), list)}
    asked = {key: [entry for entry in entries if not _is_plain(entry.value, _PLAIN[key])] for key, entries in lists.items()}
    refuse_secrets({key: value for key, value in whole.items() if key not in lists and key != "params"}, (), problems)
    for where, value in (entry for entries in asked.values() for entry in entries):
        refuse_secrets(value, where, problems)
    normalised, findings = _checker.check({**whole, **{key: [entry.value for entry in entries] for key, entries in asked.items()}})
    for finding in findings:
        where = finding.where
        if where == ("nodes",) and (made.partial or made.nodes):
            continue  # there are some, or would be
        if len(where) > 1 and where[0] in asked and isinstance(where[1], int):
            where = (*asked[str(where[0])][where[1]].where, *where[2:])
        problems.add(where, *finding[1:])
    if len(findings) > PROBLEMS_MAX:  # some were left out, so nobody knows which values are right
        return None
    for key, entries in lists.items():
        checked = iter(normalised[key])
        normalised[key] = [entry.value if _is_plain(entry.value, _PLAIN[key]) else next(checked) for entry in entries]
    return normalised


def _is_plain(value: Any, kinds: Mapping[str, type]) -> bool:
    """A mapping of these keys and types alone, with the first two of them."""
    if not isinstance(value, dict) or len(value) < 2 or any(key not in value for key in tuple(kinds)[:2]):
        return False
    return all(type(item) is kinds.get(key) for key, item in value.items())


def _check_version(tree: Any, problems: Problems) -> dict[str, Any]:
    """The tree, as one of version 2. Raises Unreadable if its rules cannot be applied."""
    if not isinstance(tree, dict):
        problems.add((), show(tree), "a mapping with version, nodes and edges")
        raise Unreadable
    version = tree.get("version", VERSION)
    if version not in (VERSION, JOB_VERSION) or isinstance(version, (bool, float)):
        expected = f"{VERSION} for a graph or {JOB_VERSION} for a job: this streamcore reads no other version"
        problems.add(("version",), show(version), expected)
        raise Unreadable
    return as_graph(tree, problems) if version == JOB_VERSION else tree
