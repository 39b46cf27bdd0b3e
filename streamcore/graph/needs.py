"""What a run needs of its box: memory, processes, descriptors. Arithmetic on a plan only; fit.py holds it against a box."""

from __future__ import annotations

import math

import msgspec

from streamcore import limits
from streamcore.graph.model import Plan, RingPlan
from streamcore.graph.wiring import Graph, WiredNode
from streamcore.packet import TYPE_STRINGS, Array, Profile, carries_arrays
from streamcore.shm.layout import Geometry, round_up

# Private memory (USS) by psutil, Python 3.11 on x86-64, pure Python, specs/hop.yaml and specs/demo.yaml: nodes without OpenCV 5.7 to 6.1
# MiB where they were forked and 19.3 where they were exec'ed; with OpenCV 5 to 9 MiB more. Coordinator 20, fork server 6, guardian 4.
NODE_BYTES = 6 * limits.MIB
NODE_BYTES_EXECED = 19 * limits.MIB
OWN_BYTES = 30 * limits.MIB
OWN_PROCESSES = 3  # coordinator, fork server, guardian
TASKS_PER_NODE = 4  # threads that the kernel counts: main, lifeline, and room for the plugin's own
OWN_TASKS = 6  # of those three processes
ENTRY_TOUCHED_BYTES = 64  # a row of the entry table; its metadata room and the slots stay sparse until packets come
FDS_PER_NODE = 4  # status page, pidfd, control channel, and for a moment what else it inherits: boot memfd, inbox, log
FDS_SPARE = 64  # sockets, the event loop, the interpreter's own


class RingNeed(msgspec.Struct, frozen=True):
    """Shared memory of one ring, in bytes.

    Attributes:
      bare: with the metadata of every packet, but without payloads.
      payload: the largest payload that is declared, by the shape of the port's arrays or by `ring.slot_bytes`; None if nothing says it.
      declared: with all slots filled by payloads of that size; None likewise.
      most: if every slot were full.   slots, slot_bytes: as planned.
      sizable: its payloads can be arrays, so they, and not the metadata, decide what it takes.
    """

    port: str
    slots: int
    slot_bytes: int
    bare: int
    payload: int | None
    declared: int | None
    most: int
    sizable: bool


class NodeNeed(msgspec.Struct, frozen=True):
    """`private`: bytes that no other process shares, before what its plugin imports and keeps."""

    id: str
    private: int
    rings: tuple[RingNeed, ...]


class Needs(msgspec.Struct, frozen=True):
    """What a run takes in all.

    Attributes:
      own: private bytes of streamctl's own processes; `private` has them and the nodes'.
      certain, known, most: bytes of all rings before the first packet, as far as the spec tells, and if every slot were full.
      processes: streamctl's own among them.   tasks: processes and their threads, which is what the kernel counts.
      descriptors: of the coordinator.
    """

    nodes: tuple[NodeNeed, ...]
    own: int
    private: int
    certain: int
    known: int
    most: int
    processes: int
    tasks: int
    descriptors: int

    @property
    def rings(self) -> tuple[RingNeed, ...]:
        return tuple(ring for node in self.nodes for ring in node.rings)


def needs_of(graph: Graph, plan: Plan, *, forked: bool = True) -> Needs:
    """What `plan`, made from `graph`, needs. `forked`: its nodes come from the fork server, and share with it what it has imported."""
    private = NODE_BYTES if forked else NODE_BYTES_EXECED
    nodes = tuple(
        NodeNeed(node.id, private, tuple(_ring(plan.rings[ring], graph.nodes[node.id], port) for port, ring in node.outputs.items()))
        for node in plan.nodes
    )
    certain, known = certain_bytes(plan), sum(known_bytes(ring) for node in nodes for ring in node.rings)
    return Needs(
        nodes=nodes,
        own=OWN_BYTES,
        private=OWN_BYTES + private * len(nodes),
        certain=certain,
        known=max(certain, known),
        most=plan.shm_bytes_max + len(nodes) * limits.PAGE_BYTES,
        processes=OWN_PROCESSES + len(nodes),
        tasks=OWN_TASKS + TASKS_PER_NODE * len(nodes),
        descriptors=descriptors(plan),
    )


def certain_bytes(plan: Plan) -> int:
    """What the rings and status pages use in any case; how large frames are is not known yet."""
    return sum(map(_certain, plan.rings)) + len(plan.nodes) * limits.PAGE_BYTES


def known_bytes(ring: RingNeed) -> int:
    """What a ring takes as far as the spec tells: with its declared payloads, else without any."""
    return ring.bare if ring.declared is None else ring.declared


def descriptors(plan: Plan) -> int:
    """Most that the coordinator has open at a time: of each ring two, one of them for reading only."""
    return 2 * len(plan.rings) + FDS_PER_NODE * len(plan.nodes) + FDS_SPARE


def _ring(ring: RingPlan, node: WiredNode, port: str) -> RingNeed:
    assert node.manifest
    geometry = Geometry.of(ring.entry_count, ring.meta_bytes, ring.slot_count, ring.slot_bytes)
    most, bare = geometry.segment_bytes, geometry.slots_offset
    profile = node.manifest.outputs[port].profile
    payload, sizable = _array_bytes(profile), carries_arrays(profile)
    payload = node.spec.ring.slot_bytes if payload is None else payload
    declared = None if payload is None else bare + ring.slot_count * round_up(min(payload, ring.slot_bytes), limits.PAGE_BYTES)
    return RingNeed(ring.port, ring.slot_count, ring.slot_bytes, bare, payload, declared, most, sizable)


def _array_bytes(profile: Profile) -> int | None:
    """Size of the arrays of a port, if it declares their type and every axis."""
    if not isinstance(profile, Array) or profile.dtype is None or profile.shape is None:
        return None
    sizes = [size for size in profile.shape if isinstance(size, int)]
    return math.prod(sizes) * int(TYPE_STRINGS[profile.dtype][2:]) if len(sizes) == len(profile.shape) else None


def _certain(ring: RingPlan) -> int:
    """Header and table, and one page per slot."""
    return (1 + ring.slot_count) * limits.PAGE_BYTES + ring.entry_count * ENTRY_TOUCHED_BYTES
