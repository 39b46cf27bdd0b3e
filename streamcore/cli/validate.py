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
@json_option('Print {"problems": [{"file", "line", "column", "path", "found", "expected", "hint"}]}.')
@quiet_debug_option
def validate(spec: str, sets: dict[str, str], allow: tuple[str, ...], as_json: bool) -> int:
    """Check SPEC as `up` does, and print all its problems at once.

    Each problem has its file, line and column, what was found, and what is expected. The plugins that SPEC names are imported, so that
    their ports and their config can be checked; nothing is started.

    \b
    Exit status:
      0  SPEC has no problem
      2  SPEC or the command line is wrong
    """
    from streamcore.errors import SpecError
    from streamcore.graph.check import prepare

    problems: list[Problem] = []
    try:
        plan = prepare(spec, sets, allow)
    except SpecError as error:
        problems = error.problems
    if as_json:
        click.echo(json.dumps({"version": 1, "problems": [problem.as_json() for problem in problems]}, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem), err=True)
        click.echo(f"{plural(len(problems), 'problem')} in {spec}", err=True)
    else:
        click.echo(f"{spec}: no problem; {plural(len(plan.nodes), 'node')}, {plural(len(plan.edges), 'edge')}")
    return WRONG_INPUT if problems else 0
