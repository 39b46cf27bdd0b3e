"""http.post: each packet to a server by HTTP, with a key by which the server knows a repeat."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from streamcore import ConfigError, DeliveryFailed, DeliveryRefused, DestinationAway, Port, Sink, StreamPacket
from streamcore_nodes.delivery_order import DeliveryOrder
from streamcore_nodes.http_breaker import NS_PER_S, Breaker
from streamcore_nodes.http_connection import CannotReach, Connection, Lookup, NoAnswer, Target
from streamcore_nodes.http_reply import Reply, asked_wait_s, words_of
from streamcore_nodes.http_request import Hidden, Request, Requests
from streamcore_nodes.picker import Picker

if TYPE_CHECKING:
    import ssl

QUOTED_CHARS = 200  # of what a server says to a refusal
SMOOTHING = 0.05  # share of the newest answer in answer_ms
COUNTERS = ("posts", "delivered", "posts_refused", "posts_failed", "turned_away")
NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


class HttpPost(Sink):
    """Send each packet by POST; done is what the server answered with 2xx.

    5xx, `retry_statuses`, no answer within `timeout_s` and a connection that breaks fail the packet, which may be taken later. 429 and a
    server that cannot be reached say that the server is away, and so do `away_after` different packets in a row that failed: nothing is
    sent for a while then. Any other answer refuses the packet for good. Behind `durable.queue` what failed is delivered again, what was
    refused is a dead letter, and a server that is away costs no attempts; without it, all of these are lost and counted.
    """

    inputs = {"in": Port("any", "any", transport="network")}
    batch_max = "connections"
    config = {
        "url": {"type": "string", "required": True, "empty": False, "meta": {"doc": "http:// or https://, without user and password"}},
        "headers": {
            "type": "dict",
            "default": {},
            "keysrules": {"type": "string", "regex": NAME, "meta": {"words": "the name of a header"}},
            "valuesrules": {"type": "string", "regex": r"[\x20-\x7e]*", "meta": {"words": "printable ASCII"}},
            "meta": {"doc": "sent with every packet; secrets as `!secret env:NAME`"},
        },
        "body": {"allowed": ["payload", "envelope"], "default": "payload", "meta": {"doc": "what is sent, see below"}},
        "content_type": {
            "type": "string",
            "regex": r"[\x20-\x7e]*",
            "default": "",
            "meta": {"doc": "empty: application/json, application/octet-stream for bytes, image/png or image/jpeg for a codec"},
        },
        "codec": {"allowed": ["", "png", "jpeg"], "default": "", "meta": {"doc": "how arrays are sent; without it none may enter"}},
        "quality": {"type": "integer", "min": 1, "max": 100, "default": 90, "meta": {"doc": "of codec jpeg"}},
        "key_header": {
            "type": "string",
            "regex": NAME,
            "default": "Idempotency-Key",
            "meta": {"words": "the name of a header", "doc": "the header for what a server knows a repeat by"},
        },
        "connections": {
            "type": "integer",
            "min": 1,
            "max": 64,
            "default": 1,
            "meta": {"doc": "posts under way at once; with more than 1 order is kept per `key` only"},
        },
        "key": {"type": "string", "default": "", "meta": {"doc": "source_id, kind, payload.NAME or meta.NAME, for `connections`"}},
        "strict_order": {
            "type": "boolean",
            "default": False,
            "meta": {"doc": "what follows a failed packet of its key waits for it, see queue.md"},
        },
        "connect_timeout_s": {"type": "number", "min": 0.01, "max": 3600, "default": 5, "meta": {"doc": "for name, connection and TLS"}},
        "timeout_s": {"type": "number", "min": 0.01, "max": 3600, "default": 10, "meta": {"doc": "for all of a post; below progress_s"}},
        "ca_file": {"type": "string", "default": "", "meta": {"doc": "certificates to trust (PEM); empty: those of the system"}},
        "retry_statuses": {
            "type": "list",
            "schema": {"type": "integer", "min": 300, "max": 499},
            "default": [408, 425],
            "meta": {"doc": "answers besides 5xx after which the packet may be taken later"},
        },
        "away_after": {"type": "integer", "min": 1, "max": 1000, "default": 5, "meta": {"doc": "failures of different packets in a row"}},
        "backoff_s": {"type": "number", "min": 0.01, "max": 3600, "default": 1, "meta": {"doc": "how long an away server is left alone"}},
        "backoff_max_s": {"type": "number", "min": 0.01, "max": 86400, "default": 30, "meta": {"doc": "the most, after doublings"}},
        "retry_after_max_s": {"type": "number", "min": 0, "max": 86400, "default": 3600, "meta": {"doc": "most of a Retry-After"}},
    }

    def setup(self) -> None:
        config = self.config
        self.target, self.lane_key = Target.parse(config["url"]), Picker(config["key"])
        self.requests, self.hidden = Requests(self.target, config), Hidden(config["headers"].values(), self.target.path)
        context, lookup, times = self._tls(), Lookup(), (config["connect_timeout_s"], config["timeout_s"])
        self.connections = [Connection(self.target, context, lookup, *times) for _ in range(config["connections"])]
        self.pool = ThreadPoolExecutor(config["connections"], "post") if config["connections"] > 1 else None
        self.lock = threading.Lock()  # for all below
        self.breaker = Breaker(config["away_after"], config["backoff_s"], config["backoff_max_s"])
        self.order, self.suspects = DeliveryOrder(), deque[Mapping[str, Any]](maxlen=config["away_after"])
        self.opened_ns = 0
        self.counters = {name: self.metrics.counter(name) for name in COUNTERS}
        self.open_gauge, self.answer_gauge, self.answer_ms = self.metrics.gauge("breaker_open"), self.metrics.gauge("answer_ms"), 0.0

    def _tls(self) -> ssl.SSLContext | None:
        path = self.config["ca_file"]
        if not self.target.secure:
            if path:
                raise ConfigError("ca_file: found one for an http:// url, expected https://")
            return None
        import ssl  # 10 ms and 3 MB, for those who need it

        try:
            return ssl.create_default_context(cafile=str(Path(path).expanduser()) if path else None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"ca_file {path}: found {error}, expected a file of certificates (PEM)") from None

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        for connection in self.connections:
            connection.close()

    # --- one packet, or several at once

    def process(self, packet: StreamPacket) -> None:
        self._deliver(packet, self.connections[0])

    def process_batch(self, packets: list[StreamPacket]) -> None:
        assert self.pool is not None  # batches come with more than one connection only
        waiting, failures = deque(packets), []
        while waiting and self.breaker.is_open:  # one goes ahead, and may find it closed
            failures += self._deliver_lane([waiting.popleft()], self.connections[0])
        lanes: dict[int, list[StreamPacket]] = {}
        for number, packet in enumerate(waiting):
            lane = hash(self.lane_key.text(packet)) if self.lane_key.first else number
            lanes.setdefault(lane % len(self.connections), []).append(packet)
        running = [self.pool.submit(self._deliver_lane, lane, self.connections[number]) for number, lane in lanes.items()]
        for done in running:
            failures += done.result()
        for packet, error in failures:
            self.fail(packet, error)

    def _deliver_lane(self, packets: list[StreamPacket], connection: Connection) -> list[tuple[StreamPacket, Exception]]:
        """In order; each fails for itself. An error comes without the traceback of it and of its cause, which would keep the packet."""
        failures: list[tuple[StreamPacket, Exception]] = []
        for packet in packets:
            try:
                self._deliver(packet, connection)
            except (DeliveryRefused, DestinationAway, DeliveryFailed) as error:
                error.__context__ = None
                failures.append((packet, error.with_traceback(None)))
        return failures

    def _deliver(self, packet: StreamPacket, connection: Connection) -> None:
        """Raises DeliveryRefused, DestinationAway or DeliveryFailed, unless the server has taken it."""
        try:
            request = self.requests.make(packet)
        except DeliveryRefused:
            self._count("posts_refused")
            raise
        began_ns = time.monotonic_ns()
        self._admit(request, began_ns)
        self._count("posts")
        try:
            reply = connection.post(request.raw)
        except CannotReach as error:
            self._is_away(request, str(error))
        except NoAnswer as error:
            self._has_failed(request, f"{self.target.place}: {error}")
        self._judge(request, reply, time.monotonic_ns() - began_ns)

    # --- what came of it

    def _judge(self, request: Request, reply: Reply, took_ns: int) -> None:
        status, said = reply.status, f"{self.target.place} answered {reply.status}"
        with self.lock:
            took_ms = took_ns / 1e6
            self.answer_ms += SMOOTHING * (took_ms - self.answer_ms) if self.answer_ms else took_ms
            self.answer_gauge.set(self.answer_ms)
        if status == 429:
            self._is_away(request, said, self._asked_wait_ns(reply))
        if status >= 500 or status in self.config["retry_statuses"]:
            self._has_failed(request, said + self._quoted(reply), self._asked_wait_ns(reply))
        self._is_back()
        self._count("delivered" if status < 300 else "posts_refused")
        if 300 <= status < 400:
            where = reply.headers.get(b"location", b"").decode("latin-1").partition("?")[0]
            raise DeliveryRefused(f"{said}: it has moved to {self._shown(where) or 'a place that it does not name'}; name that in `url`")
        if status >= 400:
            raise DeliveryRefused(said + self._quoted(reply))

    def _is_back(self) -> None:
        with self.lock:
            was_open, since_ns = self.breaker.is_open, self.opened_ns
            self.breaker.took()
            self.suspects.clear()
            self.open_gauge.set(0)
        if was_open:
            self.log.info("%s is back after %.1f s", self.target.place, (time.monotonic_ns() - since_ns) / NS_PER_S)

    def _admit(self, request: Request, now_ns: int) -> None:
        """Raises DestinationAway for what is not to be sent now."""
        with self.lock:
            try:
                self.order.check(request.told)
            except DestinationAway:
                self.counters["turned_away"].add()
                raise
            admitted, reason = self.breaker.admits(request.key, now_ns), self.breaker.reason
        if not admitted:
            self._turn_away(request, reason)

    def _turn_away(self, request: Request, reason: str) -> NoReturn:
        with self.lock:
            if self.breaker.passed_over != request.key:
                self.order.failed(request.told)
            self.counters["turned_away"].add()
        raise DestinationAway(reason)

    def _is_away(self, request: Request, reason: str, wait_ns: int = 0) -> NoReturn:
        now_ns = time.monotonic_ns()
        with self.lock:
            was_open = self.breaker.is_open
            self.breaker.away(reason, now_ns, wait_ns)
        self._say_open(was_open, now_ns)
        self._turn_away(request, reason)

    def _has_failed(self, request: Request, reason: str, wait_ns: int = 0) -> NoReturn:
        now_ns = time.monotonic_ns()
        with self.lock:
            was_open = self.breaker.is_open
            is_away = self.breaker.failed(request.key, reason, now_ns, wait_ns)
            self.suspects.append(request.told)
            if is_away or self.config["strict_order"]:
                for told in self.suspects:  # it was the server's fault, so those before this one are in their turn as well
                    self.order.failed(told)
                self.suspects.clear()
        self._say_open(was_open, now_ns)
        if is_away:
            self._turn_away(request, reason)
        self._count("posts_failed")
        raise DeliveryFailed(reason)

    def _say_open(self, was_open: bool, now_ns: int) -> None:
        with self.lock:
            is_open, until_ns = self.breaker.is_open, self.breaker.until_ns
            self.open_gauge.set(int(is_open))
            if is_open and not was_open:
                self.opened_ns = now_ns
        if is_open and not was_open:
            self.log.warning("%s; nothing is sent for %.1f s", self.breaker.reason, (until_ns - now_ns) / NS_PER_S)

    def _asked_wait_ns(self, reply: Reply) -> int:
        asked_s = asked_wait_s(reply, time.clock_gettime(time.CLOCK_REALTIME))
        return round(min(asked_s, self.config["retry_after_max_s"]) * NS_PER_S)

    def _quoted(self, reply: Reply) -> str:
        text = self._shown(words_of(reply))
        return f": {text}" if text else ""

    def _shown(self, text: str) -> str:
        """What was hidden is taken out before anything is cut off: half a secret is not recognised."""
        text = self.hidden.taken_out_of("".join(letter if letter.isprintable() else "?" for letter in text))
        return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "..."

    def _count(self, name: str) -> None:
        with self.lock:
            self.counters[name].add()
