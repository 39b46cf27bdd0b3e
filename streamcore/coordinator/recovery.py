"""What follows when the process of a node has ended: its neighbours are told, and it gets a new incarnation or is given up.

Nothing here saves packets: rings, status pages and re-sending do (node/), whatever the order in which the words of this module arrive.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcore.clock import Clock
from streamcore.coordinator.course import DRAINING, ENDED, KILLING, READY, Course
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.member import Member
from streamcore.coordinator.observer import Failure, Observer
from streamcore.graph.model import EdgePlan, Plan
from streamcore.node import channel
from streamcore.shm.status import NodeStatus
from streamcore.supervisor import exits, states
from streamcore.supervisor.poison import Packet, Verdict
from streamcore.supervisor.restarts import GiveUp
from streamcore.supervisor.segments import Segments

OUTCOMES_MAX = 1000  # sequences of one word: the channel takes 64 KiB at once
WriteIncident = Callable[[Member, str, bool], str]  # member, reason of supervisor/incident.py, is it alive; gives the path, or ""

CRASH, HANG, STARTUP, LIMIT = "crash", "hang", "startup", "limit"  # SYNC: incident.REASONS


class Recovery:
    """Decides about ended processes. `on_failed` is told of a node that has failed for good, before its neighbours are.

    holds: a node that would be given up while the run is READY waits for somebody to mend it, as if it were slow.
    """

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        course: Course,
        segments: Segments,
        observer: Observer,
        clock: Clock,
        write_incident: WriteIncident,
        on_failed: Callable[[Failure], None],
        *,
        holds: bool = False,
    ):
        self._crew, self._course, self._segments, self._observer, self._clock = crew, course, segments, observer, clock
        self._write_incident, self._on_failed, self._holds = write_incident, on_failed, holds
        self._edges = plan.edges
        self._neighbours: dict[str, set[str]] = {node.id: set() for node in plan.nodes}
        for edge in plan.edges:
            self._neighbours[edge.from_node].add(edge.to_node)
            self._neighbours[edge.to_node].add(edge.from_node)

    # --- a process that is there

    def start_word(self) -> channel.Start:
        """What every process is told when it may begin, whether the run begins with it or it joins one."""
        members = self._crew.members.values()
        return channel.Start(
            {member.id: member.incarnation for member in members},
            tuple(member.id for member in members if member.state == states.DONE),
            tuple(member.id for member in members if member.state == states.FAILED),
        )

    def rejoin(self, member: Member) -> None:
        """A new incarnation is ready while the run is under way.

        Its peers may be dead, done or not bound yet: each of them is told, or tells, when that changes.
        """
        if member.paused:
            self._crew.send([member], channel.Pause())
        if self._course.phase == DRAINING:
            self._crew.announce_end([member])  # before it may begin: a job must not be begun once more
        for edge in (self._edges[number] for number in member.plan.out_edges):
            if self._crew.members[edge.to_node].state == states.DONE:
                self._tell_outcomes(edge)
        self._crew.send([member], self.start_word())
        self._tell_neighbours(member, channel.PeerRestarted(member.id, member.incarnation))

    def _tell_neighbours(self, member: Member, word: channel.Command) -> None:
        self._crew.send((self._crew.members[node] for node in sorted(self._neighbours[member.id])), word)

    def _tell_outcomes(self, edge: EdgePlan) -> None:
        """To the producer, of a consumer that is done."""
        for outcome, sequences in self._segments.not_well(edge).items():
            for first in range(0, len(sequences), OUTCOMES_MAX):
                word = channel.Outcomes(edge.id, outcome, tuple(sequences[first : first + OUTCOMES_MAX]))
                self._crew.send([self._crew.members[edge.from_node]], word)

    # --- a process that is gone

    def on_end(self, member: Member) -> None:
        """SYNC: Crew, Decider."""
        if member.state == states.DONE:
            for number in member.plan.in_edges:
                self._tell_outcomes(self._edges[number])
            self._tell_neighbours(member, channel.PeerDone(member.id))
            return
        if self._course.phase in (KILLING, ENDED):
            if member.failure is not None:  # it had failed before it was told to go
                self._fail(member)
        elif member.ended_as_asked:
            self._crew.retry(member, 0.0, member.asked)
            self._observer.renewing(member.id, member.asked)
        elif member.failure is not None:
            self._recover(member)
        elif self._course.phase == DRAINING:  # its own drain_s was over: it has not failed, and nobody is to wait for it
            self._leave_out(member)

    def _leave_out(self, member: Member) -> None:
        """For good. What it was to process has failed, and its neighbours go on without it."""
        self._crew.give_up(member)
        self._tell_gone(member)

    def _recover(self, member: Member) -> None:
        failure = member.failure
        assert failure is not None  # the caller looked
        packet, page = self._under_work(member)
        blamed = packet if exits.blames_packet(failure.kind, member.status) else None
        verdict = member.poison.on_death(blamed, page.consumed)
        if verdict.forgiven:
            member.history.strike_out(verdict.deaths - 1)  # the last one has not been counted yet
        decision = member.history.after(failure.kind, self._clock.monotonic_ns())
        if isinstance(decision, GiveUp):
            self._note_incident(member, verdict)
            member.complete_failure(decision.why)
            if self._holds and member.next_plan is not None:  # it was mended before it ended
                self._crew.retry(member, 0.0, member.last_cause)
            elif self._holds and self._course.phase == READY:
                self._crew.hold(member)
                self._observer.held(member.failure or failure)
            else:
                self._fail(member)
            return
        if verdict.forgiven:
            member.history.strike_out(1)  # nor is it to count from here on
        delay_s = 0.0 if self._course.phase == DRAINING else decision.delay_s  # drain_s runs
        self._crew.retry(member, delay_s, failure.cause)
        self._note_incident(member, verdict)  # while the delay runs; nothing is started before the loop turns
        self._observer.restarting(member.failure or failure, delay_s)

    def _under_work(self, member: Member) -> tuple[Packet | None, NodeStatus]:
        """The packet that the dead process had in process(), and its page. A source makes its packets: it has none under work."""
        page = self._segments.readers[member.id].read()
        mine = page.incarnation == member.incarnation and member.plan.role != "source"
        busy = mine and page.busy_since_ns != 0 and page.current_edge in member.plan.in_edges
        return ((page.current_edge, page.current_sequence) if busy else None), page

    def _note_incident(self, member: Member, verdict: Verdict) -> None:
        """A process that was killed because a clock ran out has got its file before, when there was more to see."""
        if member.failure is None:
            return
        path = member.failure.incident or self._write_incident(member, CRASH, False)
        member.add_incident(path)
        if verdict.removed:
            member.poison.name_incident(path)

    def before_kill(self, member: Member) -> None:
        """SYNC: Crew, Decider. The process still lives: its stacks can be had."""
        hung = member.failure is not None and member.failure.where == "hang"
        member.add_incident(self._write_incident(member, HANG if hung else STARTUP, True))

    def restart_for_memory(self, member: Member, what: str) -> None:
        """It has outgrown its limit: a new process instead, between two packets, which is no failure."""
        if not member.asked:
            member.last_cause = what
            member.add_incident(self._write_incident(member, LIMIT, True))
            self._crew.ask_to_end(member, what)

    def _fail(self, member: Member) -> None:
        self._crew.give_up(member)
        failure = member.failure
        assert failure is not None  # nobody is given up without a cause
        self._on_failed(failure)
        self._tell_gone(member)

    def _tell_gone(self, member: Member) -> None:
        if self._course.phase in (READY, DRAINING):
            self._crew.send(self._crew.living(), channel.PeerGone(member.id))
