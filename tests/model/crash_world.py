"""What outlives processes in the crash model, and the seeded scheduler: network, coordinator, kills and the witness."""

from __future__ import annotations

import logging
import mmap
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crash_graphs import Graph, drawn
from crash_net import Key, Me, Net, told
from crash_nodes import make_node
from crash_process import Killed, SimProcess, Violation, watch_ring_structs
from crash_witness import Witness

from streamcore.graph.model import EdgePlan
from streamcore.node import channel, exchange, host, inlet, out_edge, outlet
from streamcore.packet import decode_meta
from streamcore.shm import segment
from streamcore.shm.layout import COMMITTED
from streamcore.shm.ring import RingReader, clear_table, geometry, ring_bytes
from streamcore.shm.status import StatusReader, format_status, status_bytes
from streamcore.supervisor.poison import Poison
from streamcore.wire import messages

TICKS_MAX = 30_000
AFTERMATH_MAX = 2
FUSES = (4, 12, 40, 120)  # stores; a packet takes a dozen or two


class Warnings(logging.Handler):
    """Whatever the host logs is a fault here."""

    def __init__(self, world: World):
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.logged.append(record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else ""))


class World(Witness):
    """One run under one seed."""

    def __init__(self, seed: int, kills: int = 6, trace: bool = False):
        self.rng = rng = random.Random(seed)
        self.trace, self.kills = trace, rng.randint(0, kills)
        self.meddling = rng.choice([0, 0, 1])
        self.losing = rng.choice([0, 0, 1])  # whether a death may be a node's last
        self.graph: Graph = drawn(rng)
        self.net = Net(rng)
        self.turn = threading.Lock()
        self.turn.acquire()
        self.clock_ns = 10**12
        self.running: SimProcess | None = None
        self.found = ""  # the first violation
        self.logged: list[str] = []
        self.counts: Counter[str] = Counter()
        self.memory = {shape.id: mmap.mmap(-1, ring_bytes(shape)) for shape in self.graph.rings.values()}
        for shape in self.graph.rings.values():
            clear_table(self.memory[shape.id], geometry(shape))
        for shape in self.graph.rings.values():
            format_rows(self.memory[shape.id], shape)
        self.pages = {name: self._page(name) for name in self.graph.nodes}
        self.live: dict[str, SimProcess] = {}
        self.incarnation = dict.fromkeys(self.graph.nodes, 0)
        self.ready_incarnation = dict.fromkeys(self.graph.nodes, 1)  # the last that was bound
        self.started: set[Me] = set()  # were sent Start
        self.done: set[str] = set()
        self.begun = False
        self.stopped = False
        self.deaths: Counter[str] = Counter()
        self.camera = dict.fromkeys(self.graph.nodes, 0)
        self.gone: set[str] = set()
        self.paused = False
        self.poison = {name: Poison(2) for name in self.graph.nodes}
        self.seen_by: dict[tuple[Me, str], Any] = {}  # the record of the input
        self.poison_deaths: Counter[str] = Counter()
        self.died_late: set[str] = set()  # sources, after their last packet
        self.killers = self._chosen(0.15)  # packets that kill this node's process
        self.bad = self._chosen(0.3)  # packets that make this node raise
        self.failed: dict[str, list[str]] = {name: [] for name in self.graph.nodes}  # poisoned packets, as they were given up
        self.raised: set[tuple[Me, str]] = set()
        self.choosy = random.Random(-1 - seed)  # of what sinks turn away; apart, so that it changes nothing of what is drawn above
        self.turning_away = {name for name in self.graph.nodes if self._may_turn_away(name) and self.choosy.random() < 0.5}
        self.taken: dict[str, set[str]] = {name: set() for name in self.graph.nodes}  # what a sink has not turned away
        self.told: dict[str, set[str]] = {name: set() for name in self.graph.nodes}  # of whose completion a source was told at all
        self.told_ok: dict[str, set[str]] = {name: set() for name in self.graph.nodes}  # what a source was told to be delivered
        self.names_offered: dict[str, list[str]] = {name: [] for name in self.graph.nodes}  # in the order of their first time
        self.names_accepted: dict[str, set[str]] = {name: set() for name in self.graph.nodes}
        self.witness: dict[tuple[str, str], list[tuple[str, bool, int]]] = {(e.from_node, e.to_node): [] for e in self.graph.edges}
        self.log = logging.Logger("crash_model")
        self.log.addHandler(Warnings(self))

    def _chosen(self, chance: float) -> dict[str, str]:
        """For some nodes, the source packet that is special there."""
        sources = [name for name in self.graph.nodes if self.graph.is_source(name)]
        found = {}
        for name in self.graph.nodes:
            if name not in sources and self.rng.random() < chance:
                found[name] = f"{self.rng.choice(sources)}{self.rng.randrange(self.graph.packets)}"
        return found

    def _may_turn_away(self, name: str) -> bool:
        """A sink whose packets are waited for. One that takes several at once would turn away another one than it is about."""
        does = self.graph.nodes[name]
        return self.graph.completion == "delivered" and not self.graph.consumers[name] and not does.retention and does.batch_max == 1

    def _page(self, name: str) -> int:
        plan = self.graph.plans[name]
        rings = {shape.id: shape for shape in self.graph.rings.values()}
        edges = [
            (e.id, rings[e.ring].entry_count if e.to_node == name else 0)
            for e in self.graph.edges
            if e.id in plan.in_edges + plan.out_edges
        ]
        page = segment.create(name, status_bytes(edges))
        format_status(page, edges)
        return page

    # --- the scheduler

    def now_ns(self) -> int:
        self.clock_ns += self.rng.randrange(1_000_000) if self.rng.random() < 0.9 else 200_000_000
        return self.clock_ns

    def run(self) -> None:
        with made_up_clock(self.now_ns), watched_structs(lambda: self.running.fuse):  # type: ignore[union-attr]
            for tick in range(TICKS_MAX):
                choices = self.choices()
                if not choices or self.found:
                    break
                kind, what = self.rng.choice(choices)
                if self.trace and kind != "net":
                    self.say(tick, kind, what, self.live[what].where if kind == "step" else "")
                getattr(self, f"take_{kind}")(what)
                self.counts[kind] += 1
                self.check_all_views()
            else:
                self.violation("no end: processes go round in circles")
        if self.found:
            raise Violation(self.found)

    def choices(self) -> list[tuple[str, Any]]:
        if self.live and self.counts["kill"] < self.kills and self.rng.random() < 0.03:
            return [("kill", self.rng.choice(sorted(self.live)))]
        before_lost = sorted({edge.from_node for edge in self.graph.edges if edge.to_node in self.gone} & set(self.live))
        if before_lost and self.counts["aftermath"] < AFTERMATH_MAX and self.rng.random() < 0.1:
            return [("aftermath", self.rng.choice(before_lost))]
        found: list[tuple[str, Any]] = [("step", name) for name, process in self.live.items() if process.runnable]
        found += [("net", key) for key in self.net.loaded({process.me for process in self.live.values()})]
        found += [("order", name) for name, process in self.live.items() if process.orders]
        found += [("report", name) for name, process in self.live.items() if process.said]
        found += [("spawn", name) for name in self.graph.nodes if name not in self.live and name not in self.done | self.gone]
        found += self.orders_from_outside()
        for name, process in self.live.items():
            if process.host is not None:
                found += [("guard", (name, e)) for e, (_, edge) in process.host.exchange.out_edges.items() if edge.batch_since_ns]
        if self.gone and self.rng.random() < 0.9:  # those behind a lost node are slow: what it left is in their hands for long
            behind = {edge.to_node for edge in self.graph.edges if edge.from_node in self.gone}
            found = [choice for choice in found if choice[0] != "step" or choice[1] not in behind] or found
        return found

    def orders_from_outside(self) -> list[tuple[str, Any]]:
        """What a person does to a run: stop it, pause it, restart or lose a node."""
        rng, chance = self.rng, self.rng.random()
        if self.paused:
            return [("pause", False)]
        if not self.begun or chance > 0.01 * self.meddling:
            return []
        if chance < 0.001:
            return [] if self.stopped else [("stop", None)]
        if chance < 0.004:
            return [("pause", True)]
        name = rng.choice(sorted(self.graph.nodes))
        return [("terminate", name)] if name in self.live and self.live[name].host is not None else []

    def take_stop(self, _: None) -> None:
        self.stopped = True
        for process in self.live.values():
            if process.me in self.started:
                process.orders.append(channel.Stop())

    def take_pause(self, on: bool) -> None:
        self.paused = on
        for process in self.live.values():
            if process.me in self.started:
                process.orders.append(channel.Pause() if on else channel.Resume())

    def take_terminate(self, name: str) -> None:
        self.live[name].terminate()

    def lose(self, name: str) -> None:
        """Its last process is dead."""
        self.say("     ", name, "is gone for good")
        self.counts["lost"] += 1
        self.gone.add(name)
        self.tell_neighbours(name, channel.PeerGone(name))

    def left_on(self, edge: EdgePlan) -> list[tuple[int, int]]:
        """(sequence, what its consumer has marked: an outcome, or -1) of what a producer's ring holds for an edge; one of both is dead.

        SYNC: Segments.left_by, the books of a dead producer.
        """
        rows = RingReader(self.memory[edge.ring], self.graph.rings[edge.from_node]).pending_on(1 << edge.bit)
        reader = StatusReader(self.pages[edge.to_node])
        marks = [(row.sequence, reader.marks(edge.id)[row.entry] - (row.sequence + 1 << messages.MARK_BITS)) for row in rows]
        reader.close()
        return [(sequence, mark if messages.OK <= mark <= messages.LOST else -1) for sequence, mark in marks]

    def outcomes(self, edge: EdgePlan) -> list[channel.Outcomes]:
        """SYNC: Segments.not_well and Recovery._tell_outcomes."""
        return [channel.Outcomes(edge.id, mark, (sequence,)) for sequence, mark in self.left_on(edge) if mark > messages.OK]

    def lost_slots(self, ring: int) -> set[int]:
        """SYNC: Segments.lost_slots."""
        edges = [edge for edge in self.graph.edges if edge.from_node in self.gone]
        readers = [(RingReader(self.memory[edge.ring], self.graph.rings[edge.from_node]), edge) for edge in edges]
        refs = [decode_meta(row.meta).ref for reader, edge in readers for row in reader.pending_on(1 << edge.bit)]
        return {ref.slot for ref in refs if ref is not None and ref.ring == ring}

    def take_spawn(self, name: str) -> None:
        self.incarnation[name] += 1
        self.live[name] = SimProcess(self, name, self.incarnation[name], make_node)

    def take_step(self, name: str) -> None:
        process = self.live[name]
        if process.fuse.left is None and self.counts["kill"] < self.kills and self.rng.random() < 0.03:
            process.fuse.left = self.rng.randrange(self.rng.choice(FUSES))
            self.counts["kill"] += 1
        process.resume()
        if process.ended:
            self.over(process)

    def take_aftermath(self, name: str) -> None:
        """A producer of a lost node dies soon after it: what it knew of the loss dies too."""
        self.take_kill(name)

    def take_kill(self, name: str) -> None:
        process = self.live[name]
        process.fuse.dead = True
        process.resume()
        self.over(process)

    def over(self, process: SimProcess) -> None:
        """The process is gone."""
        self.say("     ", process.me, process.ended)
        del self.live[process.name]
        if process.ended == "done":
            self.done.add(process.name)
            for edge in self.graph.edges:
                if edge.to_node == process.name and edge.from_node in self.live and self.live[edge.from_node].me in self.started:
                    self.live[edge.from_node].orders.extend(self.outcomes(edge))
            self.tell_neighbours(process.name, channel.PeerDone(process.name))
            return
        self.deaths[process.name] += 1
        if self.books(process.name).source_ended:
            self.died_late.add(process.name)
        self.net.killed(process.me)
        self.blame(process)
        if process.ended not in ("killed", "terminated"):
            self.violation(f"{process.me} ended: {process.ended}")
        if self.losing and self.begun and not self.gone and process.ended == "killed" and self.rng.random() < 0.3:
            self.lose(process.name)

    def blame(self, process: SimProcess) -> None:
        """SYNC: coordinator/recovery.py finds the packet under work in the same way."""
        page, plan = self.books(process.name), self.graph.plans[process.name]
        busy = (
            page.incarnation == process.incarnation and plan.role != "source" and page.busy_since_ns and page.current_edge in plan.in_edges
        )
        if process.ended == "killed":
            verdict = self.poison[process.name].on_death((page.current_edge, page.current_sequence) if busy else None, page.consumed)
            self.say("      blames", process.me, busy and (page.current_edge, page.current_sequence), verdict)

    def take_net(self, key: Key) -> None:
        for _ in range(self.rng.choice([1, 1, 1, 3, 10])):
            if self.net.queues.get(key):
                raw = self.net.queues[key].popleft()
                self.live[key[1][0]].inbox.queue.append(raw)
                if self.trace:
                    self.say("net", *key, told(raw))

    def take_guard(self, what: tuple[str, int]) -> None:
        process = self.live[what[0]]
        assert process.host is not None
        try:
            process.host.exchange.out_edges[what[1]][1].flush_batch()
        except Killed:
            process.resume()
            self.over(process)

    def take_order(self, name: str) -> None:
        self.live[name].order(self.live[name].orders.popleft())

    # --- the coordinator

    def take_report(self, name: str) -> None:
        process = self.live[name]
        if process.said.popleft() != "ready":
            return
        self.ready_incarnation[name] = process.incarnation
        if self.begun:
            self.start(process)
            self.tell_neighbours(name, channel.PeerRestarted(name, process.incarnation))
        elif {n for n, p in self.live.items() if self.ready_incarnation[n] == p.incarnation} == set(self.graph.nodes) and self.all_ready():
            self.begun = True
            for each in self.live.values():
                self.start(each)

    def all_ready(self) -> bool:
        return all(process.host is not None and not process.said and process.where != "born" for process in self.live.values())

    def start(self, process: SimProcess) -> None:
        """Peers that are down are named by the incarnation that died, or by the one to come."""
        peers = {}
        for name in sorted(self.graph.neighbours(process.name) - self.done - self.gone):
            peers[name] = self.ready_incarnation[name]
            if name in self.live and self.rng.random() < 0.5:
                peers[name] = self.incarnation[name]
        for edge in self.graph.edges:
            if edge.from_node == process.name and edge.to_node in self.done:
                process.orders.extend(self.outcomes(edge))
        process.orders.append(channel.Start(peers, tuple(sorted(self.done)), tuple(sorted(self.gone))))
        if self.paused:
            process.orders.append(channel.Pause())
        if self.stopped:
            process.orders.append(channel.Stop())
        self.started.add(process.me)

    def tell_neighbours(self, name: str, command: channel.Command) -> None:
        for other in sorted(self.graph.neighbours(name)):
            if other in self.live and self.live[other].me in self.started:
                self.live[other].orders.append(command)

    # --- the end

    def close(self) -> None:
        for process in list(self.live.values()):
            process.fuse.dead = True
            process.resume()
        self.live.clear()
        for page in self.pages.values():
            os.close(page)

    def books(self, name: str) -> Any:
        reader = StatusReader(self.pages[name])
        found = reader.read()
        reader.close()
        return found

    def committed_rows(self, name: str) -> list[int]:
        shape = self.graph.rings[name]
        rows = memoryview(self.memory[shape.id])[4096 : 4096 + 64 * shape.entry_count].cast("I")
        return [entry for entry in range(shape.entry_count) if rows[entry * 16 + 2] == COMMITTED and rows[entry * 16 + 3]]


def format_rows(memory: mmap.mmap, shape: Any) -> None:
    """The part of format_ring that the writer looks at."""
    for entry in range(shape.entry_count):
        memory[4096 + entry * 64 : 4096 + entry * 64 + 8] = b"\xff" * 8


@contextmanager
def made_up_clock(now_ns: Callable[[], int]) -> Iterator[None]:
    rooms = [room for room in (exchange, host, inlet, out_edge, outlet) if hasattr(room, "monotonic_ns")]
    before = [room.monotonic_ns for room in rooms]
    for room in rooms:
        room.monotonic_ns = now_ns
    yield
    for room, real in zip(rooms, before, strict=True):
        room.monotonic_ns = real


@contextmanager
def watched_structs(running: Callable[[], Any]) -> Iterator[None]:
    undo = watch_ring_structs(running)
    yield
    undo()
