"""The node http.post set up in this process, and what becomes of one packet that it is given."""

from __future__ import annotations

import socket
from typing import Any

from streamcore import DeliveryFailed, DeliveryRefused, DestinationAway, StreamPacket
from streamcore.node.api import attach
from streamcore.testing import Bench, check_config
from streamcore_nodes.http_post import HttpPost

FAST = {"backoff_s": 0.01, "backoff_max_s": 0.01}


def packet(payload: Any = None, source_id: str = "cam", **durable: Any) -> StreamPacket:
    meta = {"durable": {"sequence": 1, "id": "ab" * 16, "attempt": 1, "replayed": False, **durable}} if durable else None
    return StreamPacket.new(kind="event", source_id=source_id, payload={"n": 1} if payload is None else payload, meta=meta)


class Posting:
    """A node that is set up. `outcome` is that of one packet, as a queue before it would be told."""

    def __init__(self, url: str, **config: Any):
        self.node = HttpPost()
        self.bench = Bench(self.node, "server", None)
        attach(self.node, "server", check_config(HttpPost, {"url": url, **config}), self.bench)
        self.node.setup()
        self.said = ""

    def outcome(self, given: StreamPacket | None = None) -> str:
        try:
            self.node.process(given or packet())
        except (DeliveryRefused, DestinationAway, DeliveryFailed) as error:
            self.said = str(error)
            return {DeliveryRefused: "refused", DestinationAway: "away", DeliveryFailed: "failed"}[type(error)]
        return "ok"

    def let_time_pass(self) -> None:
        """As if what the breaker waits for were over."""
        self.node.breaker.until_ns = 0


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
