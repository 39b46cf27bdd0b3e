"""streamctl plan: what `up` would build, without building it, and whether it fits."""

from __future__ import annotations

import json
import os

import click

from streamcore.cli.failures import WRONG_INPUT
from streamcore.cli.options import json_option, quiet_debug_option, spec_options


@click.command(short_help="Show the processes, edges, rings and memory of a spec, and whether it fits.")
@spec_options
@json_option("Print the plan as JSON: nodes, edges, rings, start_order, shm_bytes_max, needs, box, fit.")
@quiet_debug_option
def plan(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], as_json: bool) -> int:
    """Show what `up` would start for SPEC, and whether this box has room for it: processes, windows, slots, memory, open files.

    Each planned number is shown with the terms that it is the sum of. Nothing is started and no memory is taken.

    How large frames are, a plan knows only from `ring.slot_bytes`. Without it, the last lines say up to which size they fit. What is free
    can change until the start; `up` looks again, and watches the memory of its rings.

    \b
    Exit status:
      0  it fits, as far as can be known
      2  SPEC or the command line is wrong; all problems are printed. Or SPEC does not fit: the last lines say why, and what would help
    """
    import msgspec

    from streamcore.graph.check import examine
    from streamcore.graph.describe import describe, describe_needs
    from streamcore.graph.fit import judge
    from streamcore.graph.needs import needs_of
    from streamcore.graph.plan import plan_graph
    from streamcore.secret import mask_hook
    from streamcore.supervisor import box
    from streamcore.supervisor.forking import SWITCH

    graph = examine(spec, sets, allow, folders=folders, cpus=box.cpus())
    planned, found = plan_graph(graph, None, None), box.look()
    needs = needs_of(graph, planned, forked=os.environ.get(SWITCH) != "0")
    fit = judge(planned, needs, found)
    if as_json:
        told = msgspec.to_builtins(planned, enc_hook=mask_hook) | msgspec.to_builtins({"needs": needs, "box": found, "fit": fit})
        click.echo(json.dumps({"version": 1, **told}, indent=2))
    else:
        click.echo("\n".join([*describe(planned), "", *describe_needs(needs, found), "", *fit.lines]))
    return 0 if fit.fits else WRONG_INPUT
