"""One packet's way as stretches of time that lie within each other, as tools for traces draw them. Pure."""

from __future__ import annotations

import msgspec

from streamcore.telemetry.traces import Hop, Trace

PACKET, WAIT, WORK = "packet", "wait", "work"  # names of stretches; between them, one by the name of each node
PER_HOP = 3


class Stretch(msgspec.Struct, frozen=True):
    """From `start_ns` to `end_ns`, monotonic. `parent`: the place in the list of the one that it lies in; -1: the packet itself."""

    name: str
    parent: int
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, str | int | bool]


def count(trace: Trace) -> int:
    """How many `stretches` makes of it."""
    return 1 + PER_HOP * len(trace.hops)


def stretches(trace: Trace) -> list[Stretch]:
    """The packet, then for each hop the node, and within it `wait` and `work`.

    A hop begins when the one before was left, so nothing lies between two. `wait` is the time queued, `work` the time inside node code and
    what the node was blocked meanwhile; what is left of the hop after them is the time held. Each part's length is an attribute.
    """
    ends_ns = trace.began_ns + sum(hop.wait_ns + hop.work_ns for hop in trace.hops)
    about: dict[str, str | int | bool] = {"source": trace.source, "sequence": trace.sequence, "failed": trace.failed}
    found = [Stretch(PACKET, -1, trace.began_ns, ends_ns, trace.failed, about)]
    at_ns = trace.began_ns
    for number, hop in enumerate(trace.hops):
        failed = trace.failed and number == len(trace.hops) - 1
        found += _of_hop(hop, at_ns, len(found), failed)
        at_ns = found[-PER_HOP].end_ns
    return found


def _of_hop(hop: Hop, start_ns: int, place: int, failed: bool) -> list[Stretch]:
    taken_ns = start_ns + hop.queued_ns
    done_ns = taken_ns + hop.blocked_ns + hop.work_ns
    about: dict[str, str | int | bool] = {"edge": hop.edge} if hop.edge else {}
    about |= {f"{part}_ns": getattr(hop, f"{part}_ns") for part in ("wait", "work", "queued", "blocked", "held")}
    return [
        Stretch(hop.node, 0, start_ns, done_ns + hop.held_ns, failed, about),
        Stretch(WAIT, place, start_ns, taken_ns, False, {}),
        Stretch(WORK, place, taken_ns, done_ns, failed, {"blocked_ns": hop.blocked_ns}),
    ]
