"""Does a run fit into a box? What it needs, held against what the box has; the box is handed in, so this is arithmetic too."""

from __future__ import annotations

import msgspec

from streamcore import limits
from streamcore.graph.model import Plan
from streamcore.graph.needs import Needs, RingNeed, known_bytes
from streamcore.spec.scalars import size_text

LARGEST_SHOWN = 3  # rings that a hint names: who lowers those has mostly done enough
PICTURE_BYTES = 1920 * 1080 * 3  # to compare with: a frame of the size most cameras give


class Room(msgspec.Struct, frozen=True):
    """So much of something is left, and whose limit that is."""

    whose: str
    left: int


class Box(msgspec.Struct, frozen=True):
    """What a box has left: bytes of memory, processes with their threads, descriptors of one process. Empty: no limit is known."""

    memory: tuple[Room, ...]
    tasks: tuple[Room, ...] = ()
    descriptors: tuple[Room, ...] = ()


class Fit(msgspec.Struct, frozen=True):
    """The verdict: `fits`, and in `lines` on what condition, or what is short and what would help."""

    fits: bool
    lines: tuple[str, ...]


def ring_limit(shm_limit: int | None, available: int) -> tuple[int, str]:
    """The bytes that the rings of a run may occupy, and why: `limits.shm` as far as the box has them, else a share of what it has."""
    if shm_limit is None:
        return int(available * limits.SHM_SHARE), f"{limits.SHM_SHARE:.0%} of the {size_text(available)} available"
    return min(shm_limit, available), f"limits.shm is {size_text(shm_limit)}, available are {size_text(available)}"


def judge(plan: Plan, needs: Needs, box: Box) -> Fit:
    """Hold what is known of the needs against every limit of the box. Payloads of unknown size are no shortage but a condition."""
    available = min((room.left for room in box.memory), default=0)
    limit, whose = ring_limit(plan.shm_limit, available)
    for_rings = min(limit, available - needs.private)
    short = _memory(needs, box, available, for_rings, whose)
    advice = (f"lower `depth` of edges or the number of nodes{_advice(plan, needs)}",) if short else ()
    short += _counts("open files of the coordinator", needs.descriptors, box.descriptors)
    short += _counts("processes and threads", needs.tasks, box.tasks)
    if short:
        return Fit(False, (*(f"does not fit: {line}" for line in short), *advice))
    if needs.most <= for_rings:
        return Fit(True, (f"fits: {size_text(needs.private + needs.most)} even if every slot were full, {size_text(available)} available",))
    return Fit(True, _condition(plan, needs, for_rings, whose))


def _memory(needs: Needs, box: Box, available: int, for_rings: int, whose: str) -> list[str]:
    if needs.private + needs.certain > available:
        tightest = min(box.memory, key=lambda room: room.left).whose if box.memory else "nothing is known of the box"
        needed = size_text(needs.private + needs.certain)
        return [f"memory: {needed} before the first packet, {size_text(available)} available ({tightest})"]
    if needs.known > for_rings:
        rings, left = size_text(needs.known), size_text(max(0, for_rings))
        found = f"{left} left for rings ({whose}; the processes take {size_text(needs.private)})"
        return [f"shared memory: {rings} with metadata and declared payloads, {found}"]
    return []


def _condition(plan: Plan, needs: Needs, for_rings: int, whose: str) -> tuple[str, ...]:
    """For whom it is a question of how large frames are. JSON and bytes beyond the metadata are the exception, and left out."""
    open_slots = sum(ring.slots for ring in needs.rings if _is_open(ring))
    if not open_slots:
        return (f"fits: unless most JSON and bytes payloads are too large for the metadata; {size_text(for_rings)} for rings ({whose})",)
    average = (for_rings - needs.known) // open_slots
    compared = f"on average of {open_slots} slots (1080p BGR takes {size_text(PICTURE_BYTES)})"
    line = f"fits: while frames take {size_text(average)} or less, {compared}; rings may have {size_text(for_rings)} ({whose})"
    return (line, f"for larger ones{_advice(plan, needs)}") if average < PICTURE_BYTES else (line,)


def _is_open(ring: RingNeed) -> bool:
    return ring.sizable and ring.declared is None


def _counts(what: str, needed: int, rooms: tuple[Room, ...]) -> list[str]:
    return [f"{what}: {needed} needed, {room.left} left ({room.whose})" for room in rooms if needed > room.left]


def _advice(plan: Plan, needs: Needs) -> str:
    """The rings that take most, and what would make each smaller."""
    return ": " + "; ".join(_smaller(plan, ring) for ring in sorted(needs.rings, key=_weight)[:LARGEST_SHOWN]) if needs.rings else ""


def _weight(ring: RingNeed) -> tuple[int, int]:
    """Sorts what is known to be large first, then what may be."""
    return -known_bytes(ring), -ring.most


def _smaller(plan: Plan, ring: RingNeed) -> str:
    edges = [edge for edge in plan.edges if plan.rings[edge.ring].port == ring.port]
    deepest = max(edges, key=lambda edge: edge.window, default=None)
    node = ring.port.rpartition(".")[0]
    verb = "set" if ring.declared is None else "lower"
    depth = f"lower `depth` of {deepest.name} or " if deepest and deepest.depth > 1 else ""
    return f"{depth}{verb} ring.slot_bytes of node '{node}' ({ring.slots} x {size_text(ring.slot_bytes)})"
