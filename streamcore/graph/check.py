"""A spec file to a plan in one call, with the problems of all stages at once. Loads plugins; everything else it calls is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamcore import limits
from streamcore.errors import Problem, SpecError
from streamcore.graph.model import Plan
from streamcore.graph.named_code import check_code
from streamcore.graph.plan import plan_graph
from streamcore.graph.validate import check
from streamcore.graph.wiring import wire
from streamcore.plugins import is_package, resolve_all
from streamcore.spec.loading import read


def prepare(
    path: str | Path,
    sets: Mapping[str, str] = {},
    allow: Sequence[str] = (),
    run: str | None = None,
    run_dir: Path | None = None,
) -> Plan:
    """Load, check and plan a spec.

    Args:
      sets: the values of `--set`.   allow: the packages of `--allow`, added to those of the spec.
      run: name of the run, by default the spec's name.   run_dir: its directory, to check the length of socket paths.
    Raises:
      SpecError: with every problem that any stage found. A stage does not report what follows from an earlier stage's problem.
    """
    problems = [
        Problem("--allow", 0, 0, package, repr(package), "a package such as my_nodes or my_nodes.vision")
        for package in allow
        if not is_package(package)
    ]
    if run is not None and not re.fullmatch(limits.ID_PATTERN, run):
        problems.append(Problem("--name", 0, 0, "name", repr(run), f"a name that matches {limits.ID_PATTERN}"))
    spec, loading = read(path, sets)
    problems += loading
    if spec is None:
        raise SpecError(problems)
    if len(spec.nodes) > limits.NODES_MAX:  # loading so many plugins would take minutes
        mark = spec.mark("nodes", at_key=True)
        found = f"{len(spec.nodes)} nodes"
        raise SpecError([*problems, Problem(*mark, "nodes", found, f"at most {limits.NODES_MAX}: each is a process")])
    allowed = (*allow, *spec.allow)
    graph = wire(spec, resolve_all([node.plugin for node in spec.nodes], allowed))
    check_code(graph, allowed)
    problems += check(graph)
    if problems:
        in_file = [problem for problem in problems if problem.file == spec.file]
        rest = [problem for problem in problems if problem.file != spec.file]
        raise SpecError(rest + sorted(in_file, key=lambda problem: (problem.line, problem.column)))
    return plan_graph(graph, run, run_dir)
