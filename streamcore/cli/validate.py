"""streamctl validate: check a spec without starting anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streamcore.cli.failures import WRONG_INPUT
from streamcore.cli.options import json_option, quiet_debug_option, spec_options
from streamcore.cli.wording import plural

if TYPE_CHECKING:
    from streamcore.errors import Problem


@click.command(short_help="Check a spec without starting anything.")
@spec_options
@click.option("--no-plugins", is_flag=True, help="Check the structure only: no plugin is looked for, so no ports, kinds and configs.")
@json_option('Print {"plugins_checked", "problems": [{"file", "line", "column", "path", "found", "expected", "hint"}]}.')
@quiet_debug_option
def validate(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], no_plugins: bool, as_json: bool) -> int:
    """Check SPEC as `up` does, and print all its problems at once.

    Each problem has its file, line and column, what was found, and what is expected. Nothing is started. What the plugins declare, their
    ports and the schema of their config, is read by a process of its own and kept in the user's cache until their code changes; here
    nothing is imported. A plugin that may not load is not imported anywhere.

    \b
    Exit status:
      0  SPEC has no problem
      2  SPEC or the command line is wrong
    """
    from streamcore.errors import SpecError
    from streamcore.graph.check import check_structure, prepare

    problems: list[Problem] = []
    checked = " (structure only: plugins not checked)" if no_plugins else ""
    try:
        graph = check_structure(spec, sets, folders) if no_plugins else prepare(spec, sets, allow, folders=folders, subgraph=True)
    except SpecError as error:
        problems = error.problems
    if as_json:
        told = [problem.as_json() for problem in problems]
        click.echo(json.dumps({"version": 1, "plugins_checked": not no_plugins, "problems": told}, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem), err=True)
        click.echo(f"{plural(len(problems), 'problem')} in {spec}{checked}", err=True)
    else:
        click.echo(f"{spec}: no problem; {plural(len(graph.nodes), 'node')}, {plural(len(graph.edges), 'edge')}{checked}")
    return WRONG_INPUT if problems else 0
