"""The account: what became of every packet that was sent, edge by edge. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamcore.telemetry.snapshot import EdgeRow


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


def account(edges: Iterable[EdgeRow]) -> tuple[AccountRow, ...]:
    return tuple(AccountRow(row.name, row.sent, row.completed, row.dropped, row.failed, row.in_flight) for row in edges)


def lost(rows: Iterable[AccountRow]) -> tuple[tuple[str, int], ...]:
    """(edge, packets) of every edge that still had packets under way when the last process was gone."""
    return tuple((row.edge, row.in_flight) for row in rows if row.in_flight > 0)
