"""Which process of a live run owns which durable store: read from its open files, so that a node that hangs need not answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamcore.control import client
from streamcore.control.rundir import RunInfo
from streamcore.durable import files
from streamcore.errors import RunError


class Held(NamedTuple):
    """A store that a node of a live run owns."""

    info: RunInfo
    node: str
    pid: int
    path: Path


def held(run: str | None = None) -> list[Held]:
    """All stores that live runs of this user own, or those of one run; by run and node."""
    found: list[Held] = []
    for info in client.runs():
        if run not in (None, info.run):
            continue
        asker = client.Client(info)
        try:
            rows = asker.request("stats")["nodes"]
        except RunError:  # it has ended meanwhile
            continue
        finally:
            asker.close()
        found += [Held(info, row["id"], row["pid"], path) for row in rows if row["pid"] for path in _stores_of(row["pid"])]
    return sorted(found, key=lambda one: (one.info.run, one.node, one.path))


def owner(path: Path) -> Held | None:
    """The node of a live run that owns the store at `path`; None if nobody does, or another process."""
    if not files.owner_of(path):
        return None
    return next((one for one in held() if _same(one.path, path)), None)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _stores_of(pid: int) -> Iterator[Path]:
    """The folders whose owner file this process has open."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended meanwhile
        return
    for name in names:
        try:
            target = Path(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:  # closed meanwhile
            continue
        if target.name == files.OWNER and (target.parent / files.DATA).is_file():
            yield target.parent
