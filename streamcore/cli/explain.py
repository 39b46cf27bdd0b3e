"""streamctl explain: each value of a spec as it takes effect, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from streamcore.cli.failures import WRONG_INPUT
from streamcore.cli.options import json_option, quiet_debug_option, spec_options


@click.command(short_help="Show each value as it takes effect, and where it comes from.")
@spec_options
@click.argument("path", required=False)
@json_option('Print {"values": [{"path", "value", "origin": {"kind", "file", "line", "column", "written", "by"}}]}.')
@quiet_debug_option
def explain(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], path: str | None, as_json: bool) -> int:
    """Print every value of SPEC as `up` would use it, and its origin.

    PATH shows only what is at or below it, e.g. nodes.camera.config, edges, params.url. The origin is a place in a file with the text that
    stands there and the param, item or variable that it names; `default`, of streamcore or of a plugin; or `planned`, a number that follows
    from the graph. Secrets are shown as ***.

    \b
    Exit status:
      0  fine
      2  SPEC or the command line is wrong, or nothing is at PATH

    \b
    Examples:
      streamctl explain cameras.yaml nodes.camera.front
      streamctl explain specs/hop.yaml edges --set depth=4
    """
    from streamcore.graph import explain as explaining
    from streamcore.graph.check import examine
    from streamcore.graph.plan import plan_graph
    from streamcore.spec.problems import did_you_mean

    graph = examine(spec, sets, allow, folders=folders, subgraph=True)
    every = explaining.explain(graph, plan_graph(graph, None, None), sets)
    rows = explaining.matching(every, path) if path else every
    if not rows:
        hint = did_you_mean(path or "", (row.path for row in every))
        click.echo(f"nothing is at {path}{f'; {hint}' if hint else ''}", err=True)
        return WRONG_INPUT
    if as_json:
        told = [{"path": row.path, "value": row.value, "origin": asdict(row.origin)} for row in rows]
        click.echo(json.dumps({"version": 1, "values": told}, indent=2))
        return 0
    left = [f"{row.path} = {json.dumps(row.value, ensure_ascii=False)}" for row in rows]
    width = min(max(map(len, left)), 72)
    for text, row in zip(left, rows, strict=True):
        click.echo(f"{text:<{width}}  {row.origin}")
    return 0
