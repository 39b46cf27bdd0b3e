"""What a box has left for a run: memory, processes, descriptors, CPUs. Reads /proc, /sys and limits of this process, changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from streamcore import limits
from streamcore.graph.fit import Box, Room
from streamcore.supervisor.usage import cores

CGROUP_UNLIMITED = 1 << 60  # version 1 writes a huge number where version 2 writes "max"
_CPUS_ONLINE = "sys/devices/system/cpu/online"
_MEMORY_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
_ROOT = Path("/")


class Bounds(NamedTuple):
    """The control group of a process: its path, and the bytes and the CPUs that it may have. None: unknown, or without limit."""

    path: str | None
    memory_bytes: int | None
    cpus: float | None


def look(root: Path = _ROOT) -> Box:
    """The box now. What cannot be read is left out: then no limit of it is known."""
    return Box(tuple(memory(root)), tuple(_tasks(root)), tuple(_descriptors()))


def memory(root: Path = _ROOT) -> Iterator[Room]:
    """Bytes that could be allocated without swapping, and up to the limit of every control group that this process is in."""
    yield Room("MemAvailable", _mem_available(root))
    for group, version in _groups(root, "memory"):
        found = _limit_and_usage(group, _MEMORY_LIMIT[version], "memory.current" if version == 2 else "memory.usage_in_bytes")
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


def usable_cpus(root: Path = _ROOT) -> float:
    """How many CPUs this process and those that it starts may use: those it may run on, unless its control groups give less time."""
    quota = bounds(os.getpid(), root).cpus
    return cores() if quota is None else min(cores(), quota)


def bounds(pid: int, root: Path = _ROOT) -> Bounds:
    """The control group of a process and what it may have there: the lowest limit, its own or of a group around it."""
    of_memory = (_limit(group / _MEMORY_LIMIT[version]) for group, version in _groups(root, "memory", pid))
    of_cpu = (_cpu_limit(group, version) for group, version in _groups(root, "cpu", pid))
    paths = {controllers: path for controllers, path in _rows(root, pid) if controllers in ("", "memory")}
    # A box with both versions puts processes into groups of version 1, and leaves them in the root of version 2.
    path = paths.get("", "/")
    path = paths.get("memory", path) if path == "/" else path
    memory_bytes = min((limit for limit in of_memory if limit is not None), default=None)
    return Bounds(path if paths else None, memory_bytes, min((limit for limit in of_cpu if limit is not None), default=None))


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


def _rows(root: Path, pid: int | str) -> Iterator[tuple[str, str]]:
    """(controllers, path) of each hierarchy of control groups that a process is in. Version 2 names no controllers."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _groups(root: Path, controller: str, pid: int | str = "self") -> Iterator[tuple[Path, int]]:
    """(directory, version 1 or 2) of every control group that may bound a process, its ancestors included."""
    for controllers, path in _rows(root, pid):
        if controllers and controller not in controllers.split(","):
            continue
        base, version = (root / "sys/fs/cgroup" / controller, 1) if controllers else (root / "sys/fs/cgroup", 2)
        group = base / path.lstrip("/")
        while group == base or base in group.parents:
            yield group, version
            group = group.parent


def _limit_and_usage(group: Path, limit_name: str, usage_name: str) -> tuple[int, int] | None:
    limit = _limit(group / limit_name)
    try:
        return None if limit is None else (limit, int((group / usage_name).read_text()))
    except OSError:
        return None


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None  # the root group has no limit file, and a container may hide its ancestors
    return None if text == "max" or int(text) >= CGROUP_UNLIMITED else int(text)


def _cpu_limit(group: Path, version: int) -> float | None:
    """In CPUs: quota by period."""
    try:
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = " ".join((group / name).read_text() for name in names).split()
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") or not int(period) else int(quota) / int(period)


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
