"""The account: what became of every packet that was sent, edge by edge. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamcore.telemetry.snapshot import EdgeRow, Snapshot


class AccountRow(msgspec.Struct, frozen=True):
    """One edge: `sent = completed + dropped + failed + in_flight` if `balanced`. After the end, what is in flight is lost."""

    edge: str
    sent: int
    completed: int
    dropped: int
    failed: int
    in_flight: int

    @property
    def balanced(self) -> bool:
        return self.sent == self.completed + self.dropped + self.failed + self.in_flight

    def as_json(self) -> dict[str, Any]:
        return {**msgspec.structs.asdict(self), "balanced": self.balanced}

    def __str__(self) -> str:
        sums = f"sent {self.sent} = completed {self.completed} + dropped {self.dropped} + failed {self.failed} + in flight {self.in_flight}"
        return f"{self.edge}: {sums}" if self.balanced else f"{self.edge}: does not balance: {sums}"


def statement(snapshot: Snapshot) -> dict[str, Any]:
    """The account of a run at one moment, as JSON: {"balanced", "edges": [row], "sources": {node: emitted}, "sinks": {node: consumed}}.

    A row is AccountRow with "balanced", "policy" and "redelivered".
    """
    rows = account(snapshot.edges)
    more = [{"policy": edge.policy, "redelivered": edge.redelivered} for edge in snapshot.edges]
    return {
        "balanced": all(row.balanced for row in rows),
        "edges": [{**row.as_json(), **extra} for row, extra in zip(rows, more, strict=True)],
        "sources": {node.id: node.emitted for node in snapshot.nodes if node.role == "source"},
        "sinks": {node.id: node.consumed for node in snapshot.nodes if node.role == "sink"},
    }


def account(edges: Iterable[EdgeRow]) -> tuple[AccountRow, ...]:
    return tuple(AccountRow(row.name, row.sent, row.completed, row.dropped, row.failed, row.in_flight) for row in edges)


def lost(rows: Iterable[AccountRow]) -> tuple[tuple[str, int], ...]:
    """(edge, packets) of every edge that still had packets under way when the last process was gone."""
    return tuple((row.edge, row.in_flight) for row in rows if row.in_flight > 0)
