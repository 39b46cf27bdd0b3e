"""Graphs that run on paper: nodes with a work time, edges with a depth and a policy, stepped through a clock that is only a number."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from streamcore.shm.distribution import Distribution
from streamcore.telemetry.history import between
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

STEP_MS = 1.0
BUCKET = 100  # any: means come from sums and counts
DROPPING = ("drop_new", "drop_oldest", "latest")


@dataclass
class Paper:
    """What a node does. `every_ms`: of a source, its pace; 0: as fast as it can. `cpu`, `core_wait`: shares of its working time.

    `joins`: takes one packet of every input at once. `stops_ms`: from then on it takes nothing. `keeps`: packets whose memory it holds.
    """

    work_ms: float = 1.0
    every_ms: float = 0.0
    cpu: float | None = None
    core_wait: float = 0.0
    joins: bool = False
    stops_ms: float = 1e12
    keeps: int = 0
    state: str = "READY"
    paused: bool = False
    noise: float = 0.0
    is_queue: bool = False

    # what happens
    left_ms: float = 0.0
    due_ms: float = 0.0
    began_ms: float = 0.0
    unsent: list[Wire] = field(default_factory=list)
    stored: int = 0
    kept: deque[Wire] = field(default_factory=deque)
    busy_ms: float = 0.0
    idle_ms: float = 0.0
    blocked_ms: float = 0.0
    consumed: int = 0
    produced: int = 0
    works: int = 0


@dataclass
class Wire:
    """What an edge does. `loses`: its packets fail; they are sent again."""

    from_node: str
    to_node: str
    policy: str = "block"
    depth: int = 4
    queue: deque[float] = field(default_factory=deque)
    sent: int = 0
    taken: int = 0
    dropped: int = 0
    in_work: int = 0
    waited_ms: float = 0.0

    @property
    def window(self) -> int:
        return self.depth + 1

    @property
    def has_room(self) -> bool:
        return len(self.queue) < self.depth and len(self.queue) + self.in_work < self.window

    def offer(self, now_ms: float) -> bool:
        """False if the producer has to wait."""
        if not self.has_room:
            if self.policy not in DROPPING:
                return False
            self.sent += 1
            self.dropped += 1
            if self.policy == "drop_new" or not self.queue:
                return True
            self.queue.popleft()
        else:
            self.sent += 1
        self.queue.append(now_ms)
        return True


class Graph:
    """`edges`: "a>b c:latest" style, see `graph`. Times in ms; the clock begins at a second, for 0 means never on a status page."""

    def __init__(self, nodes: dict[str, Paper], wires: list[Wire], seed: int = 1):
        self.nodes, self.wires, self.now_ms, self._random = nodes, wires, 1000.0, random.Random(seed)
        self.inputs = {name: [wire for wire in wires if wire.to_node == name] for name in nodes}
        self.outputs = {name: [wire for wire in wires if wire.from_node == name] for name in nodes}

    def run(self, ms: float) -> None:
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            for name in reversed(self.nodes):
                self._step(name, self.nodes[name])
            self.now_ms += STEP_MS

    def _step(self, name: str, node: Paper) -> None:
        if node.is_queue:
            self._store(name, node)
            return
        if node.unsent:
            node.unsent = [wire for wire in node.unsent if not wire.offer(self.now_ms)]
            if node.unsent:
                node.blocked_ms += STEP_MS
                return
            self._done(name, node)
        budget_ms = STEP_MS
        while budget_ms > 0:
            if node.left_ms <= 0 and not self._take(name, node):
                node.idle_ms += budget_ms
                return
            used_ms = min(budget_ms, node.left_ms)
            node.left_ms -= used_ms
            node.busy_ms += used_ms
            budget_ms -= used_ms
            if node.left_ms <= 1e-9:
                node.left_ms = 0.0
                node.works += 1
                node.unsent = [wire for wire in self.outputs[name] if not wire.offer(self.now_ms)]
                if node.unsent:
                    node.blocked_ms += budget_ms
                    return
                self._done(name, node)

    def _done(self, name: str, node: Paper) -> None:
        node.produced += bool(self.outputs[name])
        while len(node.kept) > node.keeps:
            node.kept.popleft().in_work -= 1

    def _take(self, name: str, node: Paper) -> bool:
        if self.now_ms >= node.stops_ms or node.paused or node.state != "READY":
            return False
        inputs = self.inputs[name]
        if not inputs:
            if self.now_ms < node.due_ms:
                return False
            node.due_ms = max(node.due_ms + node.every_ms, self.now_ms - node.every_ms)
        else:
            full = [wire for wire in inputs if wire.queue]
            if not full or (node.joins and len(full) < len(inputs)):
                return False
            for wire in full if node.joins else [min(full, key=lambda wire: wire.queue[0])]:
                wire.waited_ms += self.now_ms - wire.queue.popleft()
                wire.taken += 1
                wire.in_work += 1
                node.kept.append(wire)
                node.consumed += 1
        node.began_ms = self.now_ms
        node.left_ms = max(0.05, node.work_ms * (1 + node.noise * self._random.uniform(-1, 1)))
        return True

    def _store(self, name: str, node: Paper) -> None:
        """A durable queue takes what comes, and gives as there is room."""
        for wire in self.inputs[name]:
            while wire.queue:
                wire.waited_ms += self.now_ms - wire.queue.popleft()
                wire.taken += 1
                node.consumed += 1
                node.stored += 1
        while node.stored and all(wire.has_room for wire in self.outputs[name]):
            for wire in self.outputs[name]:
                wire.offer(self.now_ms)
            node.stored -= 1
            node.produced += 1
        node.idle_ms += STEP_MS

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._node(name) for name in self.nodes), tuple(map(self._edge, self.wires)))

    def _node(self, name: str) -> NodeRow:
        node = self.nodes[name]
        role = "source" if not self.inputs[name] else "node" if self.outputs[name] else "sink"
        row = NodeRow(name, "paper", role, state=node.state, paused=node.paused, consumed=node.consumed, produced=node.produced)
        row.work_ns, row.wait_ns, row.credit_wait_ns = (round(ms * 1e6) for ms in (node.busy_ms, node.idle_ms, node.blocked_ms))
        row.busy_since_ns = round(node.began_ms * 1e6) if node.left_ms or node.unsent else 0
        row.waits_for_credit, row.leases = int(bool(node.unsent)), len(node.kept)
        row.metrics = {"waiting": float(node.stored)} if node.is_queue else {}
        row.work = Distribution(row.work_ns, ((BUCKET, node.works),) if node.works else ())
        if node.cpu is not None:
            row.cpu_s, row.core_wait_s = (share * node.busy_ms / 1e3 for share in (node.cpu, node.core_wait))
        return row

    def _edge(self, wire: Wire) -> EdgeRow:
        row = EdgeRow(f"{wire.from_node}.out->{wire.to_node}.in", wire.from_node, wire.to_node, wire.policy, wire.depth, wire.window)
        row.sent, row.taken, row.dropped, row.waiting = wire.sent, wire.taken, wire.dropped, len(wire.queue)
        row.in_flight = row.waiting + wire.in_work
        row.completed = row.sent - row.dropped - row.in_flight
        row.credit = max(0, min(wire.depth - row.waiting, wire.window - row.in_flight))
        row.completion = "delivered" if self.nodes[wire.from_node].is_queue else "hop"
        row.wait = Distribution(round(wire.waited_ms * 1e6), ((BUCKET, wire.taken),) if wire.taken else ())
        return row

    def live(self, warm_ms: float = 500, ms: float = 2000):
        """(window, snapshot, its time) of a run that goes on."""
        self.run(warm_ms)
        before = self.snapshot()
        self.run(ms)
        now = self.snapshot()
        return between(before, now, ms / 1e3), now, round(self.now_ms * 1e6)


def graph(text: str, seed: int = 1, **nodes: Paper) -> Graph:
    """Edges "a>b" with ":policy" and "/depth", e.g. "cam>detect:latest/1 detect>file"; nodes that are not given work 1 ms per packet."""
    wires = []
    for word in text.split():
        ends, _, depth = word.partition("/")
        ends, _, policy = ends.partition(":")
        from_node, to_node = ends.split(">")
        wires.append(Wire(from_node, to_node, policy or "block", int(depth or 4)))
    names = dict.fromkeys(name for wire in wires for name in (wire.from_node, wire.to_node))
    return Graph({name: nodes.get(name, Paper()) for name in names}, wires, seed)
