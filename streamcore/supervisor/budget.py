"""How much shared memory a run may use, and what of it a plan is certain to use. Reads /proc and /sys, allocates nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamcore import limits
from streamcore.errors import BudgetError
from streamcore.graph.model import Plan

ENTRY_TOUCHED_BYTES = 64  # a row of the entry table; its metadata room and the slots stay sparse until packets come
CGROUP_UNLIMITED = 1 << 60  # version 1 writes a huge number where version 2 writes "max"


def available_bytes(root: Path = Path("/")) -> int:
    """What could be allocated now without swapping or hitting a control group's limit: the smallest of all that apply."""
    return min([_mem_available(root), *_cgroup_rooms(root)])


def certain_bytes(plan: Plan) -> int:
    """What the plan uses in any case: each ring's header and table and one page per slot; how large frames are is not known yet."""
    pages = sum(1 + ring.slot_count for ring in plan.rings) * limits.PAGE_BYTES
    return pages + sum(ring.entry_count * ENTRY_TOUCHED_BYTES for ring in plan.rings) + len(plan.nodes) * limits.PAGE_BYTES


def check(plan: Plan, shm_limit: int | None, root: Path = Path("/")) -> int:
    """The bytes that the rings of this run may occupy: `limits.shm` of the spec as far as the box has them, else a share of what it has.

    Slots are sparse and `slot_bytes` is an upper bound, so the plan's maximum is not held against it; the coordinator watches
    what is really in use.

    Raises:
      BudgetError: not even what is certain fits.
    """
    available = available_bytes(root)
    if shm_limit is None:
        limit, whose = int(available * limits.SHM_SHARE), f"{limits.SHM_SHARE:.0%} of the {human(available)} available"
    else:
        limit, whose = min(shm_limit, available), f"limits.shm is {human(shm_limit)}, available are {human(available)}"
    needed = certain_bytes(plan)
    if needed > limit:
        found, expected = f"{human(limit)} for its rings ({whose})", f"at least {human(needed)}"
        raise BudgetError(f"{plan.graph}: found {found}, expected {expected}; lower depths, raise limits.shm or free memory")
    return limit


def human(nbytes: int) -> str:
    """1536 -> "1.5 KiB"."""
    value, unit = float(nbytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.4g} {unit}"


def _mem_available(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * limits.KIB
    return 0  # a kernel without the field is older than any that has memfd seals


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """Room left in every control group with a memory limit that this process is in, its ancestors included."""
    try:
        rows = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = base / path.lstrip("/")
        while group == base or base in group.parents:
            room = _room(group, *names)
            if room is not None:
                yield room
            group = group.parent


def _room(group: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        text = (group / limit_name).read_text().strip()
        usage = int((group / usage_name).read_text())
        stat = (group / "memory.stat").read_text()
    except OSError:
        return None  # the root group has no limit file, and a container may hide its ancestors
    if text == "max" or int(text) >= CGROUP_UNLIMITED:
        return None
    # Page cache counts as usage but is given back on demand.
    cache = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")), 0)
    return max(0, int(text) - usage + cache)
