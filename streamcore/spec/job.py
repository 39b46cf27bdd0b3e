"""Specs of version 1: one job. It becomes the tree of a graph with one node, so that every rule for graphs is a rule for jobs too.

A job differs in how it is written only. The places of its values move along: a problem of `nodes[0].config.command` is reported as
one of `job.command`, where the user wrote it.
"""

from __future__ import annotations

from typing import Any

from streamcore.spec.problems import Problems, names, show

VERSION = 1
NODE_ID = "job"
PLUGINS = {"entry": "job.callable", "command": "job.command"}  # what a job runs, and which plugin does it
JOB_KEYS = (*PLUGINS, "config", "env", "cwd")
_OF_GRAPH = ("name", "params", "drain_s", "http", "allow")
OF_NODE = ("startup_s", "progress_s", "restart", "limits")
KEYS = ("version", "name", "params", "job", "restart", "startup_s", "progress_s", "drain_s", "limits", "http", "allow")
_FORM = "a mapping with either entry: module:callable or command: [program, argument, ...]"
_MOVED = {
    ("nodes", 0): (),
    ("nodes", 0, "id"): ("name",),
    ("nodes", 0, "plugin"): ("job",),
    ("nodes", 0, "config"): ("job",),
}


def as_graph(tree: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """The tree of the same graph. What is wrong with its keys is reported; values are left to the rules for graphs."""
    for key in tree:
        if key not in KEYS:
            hint = "a job is one process; nodes and edges need version: 2" if key in ("nodes", "edges") else ""
            hint = f"it belongs to `job`, as job.{key}" if key in JOB_KEYS else hint
            near = None if hint else (key, KEYS)
            problems.add((key,), f"unknown key {show(key)}", f"one of: {names(KEYS)}", hint, at_key=True, near=near)
    plugin = _plugin(tree.get("job"), problems)
    problems.places.moved = _MOVED
    config = tree["job"] if isinstance(tree.get("job"), dict) else {}
    node = {"id": NODE_ID, "plugin": plugin, "config": config, **{key: tree[key] for key in OF_NODE if key in tree}}
    return {"version": 2, **{key: tree[key] for key in _OF_GRAPH if key in tree}, "nodes": [node]}


def _plugin(job: Any, problems: Problems) -> str:
    """Which plugin runs it. If that is not clear, `job` is reported, and so not judged any further."""
    if not isinstance(job, dict) or not job:
        problems.add(("job",), "nothing" if job is None else show(job), _FORM)
        return PLUGINS["command"]
    unknown = [key for key in job if key not in JOB_KEYS]
    for key in unknown:
        problems.add(("job", key), f"unknown key {show(key)}", f"one of: {names(JOB_KEYS)}", at_key=True, near=(key, JOB_KEYS))
    given = [key for key in PLUGINS if key in job]
    if len(given) == 1:
        return PLUGINS[given[0]]
    if unknown:
        problems.silence(("job",))  # one of them may be the missing one, misspelt
    else:
        problems.add(("job",), "both entry and command" if given else "neither entry nor command", _FORM)
    return PLUGINS["command"]
