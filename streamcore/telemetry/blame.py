"""Who waits for whom in a window of a run, and who of them is the one that the others wait for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from streamcore.telemetry.history import EdgeRates, NodeRates, Quantiles, Window
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

Kind = Literal[
    "nothing",
    "single",
    "starting",
    "paused",
    "backoff",
    "failed",
    "stalled",
    "slow_code",
    "cpu_bound",
    "cores",
    "sink",
    "drops",
    "balanced",
    "source",
    "fan_in",
    "shallow_edge",
    "holds_packets",
    "queue",
]  # of what holds a graph back

BUSY_SHARE = 0.7  # a node that works this much of the time has no room for more; below, the graph waits for its sources
WAITS_SHARE = 0.3  # who computes less of its working time waits inside its own code
HELD_SHARE = 0.1  # a wait for credits below this share is the ordinary jitter of a pipeline
DROPPED_SHARE = 0.02  # an edge that drops less had a hiccup
DROPPED_MIN = 2.0
OUTGROWN_SHARE = 0.05  # of what comes in a queue does not get rid: less is jitter
NO_RATES = NodeRates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, Quantiles(), Quantiles())
LOSSY = ("drop_new", "drop_oldest", "latest")  # `sample` drops by its rate, whoever the consumer is


@dataclass(eq=False)
class Stage:
    """One node. `busy` and `blocked`: shares of the window; `packets_per_s`: taken, of a source given; `work_s`: per packet or batch;
    `blocked_s`: per packet; `calls_s`: how long it has been in one call, of a live node.
    """

    row: NodeRow
    rates: NodeRates
    busy: float
    blocked: float
    calls_s: float = 0.0
    inputs: list[Link] = field(default_factory=list)
    outputs: list[Link] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def packets_per_s(self) -> float:
        return self.rates.consumed or self.rates.produced

    @property
    def work_s(self) -> float:
        if self.rates.work.mean_ns is not None:
            return self.rates.work.mean_ns / 1e9
        return self.busy / self.packets_per_s if self.packets_per_s else 0.0

    @property
    def blocked_s(self) -> float:
        return self.blocked / self.packets_per_s if self.packets_per_s else 0.0

    @property
    def wait_s(self) -> float:
        """Per packet, in front of it, over all inputs."""
        waits = [link.rates.wait for link in self.inputs if link.rates.wait.mean_ns is not None]
        count = sum(wait.count for wait in waits)
        return sum((wait.mean_ns or 0.0) * wait.count for wait in waits) / count / 1e9 if count else 0.0

    @property
    def wants_cpu(self) -> float | None:
        """The share of its working time that it computes, or would if it had a core; None if it is not known."""
        cpu = self.rates.cpu
        return None if cpu is None or not self.busy else (cpu + (self.rates.core_wait or 0.0)) / self.busy

    @property
    def backlog(self) -> float:
        """Of a durable queue: packets that wait on the disk, or are being delivered."""
        delivers = any(link.edge.completion == "delivered" for link in self.outputs)
        return self.row.metrics.get("waiting", 0.0) if delivers else 0.0


@dataclass(eq=False)
class Link:
    """One edge. `held`: how much it holds back what comes, 0 to 1: the share of the time its producer waits for it, of the packets that it
    drops, or of those that stay in the queue before it.
    """

    edge: EdgeRow
    rates: EdgeRates
    producer: Stage
    consumer: Stage
    held: float = 0.0

    @property
    def blocks(self) -> bool:
        return self.edge.policy not in LOSSY and self.edge.policy != "sample"

    @property
    def dropped_share(self) -> float:
        return min(1.0, self.rates.dropped / self.rates.sent) if self.rates.sent else 0.0

    @property
    def holds(self) -> bool:
        return self.held >= (HELD_SHARE if self.blocks else DROPPED_SHARE)


class Flow:
    """The graph with what happened in it. `now_ns`: when `now` was taken, 0 of a run that has ended."""

    def __init__(self, window: Window, now: Snapshot, now_ns: int):
        self.live, self.seconds = now_ns > 0, max(window.seconds, 1e-9)
        full = {edge.from_node for edge in now.edges if edge.policy == "block" and not edge.credit}
        self.stages = {
            row.id: self._stage(row, window.nodes[row.id], row.id in full, now_ns) for row in now.nodes if row.id in window.nodes
        }
        self.links: list[Link] = []
        for edge in now.edges:
            producer, consumer = self.stages.get(edge.from_node), self.stages.get(edge.to_node)
            if producer is not None and consumer is not None and edge.name in window.edges:
                link = Link(edge, window.edges[edge.name], producer, consumer)
                self.links.append(link)
                producer.outputs.append(link)
                consumer.inputs.append(link)
        self._blamed = {stage.id: self._blame(stage) for stage in self.stages.values()}
        for link in self.links:
            link.held = self._held(link)

    def _stage(self, row: NodeRow, rates: NodeRates, full: bool, now_ns: int) -> Stage:
        """The pages count a time when it is over. What is not counted yet, the node spends as it does now."""
        busy, blocked, calls_s = rates.busy, rates.blocked, 0.0
        if row.busy_since_ns and now_ns > row.busy_since_ns:
            since_s = (now_ns - row.busy_since_ns) / 1e9
            uncounted = min(max(0.0, 1.0 - busy - blocked - rates.idle), since_s / self.seconds)
            if not row.waits_for_credit:
                busy, calls_s = busy + uncounted, since_s
            elif full:
                blocked += uncounted
        return Stage(row, rates, min(1.0, busy), min(1.0, blocked), calls_s)

    def _blame(self, stage: Stage) -> Link | None:
        """For which of its edges a node waits: that to whom has the least time to spare, and of them the one with the longest queue."""
        if stage.blocked < HELD_SHARE:
            return None
        links = [link for link in stage.outputs if link.blocks and link.consumer is not stage]

        def slack(link: Link) -> tuple[bool, float, float]:
            consumer = link.consumer
            return not link.edge.credit and self.live, consumer.busy + consumer.blocked, link.rates.wait.mean_ns or 0.0

        return max(links, key=slack, default=None)

    def _held(self, link: Link) -> float:
        if not link.blocks:
            return link.dropped_share if link.rates.dropped * self.seconds >= DROPPED_MIN else 0.0
        producer = link.producer
        if producer.backlog > max(1, link.edge.window):  # it never waits for a credit: its packets wait on the disk
            comes, goes = sum(into.rates.taken for into in producer.inputs), link.rates.completed
            grows = 1.0 - goes / comes if comes > goes * (1 + OUTGROWN_SHARE) else 0.0
            return 1.0 if self.live and not link.edge.credit else max(0.0, grows)
        return producer.blocked if self._blamed[producer.id] is link else 0.0

    def culprit_of(self, link: Link) -> Stage:
        """The node that an edge holds packets back for: its consumer, or one for which that one waits more than it works."""
        found, seen = link.consumer, {link.consumer.id}
        while (onward := self._blamed[found.id]) is not None:
            if onward.consumer.id in seen or onward.consumer.busy + onward.consumer.blocked < found.busy:
                break
            found = onward.consumer
            seen.add(found.id)
        return found

    def held_by(self, culprit: Stage) -> list[Link]:
        """The edges that hold packets back for it, however far upstream."""
        return [link for link in self.links if link.holds and self.culprit_of(link) is culprit]

    def upstream(self, stage: Stage) -> Iterator[Stage]:
        """All that feed it, nearest first, itself not among them."""
        seen, reached = {stage.id}, [stage]
        for at in reached:
            for link in at.inputs:
                if link.producer.id not in seen:
                    seen.add(link.producer.id)
                    reached.append(link.producer)
                    yield link.producer

    def share_of_end_to_end(self, culprit: Stage) -> float | None:
        """How much of the time that a packet takes from a source to a sink, on the longest way through `culprit`, is its doing: 0 to 1.

        At each node a packet takes the mean wait in front of it, the mean work on it, and the mean wait for credits with its results. Its
        doing are all three at itself, its queue included, and both waits at nodes that wait for it. None if nothing was measured.
        """
        theirs = {link.producer.id for link in self.held_by(culprit) if link.blocks}
        own_s = {culprit.id: culprit.wait_s + culprit.work_s + culprit.blocked_s}
        for stage in self.stages.values():
            if stage is not culprit:
                waits_for_it = stage.id in theirs
                own_s[stage.id] = stage.blocked_s + (stage.wait_s if stage.inputs else 0.0) if waits_for_it else 0.0
        total = {stage.id: stage.wait_s + stage.work_s + stage.blocked_s for stage in self.stages.values()}
        if not any(link.rates.wait.count for link in culprit.inputs + culprit.outputs):
            return None
        before, mine_before = self._longest(culprit, total, own_s, down=False)
        after, mine_after = self._longest(culprit, total, own_s, down=True)
        whole = before + total[culprit.id] + after
        return min(1.0, (mine_before + own_s[culprit.id] + mine_after) / whole) if whole > 0 else None

    def _longest(self, start: Stage, total: dict[str, float], own_s: dict[str, float], *, down: bool) -> tuple[float, float]:
        """(time, time that is the culprit's doing) of the longest way from `start` to an end of the graph, `start` left out.

        A node of a cycle is passed once.
        """

        def following(stage: Stage) -> list[Stage]:
            return [link.consumer for link in stage.outputs] if down else [link.producer for link in stage.inputs]

        best: dict[str, tuple[float, float]] = {}
        stack, entered = [start], {start.id}
        while stack:
            stage = stack[-1]
            further = [other for other in following(stage) if other.id not in entered]
            if further:
                stack.append(further[0])
                entered.add(further[0].id)
                continue
            stack.pop()
            found = max((best[other.id] for other in following(stage) if other.id in best), default=(0.0, 0.0))
            mine = (0.0, 0.0) if stage is start else (total[stage.id], own_s[stage.id])
            best[stage.id] = (found[0] + mine[0], found[1] + mine[1])
        return best[start.id]
