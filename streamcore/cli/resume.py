"""streamctl resume: let go on what was paused."""

from __future__ import annotations

import click

from streamcore.cli.asking import order_nodes
from streamcore.cli.completing import complete_live_node
from streamcore.cli.options import quiet_debug_option, run_option


@click.command(short_help="Let go on what was paused.")
@click.argument("node", required=False, shell_complete=complete_live_node)
@run_option
@quiet_debug_option
def resume(node: str | None, run: str | None) -> int:
    """Let NODE go on after `streamctl pause`; without NODE, all nodes of the run. What is not paused is left alone.

    \b
    Exit status:
      0  it goes on
      1  the run refuses: the node has ended
      2  the run has no such node
      3  there is no such run
    """
    still = order_nodes("resume", node, run)
    click.echo(f"resumed {node or 'all nodes'}" + (f"; still paused: {', '.join(still)}" if still else ""))
    return 0
