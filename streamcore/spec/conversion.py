"""A job spec written as the graph that it stands for, as YAML that this room reads to the same values.

Texts that a person wrote keep their references: params are not filled in, so the graph takes the same `--set`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from streamcore.errors import SpecError
from streamcore.secret import SecretRef
from streamcore.spec.freeze import name_of
from streamcore.spec.job import VERSION as JOB_VERSION
from streamcore.spec.job import as_graph
from streamcore.spec.problems import Problems, show
from streamcore.spec.reader import Unreadable, read_file, read_tree
from streamcore.spec.scalars import core_scalar

FLOW_CHARS_MAX = 100  # a list of plain values stays on one line up to here
_PLAIN = re.compile(r"(?:-{0,2}[A-Za-z_]|\.{0,2}/)[\w./-]*(?: [\w./-]+)*", re.ASCII)
_HEAD = """\
# The job of {file} as a graph with one node, written by `streamctl convert`. It runs the same, and `streamctl plan` names the same version.
"""
_NOTES = {
    "nodes": "a job has no ports: other nodes may stand beside it, with edges between them",
    "id": "what ps, logs, restart and stack call it",
    "plugin": "job.command runs a program, job.callable calls a Python function; `streamctl node describe` tells more",
    "config": "all that was under `job`",
}


def convert(path: str | Path) -> str:
    """The text of a version 2 spec that runs what the version 1 spec at `path` runs.

    Raises:
      SpecError: not readable, not a job, or with keys that no job has. Values are not judged: what is wrong with them stays wrong.
    """
    problems = Problems(str(path))
    try:
        tree, problems.places = read_tree(read_file(path, problems), problems)
    except Unreadable:
        raise SpecError(problems.listed()) from None
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != JOB_VERSION or isinstance(version, (bool, float)):
        found = "nothing" if version is None else show(version)
        problems.add(("version",), found, f"{JOB_VERSION}: only a job spec is converted, a graph is one already")
        raise SpecError(problems.listed())
    graph = as_graph(tree, problems)
    if problems:
        raise SpecError(problems.listed())
    ordered = {"version": graph.pop("version"), "name": graph.pop("name", name_of(str(path))), **graph}
    return _HEAD.format(file=Path(path).name) + "\n".join(_mapping(ordered, "", _NOTES)) + "\n"


def _mapping(values: dict[str, Any], indent: str, notes: dict[str, str]) -> list[str]:
    """Block style; `notes` are comments for keys at this depth, or at that of the entries of `nodes`."""
    lines: list[str] = []
    for key, value in values.items():
        note = f"  # {notes[key]}" if key in notes else ""
        inner = notes if key == "nodes" else {}
        if isinstance(value, dict) and value:
            lines += [f"{indent}{_text(key)}:{note}", *_mapping(value, indent + "  ", inner)]
        elif isinstance(value, list) and value and not _fits(value):
            lines += [f"{indent}{_text(key)}:{note}", *_list(value, indent + "  ", inner)]
        else:
            lines.append(f"{indent}{_text(key)}: {_flow(value)}{note}")
    return lines


def _list(values: list[Any], indent: str, notes: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for value in values:
        if isinstance(value, dict) and value:
            inner = _mapping(value, indent + "  ", notes)
        elif isinstance(value, list) and value and not _fits(value):
            inner = _list(value, indent + "  ", {})
        else:
            inner = [f"{indent}  {_flow(value)}"]
        lines += [f"{indent}- {inner[0][len(indent) + 2 :]}", *inner[1:]]
    return lines


def _fits(values: list[Any]) -> bool:
    return not any(isinstance(value, (dict, list)) and value for value in values) and len(_flow(values)) <= FLOW_CHARS_MAX


def _flow(value: Any) -> str:
    """On one line; of mappings only the empty one is asked for."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, SecretRef):
        return f"!secret {_text(value.text)}"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """Plain where it is read back as this text, else in quotes; in double ones everything can be escaped that is not printable."""
    if _PLAIN.fullmatch(text) and core_scalar(text) == text:
        return text
    if text.isprintable() and set(text) & {'"', "\\"}:
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}" for char in text) + '"'
