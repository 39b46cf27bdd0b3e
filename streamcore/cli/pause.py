"""streamctl pause: let a node, or a whole run, begin no further packet."""

from __future__ import annotations

import click

from streamcore.cli.asking import order_nodes
from streamcore.cli.completing import complete_live_node
from streamcore.cli.options import quiet_debug_option, run_option


@click.command(short_help="Let a node, or all nodes, begin no further packet.")
@click.argument("node", required=False, shell_complete=complete_live_node)
@run_option
@quiet_debug_option
def pause(node: str | None, run: str | None) -> int:
    """Let NODE begin no further packet until `streamctl resume`; without NODE, all nodes of the run.

    What is under work is finished. Nothing is lost on edges with the policy `block`: packets wait, and so do their producers. On other
    edges the policy says what is dropped meanwhile, and it is counted. A camera that is paused misses what happens. A paused node stays
    paused when it is restarted, and is never taken for hung. `streamctl down` resumes what it has to drain.

    \b
    Exit status:
      0  it is paused
      1  the run refuses: it is not up yet, or ending, or the node has ended
      2  the run has no such node
      3  there is no such run
    """
    click.echo(f"paused: {', '.join(order_nodes('pause', node, run)) or 'nothing'}")
    return 0
