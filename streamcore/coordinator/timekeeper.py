"""Keeps the timeline of a run for its report: fed by the rounds, and told of what happens to nodes in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.clock import Clock
from streamcore.coordinator.member import Member
from streamcore.supervisor import states
from streamcore.telemetry.snapshot import Snapshot
from streamcore.telemetry.timeline import FAILED, INCIDENT, RESTART, Timeline

_ENDS = {states.BACKOFF: RESTART, states.FAILED: FAILED}


class Timekeeper:
    """Without `wanted` it keeps nothing and costs nothing."""

    def __init__(self, members: Mapping[str, Member], clock: Clock, began_ns: int, *, wanted: bool):
        self._members, self._clock = members, clock
        self._timeline = Timeline(began_ns) if wanted else None

    def note(self, now_ns: int, taken: Snapshot) -> None:
        """In each round. The memory is that which the rounds have measured."""
        if self._timeline is not None:
            for row in taken.nodes:
                row.rss_bytes = self._members[row.id].rss_bytes
            self._timeline.note(now_ns, taken)

    def on_end(self, member: Member) -> None:
        """Once it is decided what follows."""
        if member.state in _ENDS:
            self._mark(member, _ENDS[member.state], member.last_cause)

    def on_incident(self, member: Member, reason: str, path: str) -> None:
        self._mark(member, INCIDENT, f"{reason}: {path or 'its file could not be written'}")

    def _mark(self, member: Member, what: str, text: str) -> None:
        if self._timeline is not None:
            self._timeline.mark(self._clock.monotonic_ns(), member.id, what, text)

    def close(self, now_ns: int, final: Snapshot) -> dict[str, Any] | None:
        """The `timeline` of the report."""
        if self._timeline is None:
            return None
        self._timeline.note(now_ns, final, last=True)
        return self._timeline.as_json()
