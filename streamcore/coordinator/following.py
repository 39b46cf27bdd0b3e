"""Who waits for the next event of a run: nodes that follow it (the source core.health), and those who ask over the control socket.

A node that follows a run must not keep it up, nor miss what is told at its end. So it is told that nothing more is to come when all nodes
that it does not feed are done, in a run that ends by itself and in one that drains. If it feeds all of them, it is a source like others.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from typing import Any

from streamcore.control.server import Later
from streamcore.coordinator.chronicle import Chronicle
from streamcore.coordinator.course import END_OF_STREAM, READY, STARTING
from streamcore.coordinator.member import Member
from streamcore.errors import RunError
from streamcore.graph.model import Plan
from streamcore.node import channel
from streamcore.supervisor import states
from streamcore.supervisor.loop import Loop, Timer

WAITING_MAX = 64  # askers over the control socket: each is a person or a program that looks on
ASKS_AGAIN_NS = 1_000_000_000  # on a busy box; who has not asked again by then is gone
_OVER = (states.DONE, states.FAILED)


class Following:
    """`on_follow` and `answer` take who waits; `on_event` of the chronicle is ours. Events of one turn are told together, in the next."""

    def __init__(self, plan: Plan, members: Mapping[str, Member], chronicle: Chronicle, loop: Loop, phase: Callable[[], str]):
        self._members, self._chronicle, self._loop, self._phase = members, chronicle, loop, phase
        self._after: dict[str, set[str]] = {node.id: set() for node in plan.nodes}
        for edge in plan.edges:
            self._after[edge.from_node].add(edge.to_node)
        self._fed: set[str] = set()  # the nodes that follow the run, and all that they feed
        self._waiting: dict[str, tuple[int, int]] = {}  # node to incarnation and the number of the last event that it has
        self._askers: dict[Later, tuple[int, Timer]] = {}
        self._answered: list[int] = []  # when those were answered, in ns, who waited for events and have not asked again
        self._is_last = False
        self._is_due = False
        chronicle.on_event = self._on_event

    def on_follow(self, member: Member, follow: channel.Follow) -> None:
        self._fed |= self._reached(member.id)
        self._waiting[member.id] = (member.incarnation, follow.after)
        self._on_event()

    def answer(self, since: int, wait_s: float) -> dict[str, Any] | Later:
        """Raises RunError if too many wait."""
        if wait_s and self._answered:
            self._answered.pop()
        if wait_s == 0 or since < self._chronicle.journal.last:
            return self._reply(since, waits=wait_s > 0)
        if len(self._askers) >= WAITING_MAX:
            raise RunError(f"{WAITING_MAX} others wait for its events; ask without waiting, or later")
        later = Later()
        self._askers[later] = (since, self._loop.after(wait_s, lambda: self._answer_one(later)))
        return later

    def _reached(self, node: str) -> set[str]:
        """A node and all that its packets may lead to."""
        found, to_see = {node}, [node]
        while to_see:
            new = self._after[to_see.pop()] - found
            found |= new
            to_see += new
        return found

    # --- telling

    def _on_event(self) -> None:
        if not self._is_due and (self._waiting or self._askers or self._is_over):
            self._is_due = True
            self._loop.after(0, self.tell)

    def tell(self) -> None:
        """Answer whoever waits and can be answered."""
        if self._is_over and self._phase() == READY:
            self._chronicle.end_of_stream(END_OF_STREAM)
        self._is_due = False
        for later, (since, _) in list(self._askers.items()):
            if since < self._chronicle.journal.last:
                self._answer_one(later)
        for node, (incarnation, after) in list(self._waiting.items()):
            self._tell_node(self._members[node], incarnation, after)

    def last_words(self, serve: Callable[[], bool], fd: int) -> None:
        """The last event is there, and the loop does not turn again: tell who waits, and who was answered just now and asks for more.

        serve, fd: the control socket's, for requests that are still to come.
        """
        self._is_last = True
        self.tell()
        while self._answered and (left_ns := self._answered[-1] + ASKS_AGAIN_NS - self._loop.now_ns()) > 0:
            if not serve():
                select.select((fd,), (), (), left_ns / 1e9)

    def _tell_node(self, member: Member, incarnation: int, after: int) -> None:
        if member.process is None or member.incarnation != incarnation:
            del self._waiting[member.id]  # its successor asks for itself
            return
        found = self._chronicle.journal.read(after)
        # One that does not read its channel is told with the next event: what it has not got is not forgotten for that.
        if (found.events or self._is_over) and member.process.send(channel.News(found.events, found.lost)):
            del self._waiting[member.id]

    @property
    def _is_over(self) -> bool:
        """Nothing else is going to happen but to who follows and what it feeds."""
        phase = self._phase()
        if phase == STARTING or (phase == READY and len(self._fed) == len(self._members)):
            return False
        return all(member.state in _OVER for node, member in self._members.items() if node not in self._fed)

    def _answer_one(self, later: Later) -> None:
        since, timer = self._askers.pop(later)
        timer.cancel()
        later.reply(self._reply(since, waits=True))

    def _reply(self, since: int, *, waits: bool) -> dict[str, Any]:
        found, now_ns = self._chronicle.journal.read(since), self._loop.now_ns()
        if waits and not self._is_last:
            self._answered = [at_ns for at_ns in self._answered if now_ns - at_ns < ASKS_AGAIN_NS] + [now_ns]
        return {"events": found.events, "lost": found.lost, "next": found.next}
