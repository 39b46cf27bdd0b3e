"""Edges under every schedule that a seed can make: the real rings, credits, outlets, inlets and exchanges of several nodes in one thread.

Nothing but the network, the clock and the node code is made up. Connections are FIFO queues, and a seeded scheduler picks what happens
next: a process goes on to its next yield, one message reaches an inbox, the guard sends a batch, a process dies for good, its neighbours
are told. A step of a process ends wherever a real one could be interrupted by what others do. What outlives a process (rings, the books of
the witness) belongs to World, what dies with it to Process.

    python edge_model.py --seeds 20000          explore; prints the first violation with its seed, or the counts
    python edge_model.py --seed 17 --trace      replay one schedule, step by step

Checked after every step: each view that a node holds shows the bytes of its own packet, so no slot is overwritten while somebody may look
at it; never more than depth packets untaken or window under way. At the end: books balance, `block` has lost nothing and kept the order,
the other policies what they promise, and every row and slot is free.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
from edge_process import Name, Net, Process, Violation
from topologies import Edge, Topology, planned

from streamcore.errors import RingFull
from streamcore.node.outlet import Outlet
from streamcore.packet import StreamPacket
from streamcore.shm.ring import clear_table, geometry, ring_bytes
from streamcore.shm.status import StatusReader

STEPS_MAX = 20_000


class World:
    """A run: topology, rings, network, and what the witnesses saw. One seed, one schedule."""

    def __init__(self, seed: int, trace: bool = False, all_mortal: bool = False):
        self.rng = random.Random(seed)
        self.trace, self.all_mortal = trace, all_mortal
        self.topology = Topology.drawn(self.rng)
        self.packets = 30 if any(depth > 8 for _, depth in self.topology.policies.values()) else 12  # enough to fill a batch
        self.port, self.edges, shapes = planned(self.topology)
        self.rings = {shape.id: (mmap.mmap(-1, ring_bytes(shape)), shape) for shape in shapes}
        for memory, shape in self.rings.values():
            clear_table(memory, geometry(shape))
        self.net = Net()
        self.clock_ns = 0
        self.sent: dict[str, list[Name]] = {name: [] for name in self.topology.nodes}
        self.seen: dict[tuple[str, str], list[Name]] = {(edge.from_node, edge.to_node): [] for edge in self.edges}
        self.counts: Counter[str] = Counter()
        self.processes = {name: Process(self, name) for name in self.topology.nodes}
        self.dead: dict[str, Process] = {}
        self.untold: list[tuple[str, str]] = []  # (process, dead peer): the coordinator's word is on its way
        self.doomed = self.rng.choice(self.mortal) if self.mortal and self.rng.random() < 0.3 else ""

    @property
    def mortal(self) -> list[str]:
        """Nodes that may go for good. Not those that forward: their producers take rows back that others still look at through them."""
        forwarding = {name for name, node in self.topology.nodes.items() if {"whole", "crop", "flip"} & set(node.outputs)}
        forwarding &= {name for name, process in self.processes.items() if process.outlet and process.exchange.inlets}
        return [name for name in self.processes if self.all_mortal or name not in forwarding]

    def now_ns(self) -> int:
        self.clock_ns += self.rng.randrange(200_000_000)
        return self.clock_ns

    def emitted(self, node: str, name: Name) -> None:
        self.sent[node].append(name)

    def arrived(self, process: Process, packet: StreamPacket) -> None:
        number, index = packet.meta["name"]
        self.seen[packet.parent.inlet.plan.from_node, process.name].append((number, index))
        self.check_view(process, packet)

    def run(self) -> None:
        with mock.patch("streamcore.node.outlet.monotonic_ns", self.now_ns):
            for tick in range(STEPS_MAX):
                choices = self.choices()
                if not choices:
                    break
                kind, what = self.rng.choice(choices)
                if self.trace:
                    print(tick, kind, what, self.processes[what].where if kind == "step" else "")
                self.take(kind, what)
                self.check_step()
            else:
                raise Violation("no end: processes go round in circles")
        self.check_end()

    def choices(self) -> list[tuple[str, Any]]:
        steps: list[tuple[str, Any]] = [("step", name) for name, process in self.processes.items() if process.can_step]
        steps += [("told", pair) for pair in self.untold]
        if self.doomed in self.processes and self.rng.random() < 0.02:
            steps.append(("death", self.doomed))
        steps += [("net", key) for key in self.net.loaded() if key[1] in self.processes]
        return steps + [("guard", edge) for edge in self.batches()]

    def batches(self) -> list[tuple[str, int]]:
        return [(n, number) for n, p in self.processes.items() for number, (_, e) in p.exchange.out_edges.items() if e.batch_since_ns]

    def take(self, kind: str, what: Any) -> None:
        self.counts[kind] += 1
        if kind == "net":
            self.processes[what[1]].inbox.queue.append(self.net.queues[what].popleft())
        elif kind == "death":
            self.kill(what)
        elif kind == "told":
            self.untold.remove(what)
            self.processes[what[0]].tell_gone(what[1])
        elif kind == "guard":
            self.processes[what[0]].exchange.out_edges[what[1]][1].flush_batch()
        else:
            self.processes[what].step()

    def kill(self, name: str) -> None:
        """What dies with a process: all that it knew and held, and what was on its way to it."""
        process = self.dead[name] = self.processes.pop(name)
        process.die()
        self.net.cut(name, self.rng)
        touching = {node for edge in self.edges if name in (edge.from_node, edge.to_node) for node in (edge.from_node, edge.to_node)}
        self.untold += [(other, name) for other in sorted(touching - {name})]

    # --- promises

    def check_view(self, process: Process, packet: StreamPacket) -> None:
        number = packet.meta["name"][0]
        if isinstance(packet.payload, np.ndarray) and not (packet.payload == number + 1).all():
            raise Violation(f"{process.name} looks at packet {number} and sees {packet.payload.tolist()}")

    def check_step(self) -> None:
        for process in self.processes.values():
            for packet in process.held:
                self.check_view(process, packet)
            for _, edge in process.exchange.out_edges.values():
                if edge.credit.untaken > edge.plan.depth or edge.credit.in_flight > edge.plan.window + edge.plan.kept:
                    raise Violation(f"edge {edge.plan.name}: {edge.credit.untaken} untaken, {edge.credit.in_flight} in flight")

    def check_end(self) -> None:
        stuck = [f"{name} at {process.where!r}" for name, process in self.processes.items() if process.where is not None]
        if stuck:
            raise Violation(f"deadlock: {', '.join(stuck)}")
        for name, process in self.processes.items():
            books = StatusReader(process.page).read().edges
            for number, (_, edge) in process.exchange.out_edges.items():
                if edge.gone:
                    self.check_gone(edge.plan, books[number], self.sent[name])
                    continue
                self.check_edge(edge.plan, books[number], self.sent[name], self.seen[name, edge.plan.to_node])
            if process.outlet:
                self.check_ring(process.outlet)
            for inlet in process.exchange.inlets.values():
                late = inlet.plan.from_node in self.dead  # what a dead producer had sent may come after the word of its death
                if inlet.under_way or (inlet.waiting and not late):
                    raise Violation(f"edge {inlet.plan.name}: {inlet.under_way} packets still held, {inlet.waiting} waiting")

    def check_edge(self, plan: Edge, books: Any, sent: list[Name], seen: list[Name]) -> None:
        self.counts["packets"] += len(sent)
        self.counts["dropped"] += books.dropped
        found = (books.sent, books.completed, books.dropped, books.failed, books.in_flight)
        dropped, failed = len(sent) - len(seen), 0
        if plan.completion == "delivered":  # what was dropped or lost further on counts as that here too
            dropped, failed = max(dropped, books.dropped), books.failed
        if found != (len(sent), len(sent) - dropped - failed, dropped, failed, 0):
            raise Violation(f"edge {plan.name}: {len(sent)} sent, {len(seen)} seen, the books say {found}")
        rest = iter(sent)
        if not all(name in rest for name in seen):
            raise Violation(f"edge {plan.name}: {seen} is not in the order of {sent}")
        newest = sent[-plan.kept :] if plan.kept else []
        promised = {"block": sent, "drop_oldest": newest, "latest": newest, "drop_new": sent[:1], "sample": sent[:1]}
        if not set(promised[plan.policy]) <= set(seen):
            raise Violation(f"edge {plan.name} ({plan.policy}): {sent} was sent, only {seen} arrived")

    def check_gone(self, plan: Edge, books: Any, sent: list[Name]) -> None:
        if books.sent != len(sent) or books.sent != books.completed + books.dropped + books.failed or books.in_flight:
            raise Violation(f"edge {plan.name}, whose consumer is gone: {len(sent)} sent, the books say {books}")

    def check_ring(self, outlet: Outlet) -> None:
        writer = outlet.writer
        loans = []
        try:
            loans = [outlet.loan((1,), np.uint8, 0) for _ in range(writer.shape.slot_count)]
        except RingFull:
            raise Violation(f"{outlet.full_name}: only {len(loans)} of {writer.shape.slot_count} slots came back") from None
        if writer.free_entries != writer.geometry.entry_count:
            raise Violation(f"{outlet.full_name}: rows still in use: {[row for e in outlet.edges for row in writer.pending_on(e.bit)]}")

    def close(self) -> None:
        for process in (*self.processes.values(), *self.dead.values()):
            process.die()
            os.close(process.page)


def explore(seed: int, trace: bool = False, all_mortal: bool = False) -> Counter[str]:
    """Run one schedule. Raises Violation, with the seed and the topology in its text."""
    world = World(seed, trace, all_mortal)
    try:
        world.run()
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}\n  {world.topology}") from None
    finally:
        world.close()
    return world.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--all-mortal", action="store_true", help="let nodes that forward go for good as well")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    for seed in [given.seed] if given.seed is not None else range(given.seeds):
        counts += explore(seed, given.trace, given.all_mortal)
    print("no violation;", dict(counts))


if __name__ == "__main__":
    main()
