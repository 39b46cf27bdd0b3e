"""Orders to single nodes of a live run, as they come over the control socket: restart, pause, resume, redrive."""

from __future__ import annotations

from typing import Any

from streamcore.coordinator.course import READY
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.member import Member
from streamcore.errors import RunError
from streamcore.node import channel
from streamcore.supervisor import states

ON_REQUEST = "restart on request"


class Orders:
    """Each order answers at once with what it has set going, or raises RunError with a sentence for whoever asked."""

    def __init__(self, crew: Crew):
        self._crew = crew

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
