"""The edge model over a range of seeds; and over broken parts, in which it has to find what is wrong."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from streamcore.node.inlet import Inlet
from streamcore.node.lease import Record
from streamcore.node.out_edge import OutEdge
from streamcore.shm.ring import RingWriter
from streamcore.wire.credit import EdgeCredit

sys.path.insert(0, str(Path(__file__).parent))
from edge_model import Violation, World, explore

SEEDS_PER_BLOCK = 100
BLOCKS = 8


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_schedule_breaks_a_promise(block):
    counts: Counter[str] = Counter()
    for seed in range(block * SEEDS_PER_BLOCK, (block + 1) * SEEDS_PER_BLOCK):
        counts += explore(seed)
    assert counts["packets"] > 10 * SEEDS_PER_BLOCK
    assert counts["dropped"] > 0
    assert counts["death"] > 0


def test_a_seed_gives_the_same_schedule_again():
    # A violation that cannot be seen again cannot be mended.
    assert explore(7) == explore(7)
    assert explore(7) != explore(8)


def test_the_seeds_reach_every_shape_policy_and_kind_of_output():
    seen: set[str] = set()
    for seed in range(SEEDS_PER_BLOCK * BLOCKS):
        world = World(seed)
        seen |= {world.topology.shape, world.topology.completion} | {policy for policy, _ in world.topology.policies.values()}
        seen |= {kind for node in world.topology.nodes.values() for kind in node.outputs}
        world.close()
    assert seen >= {"one hop", "chain", "long chain", "side sink", "diamond", "short cut", "two sources"}
    assert seen >= {"block", "drop_new", "drop_oldest", "latest", "sample", "whole", "crop", "flip", "copy", "json", "hop", "delivered"}


def complete_too_early(record: Record) -> None:
    """As if a packet were completed when process() has returned, whoever still looks at it."""
    record.uses = record.outputs = 0
    record.complete(record)


def free_too_early(writer: RingWriter, entry: int, sequence: int, bit: int) -> bool | None:
    """As if the first edge to complete a packet completed it for all."""
    return whole_complete(writer, entry, sequence, bit) is not None and [whole_complete(writer, entry, sequence, b) for b in (1, 2)] != []


def forget_completions(inlet: Inlet, now_ns: int) -> None:
    inlet._completions = inlet._completions[1:]
    whole_flush(inlet, now_ns)


whole_complete, whole_flush, whole_end = RingWriter.complete, Inlet.flush, OutEdge.end

BROKEN = {
    "a packet is completed while it is looked at": (Record, "settle", complete_too_early, "looks at packet"),
    "a slot is freed by the first of two edges": (RingWriter, "complete", free_too_early, "looks at packet|deadlock"),
    "a completion is lost": (Inlet, "flush", forget_completions, "deadlock"),
    "what was kept is forgotten": (EdgeCredit, "next_kept", lambda credit: None, "deadlock"),
    "a batch is never sent": (OutEdge, "flush_batch", lambda edge: None, "deadlock|no end"),
    "the end is told before what was kept": (
        OutEdge,
        "end",
        lambda edge, last: (edge.credit.kept.clear(), whole_end(edge, last))[1],
        "only|books|deadlock|still in use",
    ),
    "one more packet than the depth is sent": (
        EdgeCredit,
        "has_credit",
        property(lambda credit: credit.untaken <= credit.depth and credit.in_flight < credit.window),
        "untaken",
    ),
}


@pytest.mark.source
@pytest.mark.parametrize(("where", "name", "broken", "violation"), BROKEN.values(), ids=BROKEN.keys())
def test_the_model_finds_what_is_broken(monkeypatch, where, name, broken, violation):
    # A model that never objects proves nothing.
    monkeypatch.setattr(where, name, broken)
    with pytest.raises(Violation, match=violation):
        explore_many(300)


def explore_many(seeds: int) -> None:
    for seed in range(seeds):
        explore(seed)
