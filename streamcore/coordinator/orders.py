"""Orders to single nodes of a live run, by the control socket: restart, pause, resume, redrive, tap, and what a plugin knows."""

from __future__ import annotations

from typing import Any

from streamcore.control.server import Later
from streamcore.coordinator.course import READY
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.member import Member
from streamcore.errors import RunError
from streamcore.node import channel
from streamcore.supervisor import states

ON_REQUEST = "restart on request"
UNDER_WAY_MAX = 64  # orders that one node has not answered: whoever sends more has to wait


class Orders:
    """Each order answers with what it has set going, or raises RunError with a sentence for whoever asked.

    All answer at once but `order`, which the node itself has to answer.
    """

    def __init__(self, crew: Crew):
        self._crew = crew
        self._last_number = 0
        self._under_way: dict[int, tuple[Member, Later]] = {}

    @property
    def under_way(self) -> int:
        """Orders that their nodes have not answered."""
        return len(self._under_way)

    def restart(self, node: str, phase: str) -> dict[str, Any]:
        """A new process instead of the present one, between two packets; it loses nothing. One that waits for its restart gets it now."""
        member = self._member(node)
        self._refuse_unless_ready(phase, "restarted")
        if member.state == states.BACKOFF:
            self._crew.hurry([member])
        elif member.state in (states.READY, states.DRAINING):
            self._crew.ask_to_end(member, ON_REQUEST)
        else:
            raise RunError(f"node '{node}' is {member.state}; it can be restarted when it is READY, DRAINING or in BACKOFF")
        return {
            "node": node,
            "state": member.state,
            "incarnation": member.incarnation,
            "pid": member.process.pid if member.process else None,
        }

    def pause(self, node: str | None, phase: str) -> dict[str, Any]:
        """Begin no further packet. What comes meanwhile waits, up to the depth of the edges; then their policies decide."""
        self._refuse_unless_ready(phase, "paused")
        chosen = self._chosen(node)
        self._crew.pause(chosen)
        return self._paused()

    def resume(self, node: str | None, phase: str) -> dict[str, Any]:
        self._crew.resume(self._chosen(node))
        return self._paused()

    def redrive(self, node: str, record: str) -> dict[str, Any]:
        """Process a dead letter once more, at the node where it died."""
        member = self._member(node)
        if member.state != states.READY:
            raise RunError(f"node '{node}' is {member.state}; a dead letter can be processed again while it is READY")
        self._crew.send([member], channel.Redrive(record))
        return {"node": node, "record": record}

    def tap(self, node: str, command: channel.Tap) -> dict[str, Any]:
        """Have a port shown. The node answers to whoever listens, not to us. SYNC: node.tapping.Tapping."""
        member = self._member(node)
        if command.port not in member.plan.outputs:
            raise RunError(f"node '{node}' has no output port '{command.port}'; it has {', '.join(member.plan.outputs) or 'none'}")
        asked = member.state in (states.READY, states.DRAINING) and not member.asked
        if asked:
            self._crew.send([member], command)
        return {"node": node, "state": member.state, "incarnation": member.incarnation, "asked": asked}

    def order(self, node: str, name: str, arguments: dict[str, Any]) -> Later:
        """Have `Node.on_order` called. SYNC: node.ordering.Ordering carries it out."""
        member = self._member(node)
        if member.state not in (states.READY, states.DRAINING) or member.asked:
            state = "being restarted" if member.asked else member.state
            raise RunError(f"node '{node}' is {state}; it takes orders while it is READY or DRAINING")
        if sum(asked is member for asked, _ in self._under_way.values()) >= UNDER_WAY_MAX:
            raise RunError(f"node '{node}' has {UNDER_WAY_MAX} orders to carry out; try again")
        self._last_number += 1
        command = channel.Order(self._last_number, name, arguments)
        try:
            channel.encode(command)
        except ValueError as error:
            raise RunError(f"order '{name}': {error}; let it be several") from None
        later = Later()
        self._under_way[command.number] = (member, later)
        self._crew.send([member], command)
        return later

    def on_answered(self, member: Member, answered: channel.Answered) -> None:
        asked, later = self._under_way.get(answered.number, (None, None))
        if later is None or asked is not member:
            return
        del self._under_way[answered.number]
        if answered.error:
            later.refuse(f"node '{member.id}': {answered.error}")
        else:
            later.reply({"node": member.id, "reply": answered.reply})

    def on_end(self, member: Member) -> None:
        """Its process is gone: what it has not answered, nobody will."""
        for number in [number for number, (asked, _) in self._under_way.items() if asked is member]:
            _, later = self._under_way.pop(number)
            later.refuse(f"node '{member.id}' ended before it answered; whether it had done it shows when you look")

    def _refuse_unless_ready(self, phase: str, what: str) -> None:
        if phase != READY:
            raise RunError(f"the run is {phase}; its nodes can be {what} while it is {READY}")

    def _chosen(self, node: str | None) -> list[Member]:
        """One node, or all that still have work before them."""
        ended = (states.DONE, states.FAILED)
        if node is None:
            return [member for member in self._crew.members.values() if member.state not in ended]
        member = self._member(node)
        if member.state in ended:
            raise RunError(f"node '{node}' is {member.state}; it takes no packets any more")
        return [member]

    def _paused(self) -> dict[str, Any]:
        return {"paused": [member.id for member in self._crew.members.values() if member.paused]}

    def _member(self, node: str) -> Member:
        member = self._crew.members.get(node)
        if member is None:
            raise RunError(f"node: found '{node}', expected one of: {', '.join(self._crew.members)}")
        return member
