"""A spec file to a plan in one call, with the problems of all stages at once. Has plugins read; everything else it calls is pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from streamcore import limits
from streamcore.errors import Problem, SpecError
from streamcore.graph.hidden import reveal
from streamcore.graph.model import Plan
from streamcore.graph.named_code import check_code
from streamcore.graph.plan import plan_graph
from streamcore.graph.validate import check
from streamcore.graph.wiring import Graph, wire
from streamcore.plugins.manifests import Asked, find
from streamcore.plugins.naming import is_package
from streamcore.plugins.policy import POLICY_FILE, Policy, asked, load_machine, wrong_words
from streamcore.spec.loading import read
from streamcore.spec.model import Spec
from streamcore.spec.problems import MEND_FIRST
from streamcore.spec.scalars import numbers_text


def prepare(
    path: str | Path,
    sets: Mapping[str, str] = {},
    allow: Sequence[str] = (),
    run: str | None = None,
    run_root: Path | None = None,
    policy_file: str = POLICY_FILE,
    folders: Sequence[str] = (),
    *,
    subgraph: bool = False,
    cpus: Collection[int] = (),
) -> Plan:
    """Load, check and plan a spec: as `examine`, then `plan_graph`.

    Args:
      run_root: where the directory of the run will be, to check the length of socket paths.
    """
    graph = examine(path, sets, allow, run, policy_file, folders, subgraph=subgraph, cpus=cpus)
    return plan_graph(graph, run, run_root / (run or graph.spec.name) if run_root else None)


def examine(
    path: str | Path,
    sets: Mapping[str, str] = {},
    allow: Sequence[str] = (),
    run: str | None = None,
    policy_file: str = POLICY_FILE,
    folders: Sequence[str] = (),
    *,
    subgraph: bool = False,
    cpus: Collection[int] = (),
) -> Graph:
    """Load, wire and check a spec.

    Args:
      sets: the values of `--set`.   allow: the packages of `--allow`, added to those of the spec and of $STREAMCORE_PLUGINS.
      run: name of the run, by default the spec's name.
      policy_file: of this machine; another one is for tests.   folders: of `--include-from`.
      subgraph: inputs may be left to the graph that includes this one.
      cpus: those of the box that is to run it; none where it is checked for another one.
    Raises:
      SpecError: with every problem that any stage found. A stage does not report what follows from an earlier stage's problem.
      ReaderError: the box cannot start the process that reads plugins.
    """
    problems = wrong_words(allow, os.environ)
    leave_is_known = not problems
    if run is not None and not re.fullmatch(limits.ID_PATTERN, run):
        problems.append(Problem("--name", 0, 0, "name", repr(run), f"a name that matches {limits.ID_PATTERN}"))
    spec = reveal(_load(path, sets, folders, problems), run)
    try:
        leave_is_known = leave_is_known and all(map(is_package, spec.allow)) and not any(where[0] == "allow" for where in spec.bad if where)
        policy = Policy(asked(allow, spec, os.environ), load_machine(policy_file), leave_is_known)
    except SpecError as error:  # nothing may load; what the plugins would have to do with is left aside
        problems += error.problems
        graph = wire(spec, None)
    else:
        found = find([Asked(node.plugin, node.config) for node in spec.nodes], policy)
        graph = wire(spec, found.manifests, found.checked)
        graph.code = found.files
        check_code(graph, policy)
    if graph.open and not subgraph:
        for port in spec.ports:
            if port.side == "inputs" and port.where[:1] == ("ports",):
                graph.problems.add_problem_at(port.where, f"the open input '{port.name}'", "a graph that includes this one and feeds it")
    _check_cpus(graph, cpus)
    _conclude(graph, problems)
    return graph


def check_structure(path: str | Path, sets: Mapping[str, str] = {}, folders: Sequence[str] = ()) -> Graph:
    """Load a spec and check what can be checked without knowing its plugins.

    Raises:
      SpecError: with every problem.
    """
    problems: list[Problem] = []
    graph = wire(_load(path, sets, folders, problems), None)
    _conclude(graph, problems)
    return graph


def _check_cpus(graph: Graph, cpus: Collection[int]) -> None:
    """The kernel ignores CPUs that are not there, and refuses a process that has no other: found out here, and not at the start."""
    for index, node in enumerate(graph.nodes.values()):
        missing = set(node.spec.process.cpu_affinity) - set(cpus) if cpus else set()
        if missing:
            where = (*(node.spec.where or ("nodes", index)), "cpu_affinity")
            found = f"CPU {numbers_text(missing)}"
            graph.problems.add(where, found, f"CPUs that this box has: {numbers_text(cpus)}")


def _load(path: str | Path, sets: Mapping[str, str], folders: Sequence[str], problems: list[Problem]) -> Spec:
    spec, loading = read(path, sets, folders)
    problems += loading
    if spec is None:
        raise SpecError(problems)
    return spec


def _conclude(graph: Graph, problems: list[Problem]) -> None:
    """Raises SpecError if there is any problem, those of the file last and in its order."""
    problems += check(graph)
    if problems:
        in_file = [problem for problem in problems if problem.file == graph.spec.file]
        rest = [problem for problem in problems if problem.file != graph.spec.file]
        raise SpecError(rest + sorted(in_file, key=lambda problem: (problem.hint == MEND_FIRST, problem.line, problem.column)))
