"""streamctl plan: what `up` would build, without building it."""

from __future__ import annotations

import json

import click

from streamcore.cli.options import json_option, quiet_debug_option, spec_options


@click.command(short_help="Show the processes, edges, rings and memory of a spec.")
@spec_options
@json_option("Print the plan as JSON: nodes, edges, rings, start_order, shm_bytes_max.")
@quiet_debug_option
def plan(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], as_json: bool) -> int:
    """Show what `up` would start for SPEC: processes, edges with their windows, rings with their slots, memory.

    Each planned number is shown with the terms that it is the sum of. Nothing is started and no memory is taken.

    \b
    Exit status:
      0  fine
      2  SPEC or the command line is wrong; all problems are printed
    """
    import msgspec

    from streamcore.graph.check import prepare
    from streamcore.graph.describe import describe
    from streamcore.secret import mask_hook

    planned = prepare(spec, sets, allow, folders=folders)
    if as_json:
        click.echo(json.dumps({"version": 1, **msgspec.to_builtins(planned, enc_hook=mask_hook)}, indent=2))
    else:
        click.echo("\n".join(describe(planned)))
    return 0
