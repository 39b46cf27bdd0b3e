"""What the node code of the crash model reports of its packets, and what chance lets it do to them."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from crash_nodes import check_views

from streamcore.packet import StreamPacket
from streamcore.wire import messages

if TYPE_CHECKING:
    from crash_graphs import Graph
    from crash_net import Me
    from crash_process import SimProcess


def name_of(packet: StreamPacket) -> str:
    name: str = packet.meta["name"]  # type: ignore[index]
    return name


class Witness:
    """The part of a World that node code sees."""

    trace: bool
    found: str
    graph: Graph
    choosy: random.Random
    counts: Counter[str]
    live: dict[str, SimProcess]
    deaths: Counter[str]
    poison_deaths: Counter[str]
    seen_by: dict[tuple[Me, str], Any]
    killers: dict[str, str]
    bad: dict[str, str]
    failed: dict[str, list[str]]
    raised: set[tuple[Me, str]]
    turning_away: set[str]
    taken: dict[str, set[str]]
    told: dict[str, set[str]]
    told_ok: dict[str, set[str]]
    names_offered: dict[str, list[str]]
    names_accepted: dict[str, set[str]]
    witness: dict[tuple[str, str], list[tuple[str, bool, int]]]

    def say(self, *what: Any) -> None:
        if self.trace:
            print(*what, flush=True)

    def violation(self, text: str) -> None:
        self.found = self.found or text

    def offered(self, process: SimProcess, name: str) -> None:
        made, is_source = self.names_accepted[process.name], self.graph.is_source(process.name)
        if name in made and is_source and not self.graph.nodes[process.name].is_told:
            self.violation(f"{process.me} makes {name} again, which was emitted")
        if name not in self.names_offered[process.name]:
            self.names_offered[process.name].append(name)
        self.say("      offers", process.me, name)

    def accepted(self, process: SimProcess, name: str) -> None:
        self.say("      emitted", process.me, name)
        self.names_accepted[process.name].add(name)

    def arrived(self, process: SimProcess, packet: StreamPacket) -> None:
        seen = self.witness[packet.parent.inlet.plan.from_node, process.name]
        name = name_of(packet)
        if (process.me, name) in self.raised:
            return  # the host tries again
        if not packet.redelivered and any(name == before for before, _, _ in seen):
            self.violation(f"{process.me}: repeat of {name} is not flagged")
        before = self.seen_by.get((process.me, name))
        # What failed further on may come again: its producer may have died before it heard of that.
        if before is not None and not (before.inlet.delivered and before.outcome >= messages.REFUSED):
            self.violation(f"{process.me}: {name} came twice to one incarnation")
        self.seen_by[process.me, name] = packet.parent
        seen.append((name, packet.redelivered, packet.sequence))
        self.say("      arrives", process.me, name, "again" if packet.redelivered else "")

    def turns_away(self, process: SimProcess, packet: StreamPacket) -> bool:
        """Whether a sink has no room for this packet now. The next time it may have."""
        name = name_of(packet)
        if process.name in self.turning_away and self.choosy.random() < 0.3:
            self.say("      turns away", process.me, name)
            self.counts["turned away"] += 1
            return True
        self.taken[process.name].add(name)
        return False

    def completed(self, process: SimProcess, packet: StreamPacket, outcome: str) -> None:
        self.say("      is told", process.me, name_of(packet), outcome)
        self.counts[f"told {outcome}"] += 1
        self.told[process.name].add(name_of(packet))
        if outcome == "ok":
            self.told_ok[process.name].add(name_of(packet))

    def kills_by_poison(self, process: SimProcess, packet: StreamPacket) -> bool:
        kills = name_of(packet).partition(".")[0] == self.killers.get(process.name)
        self.poison_deaths[process.name] += kills
        return kills

    def fails(self, process: SimProcess, packet: StreamPacket, where: str) -> bool:
        """Whether node code raises over this packet: always, or only the first time if it is to be retried."""
        name, does = name_of(packet), self.graph.nodes[process.name]
        if does.retention or does.batch_max > 1:  # it would fail another one than it is about
            return False
        if name.partition(".")[0] != self.bad.get(process.name) or (does.fan > 1) != (where == "between"):
            return False
        if does.on_error == "retry" and (process.me, name) in self.raised:
            return False
        self.raised.add((process.me, name))
        return True

    def saw_poisoned(self, process: SimProcess, packet: StreamPacket) -> None:
        self.say("      given up", process.me, name_of(packet))
        self.failed[process.name].append(name_of(packet))
        innocent = name_of(packet).partition(".")[0] != self.killers.get(process.name)
        if innocent and self.deaths[process.name] == self.poison_deaths[process.name]:
            self.violation(f"{process.me} gave up {name_of(packet)}, but {self.killers[process.name]} kills")

    def check_all_views(self) -> None:
        for process in self.live.values():
            check_views(process)
