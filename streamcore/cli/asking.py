"""What several commands ask a live run about its nodes, and how they answer for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.failures import NODE_FAILED
from streamcore.errors import RunError

if TYPE_CHECKING:
    from streamcore.control.client import Client


class Refused(click.ClickException):
    """A live run does not do what it was asked to: the run is there, so this is not the status of a missing one."""

    exit_code = NODE_FAILED

    def show(self, file: Any = None) -> None:
        click.echo(f"streamctl: {self.message}", err=True)


def node_row(reply: dict[str, Any], node: str) -> dict[str, Any]:
    """The row of a node in a reply of `ps` or `stats`. A node that the run does not have is a wrong command line."""
    rows: dict[str, dict[str, Any]] = {row["id"]: row for row in reply["nodes"]}
    if node not in rows:
        raise click.BadParameter(f"run '{reply['run']}' has no node '{node}'; there is {', '.join(rows)}", param_hint="NODE")
    return rows[node]


def order(client: Client, verb: str, timeout_s: float | None = None, **arguments: Any) -> dict[str, Any]:
    """Send a request that the run may refuse. Raises Refused with its sentence, RunError if the run is gone."""
    limit = {} if timeout_s is None else {"timeout_s": timeout_s}
    try:
        return client.request(verb, **limit, **arguments)
    except RunError as error:
        if not client.live():
            raise
        raise Refused(str(error)) from None


def order_nodes(verb: str, node: str | None, run: str | None) -> list[str]:
    """Send `pause` or `resume` for one node or all; who is paused now."""
    from streamcore.control.client import connect

    with connect(run) as client:
        if node is not None:
            node_row(client.request("stats"), node)
        paused: list[str] = order(client, verb, node=node)["paused"]
    return paused
