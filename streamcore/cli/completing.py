"""Candidates for the words of a command line: names of runs, nodes, plugins, incidents and dead letters.

They are asked for between two key strokes. So nothing here imports numpy or opens a socket: what lies in run directories and in the
metadata of installed packages is looked at, no more. Whatever is wrong with it gives no candidates; the command itself will say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from streamcore.errors import StreamcoreError

_PLUGINS = "streamcore.nodes"  # SYNC: plugins.naming.GROUP; the room would take 20 ms to import
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(names: Callable[[dict[str, Any]], Iterable[str]]) -> Completer:
    """From what yields names, given the parameters that are known so far, to what click calls."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            return sorted({name for name in names(ctx.params) if name.startswith(incomplete)})
        except (StreamcoreError, OSError, ValueError):  # e.g. a run directory that is not ours, metadata of a package that is damaged
            return []

    return complete


def _directories(run: str | None, *, live: bool) -> Iterator[Path]:
    """Of the run that is named on the command line, else of all."""
    from streamcore.control import rundir

    for path in rundir.known():
        if run in (None, path.name) and (not live or rundir.live_info(path)):
            yield path


def _runs(params: dict[str, Any], *, live: bool) -> Iterator[str]:
    return (path.name for path in _directories(None, live=live))


def _nodes(params: dict[str, Any], *, live: bool) -> Iterator[str]:
    """A node has a log from the moment it is spawned; no node's id begins with an underscore, as the coordinator's own log does."""
    for path in _directories(params.get("run"), live=live):
        yield from (log.stem for log in (path / "logs").glob("[a-z]*.log"))


def _incidents(params: dict[str, Any]) -> Iterator[str]:
    """By their names, and by their nodes: of a node the last one is meant."""
    for path in _directories(params.get("run"), live=False):
        for file in (path / "incidents").glob("*.json"):
            yield from (file.stem, file.stem.partition(".")[0])


def _letters(params: dict[str, Any]) -> Iterator[str]:
    for path in _directories(params.get("run"), live=False):
        yield from (record.stem for record in (path / "dead-letters").glob("*.json"))


def _plugins(params: dict[str, Any]) -> Iterator[str]:
    from importlib.metadata import entry_points

    return (entry.name for entry in entry_points(group=_PLUGINS))


def complete_queue(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders, and the nodes of live runs: which of them own a queue only the nodes know."""
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, complete_live_node(ctx, param, incomplete))]


complete_live_run = _completer(lambda params: _runs(params, live=True))
complete_run = _completer(lambda params: _runs(params, live=False))
complete_live_node = _completer(lambda params: _nodes(params, live=True))
complete_node = _completer(lambda params: _nodes(params, live=False))
complete_incident = _completer(_incidents)
complete_letter = _completer(_letters)
complete_plugin = _completer(_plugins)
