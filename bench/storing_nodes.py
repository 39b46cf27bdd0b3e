"""Nodes of the case `durable`: events or pictures as fast as they are taken, and a sink that can be told to begin later."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from streamcore import Port, Sink, Source, StreamPacket

ANY = Port("event", "any")
COUNT = {"count": {"type": "integer", "min": 2, "required": True, "meta": {"doc": "packets"}}}
NUMBER_BYTES = 8
WARM_SHARE = 10  # one part in so many is not measured
LOOK_S = 0.01


def event(number: int, nbytes: int) -> dict[str, Any]:
    """A JSON value as an edge box sends them; it takes `nbytes` as msgpack, up to the few bytes by which numbers differ."""
    value: dict[str, Any] = {
        "number": number,
        "camera": "front-door",
        "zone": 3,
        "score": 0.875,
        "box": [412, 96, 530, 388],
        "label": "person",
    }
    value["note"] = "x" * max(0, nbytes - len(msgspec.msgpack.encode(value)) - 8)
    return value


class Events(Source):
    """JSON values, or bytes that nothing can compress if `picture` is set, with their number inside."""

    outputs = {"out": ANY}
    config = {
        **COUNT,
        "nbytes": {"type": "integer", "min": 64, "required": True, "meta": {"doc": "of a packet"}},
        "picture": {"type": "boolean", "default": False, "meta": {"doc": "bytes instead of JSON"}},
    }

    def run(self) -> Iterator[StreamPacket]:
        nbytes = self.config["nbytes"]
        value, noise = event(0, nbytes), os.urandom(nbytes - NUMBER_BYTES)
        for number in range(self.config["count"]):
            payload = number.to_bytes(NUMBER_BYTES, "little") + noise if self.config["picture"] else value | {"number": number}
            yield StreamPacket.new(kind="event", source_id=self.id, payload=payload, position=number)


class Take(Sink):
    """Checks the number of each packet and keeps when it came. With `go`, the first one has to wait until that file is there."""

    inputs = {"in": ANY}
    config = {
        **COUNT,
        "folder": {"type": "string", "required": True, "meta": {"doc": "where `taken` goes"}},
        "go": {"type": "string", "default": "", "meta": {"doc": "a file"}},
    }

    def setup(self) -> None:
        self.number = self.wrong = self.began_ns = 0
        self.count = self.config["count"]
        self.first = self.count // WARM_SHARE

    def process(self, packet: StreamPacket) -> None:
        payload = packet.payload
        found = payload["number"] if isinstance(payload, dict) else int.from_bytes(bytes(payload[:NUMBER_BYTES]), "little")
        self.wrong += found != self.number
        if self.number == 0:
            self._wait()
        if self.number == self.first:
            self.began_ns = time.monotonic_ns()
        self.number += 1
        if self.number == self.count:
            seconds = (time.monotonic_ns() - self.began_ns) / 1e9
            path = Path(self.config["folder"], "taken")
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"rate": (self.count - 1 - self.first) / seconds, "wrong": self.wrong}))
            part.rename(path)

    def _wait(self) -> None:
        while self.config["go"] and not os.path.exists(self.config["go"]) and not self.stopping:
            time.sleep(LOOK_S)
