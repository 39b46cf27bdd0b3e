"""How many processes the kernel has killed for lack of memory: the only trace that such a kill leaves with the parent of the dead."""

from __future__ import annotations

from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int | None:
    """The larger of the whole box' count and that of our own control group; None if neither can be read.

    Inside a container the box' count is often hidden or not ours to read, and outside of one there is no group with a limit.
    """
    found = [count for count in (_vmstat(root), _own_group(root)) if count is not None]
    return max(found, default=None)


def _vmstat(root: Path) -> int | None:
    return _count(root / "proc/vmstat")


def _own_group(root: Path) -> int | None:
    try:
        rows = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        number, _, path = row.split(":", 2)
        if number == "0":  # version 2
            return _count(root / "sys/fs/cgroup" / path.lstrip("/") / "memory.events")
    return None


def _count(file: Path) -> int | None:
    try:
        text = file.read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)
