"""Durable queues as they are named on a command line, and what is done to them: through their run while it lives, else in their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamcore.cli.asking import Refused, node_row, order
from streamcore.cli.completing import complete_queue
from streamcore.cli.options import Function, duration

if TYPE_CHECKING:
    from streamcore.control.queues import Held

queue_argument = click.argument("queue", metavar="QUEUE", shell_complete=complete_queue)


def timeout_option(function: Function) -> Function:
    text = "Wait so long for a live node to answer."
    option = click.option("--timeout", "timeout_s", callback=duration, default="30s", show_default=True, metavar="DURATION", help=text)
    return option(function)


class Place(NamedTuple):
    """Where a queue lies, and the node of a live run that owns it. `name` is as it was given."""

    name: str
    path: Path
    held: Held | None

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON."""
        run, node = (self.held.info.run, self.held.node) if self.held else (None, None)
        return {"path": str(self.path), "run": run, "node": node}


def place_of(word: str, run: str | None) -> Place:
    """What a word means: a folder if there is one, or if it has a slash; else the queue of a node in the live run.

    Raises:
      click.BadParameter, Refused: the run has no such node, or it has no queue, or there are several.
      RunError: there is no such run.
    """
    from streamcore.control import client, queues

    path = Path(word)
    if run is None and ("/" in word or path.is_dir() or not client.runs()):
        return Place(word, path, queues.owner(path))
    found = [held for held in queues.held(run) if held.node == word]
    if len(found) == 1:
        return Place(word, found[0].path, found[0])
    if found and run is None:
        raise Refused(f"several runs have a queue '{word}': {', '.join(held.info.run for held in found)}; say which one with --run")
    if found:
        raise Refused(f"node '{word}' owns {len(found)} queues: {', '.join(str(held.path) for held in found)}; give the folder")
    with client.connect(run) as asker:
        row = node_row(asker.request("stats"), word)
    raise Refused(f"node '{word}' owns no durable queue at this moment, it is {row['state']}; the folder of one can be given instead")


def all_places() -> list[Place]:
    """The queues of all live runs."""
    from streamcore.control import queues

    return [Place(held.node, held.path, held) for held in queues.held()]


def change(place: Place, name: str, sequences: Sequence[int], timeout_s: float, step: Callable[[int], None]) -> int:
    """Replay, retry or drop these, a bounded number at a time; how many of them were found and changed.

    Raises:
      Refused: the run does not do it, or not all of it; how much is said.
      StoreLocked: a process owns it that belongs to no live run.
    """
    from streamcore.control.client import Client
    from streamcore.durable import actions, upkeep

    done = 0
    with ExitStack() as made:
        if place.held is None:
            store = made.enter_context(upkeep.owned(place.path))
        else:
            asker = made.enter_context(Client(place.held.info))
        for at in range(0, len(sequences), actions.ORDER_MAX):
            some = sequences[at : at + actions.ORDER_MAX]
            arguments = {"spans": actions.spans_of(some)}
            try:
                if place.held is None:
                    done += actions.carry_out(store, name, arguments)["done"]
                else:
                    asked = {"node": place.held.node, "name": name, "arguments": arguments}
                    done += order(asker, "order", timeout_s=timeout_s, **asked)["reply"]["done"]
            except (Refused, KeyboardInterrupt) as error:
                why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
                told = f"{why}; {done} of {len(sequences)} are done for certain, up to {len(some)} more may be; every record is whole"
                if isinstance(error, KeyboardInterrupt):
                    click.echo(f"streamctl: {told}", err=True)
                    raise
                raise Refused(told) from None
            step(len(some))
    return done
