"""How much shared memory a run may use. Reads /proc and /sys, allocates nothing."""

from __future__ import annotations

from pathlib import Path

from streamcore.errors import BudgetError
from streamcore.graph.fit import ring_limit
from streamcore.graph.model import Plan
from streamcore.graph.needs import certain_bytes
from streamcore.spec.scalars import size_text
from streamcore.supervisor import box


def available_bytes(root: Path = Path("/")) -> int:
    """What could be allocated now without swapping or hitting a control group's limit: the smallest of all that apply."""
    return min(room.left for room in box.memory(root))


def check(plan: Plan, shm_limit: int | None, root: Path = Path("/")) -> int:
    """The bytes that the rings of this run may occupy: `limits.shm` of the spec as far as the box has them, else a share of what it has.

    Slots are sparse and `slot_bytes` is an upper bound, so the plan's maximum is not held against it; the coordinator watches
    what is really in use.

    Raises:
      BudgetError: not even what is certain fits.
    """
    limit, whose = ring_limit(shm_limit, available_bytes(root))
    needed = certain_bytes(plan)
    if needed > limit:
        found, expected = f"{size_text(limit)} for its rings ({whose})", f"at least {size_text(needed)}"
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
