"""The `metrics` of node code."""

from __future__ import annotations

from streamcore.node.api import Counter
from streamcore.shm.status import StatusWriter


class PageMetrics:
    """The `metrics` handle of node code: named numbers on the status page."""

    def __init__(self, status: StatusWriter):
        self._status = status

    def counter(self, name: str) -> Counter:
        return self._status.metric(name)

    def gauge(self, name: str) -> Counter:
        return self._status.metric(name)
