"""What a box has left for a run: memory, processes, descriptors, CPUs. Reads /proc, /sys and limits of this process, changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from streamcore import limits
from streamcore.graph.fit import Box, Room

CGROUP_UNLIMITED = 1 << 60  # version 1 writes a huge number where version 2 writes "max"
_CPUS_ONLINE = "sys/devices/system/cpu/online"
_ROOT = Path("/")


def look(root: Path = _ROOT) -> Box:
    """The box now. What cannot be read is left out: then no limit of it is known."""
    return Box(tuple(memory(root)), tuple(_tasks(root)), tuple(_descriptors()))


def memory(root: Path = _ROOT) -> Iterator[Room]:
    """Bytes that could be allocated without swapping, and up to the limit of every control group that this process is in."""
    yield Room("MemAvailable", _mem_available(root))
    for group, version in _groups(root, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        found = _limit_and_usage(group, *names)
        with suppress(OSError):  # as every file here: a container may hide its ancestors
            if found:
                # Page cache counts as usage but is given back on demand.
                rows = (group / "memory.stat").read_text().splitlines()
                cache = next((int(row.split()[1]) for row in rows if row.startswith("inactive_file ")), 0)
                yield Room(f"memory group {_name(root, group)}", max(0, found[0] - found[1] + cache))


def cpus(root: Path = _ROOT) -> frozenset[int]:
    """The CPUs that a process may be bound to: those that are on, as far as its control groups leave them. Empty: nothing is known.

    Not the ones that streamctl itself is bound to: a node may be bound to others.
    """
    try:
        found = _numbers((root / _CPUS_ONLINE).read_text())
    except (OSError, ValueError):
        return frozenset()
    for group, version in _groups(root, "cpuset"):
        with suppress(OSError, ValueError):
            found &= _numbers((group / ("cpuset.cpus.effective" if version == 2 else "cpuset.effective_cpus")).read_text()) or found
    return frozenset(found)


def _tasks(root: Path) -> Iterator[Room]:
    for group, _ in _groups(root, "pids"):
        found = _limit_and_usage(group, "pids.max", "pids.current")
        if found:
            yield Room(f"pids group {_name(root, group)}", max(0, found[0] - found[1]))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid():  # it does not bind root
        yield Room("ulimit -u", max(0, soft - _threads_of_user(root)))


def _descriptors() -> Iterator[Room]:
    """The hard limit: the soft one is raised as far as needed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        yield Room("ulimit -Hn", hard)


def _mem_available(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * limits.KIB
    return 0  # a kernel without the field is older than any that has memfd seals


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """(directory, version 1 or 2) of every control group that may bound this process, its ancestors included."""
    try:
        rows = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base, version = (root / "sys/fs/cgroup" / controller, 1) if controllers else (root / "sys/fs/cgroup", 2)
        group = base / path.lstrip("/")
        while group == base or base in group.parents:
            yield group, version
            group = group.parent


def _limit_and_usage(group: Path, limit_name: str, usage_name: str) -> tuple[int, int] | None:
    try:
        text = (group / limit_name).read_text().strip()
        usage = int((group / usage_name).read_text())
    except OSError:
        return None  # the root group has no limit file, and a container may hide its ancestors
    return None if text == "max" or int(text) >= CGROUP_UNLIMITED else (int(text), usage)


def _name(root: Path, group: Path) -> str:
    return "/" + str(group.relative_to(root))


def _numbers(text: str) -> set[int]:
    """`0-3,6` as the kernel writes it."""
    found: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _threads_of_user(root: Path) -> int:
    """All that the kernel counts against RLIMIT_NPROC: threads of this user's processes."""
    uid, count = str(os.getuid()), 0
    for path in (root / "proc").glob("[0-9]*/status"):
        with suppress(OSError, KeyError, ValueError):  # it has ended meanwhile
            facts = dict(line.split(":", 1) for line in path.read_text().splitlines() if line.startswith(("Uid:", "Threads:")))
            if facts["Uid"].split()[0] == uid:
                count += int(facts["Threads"])
    return count
