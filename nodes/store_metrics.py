"""What a node with a durable store publishes of it: the `queue` metrics of docs/metrics.md."""

from __future__ import annotations

from typing import Any

# Metric to the store's own count. Those stand in its file: they go on over restarts and from run to run.
COUNTED = {
    "stored": "appended",
    "acknowledged": "acknowledged",
    "failed_deliveries": "failed",
    "dead_letters": "dead",
    "duplicates": "duplicates",
    "dropped": "dropped",
    "replayed": "replayed",
    "quarantined": "quarantined",
}
GAUGES = {"used_bytes": "used_bytes"}
WAITING = "waiting"


class StoreMetrics:
    """`publish` after a commit, which changes all of them at once; without a commit in between it does nothing."""

    def __init__(self, metrics: Any, store: Any):
        self._store, self._seen = store, -1
        self._waiting = metrics.gauge(WAITING)
        self._places = [(metrics.counter(name), field) for name, field in COUNTED.items()]
        self._places += [(metrics.gauge(name), field) for name, field in GAUGES.items()]
        self.publish()

    def publish(self) -> None:
        counters = self._store.counters
        if counters.commits == self._seen:
            return
        self._seen = counters.commits
        for place, field in self._places:
            place.set(getattr(counters, field))
        self._waiting.set(self._store.waiting)
