"""Sends what no node and no client would: `hostile_sender.py inboxes|control SEED COUNT PATH...`; a JSON line of counts at the end.

Run by tests/faults/test_hostile_senders.py beside a live run, as the same user. It knows everything but the key of the run's messages.
"""

from __future__ import annotations

import json
import random
import resource
import socket
import sys
from collections import Counter

import zmq
from hostile_messages import Forge

from streamcore.wire.messages import sealed

TOO_LARGE = bytes(16 << 20)
HALF_OPEN = 100  # connections per path that say nothing, or half a greeting, for as long as the storm lasts
PASSING = 1000  # connections that are closed at once
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
REQUESTS = [b'{"v": 1, "verb": "%s"}' % verb for verb in (b"ping", b"ps", b"stats", b"account", b"info")]
BODIES = (
    b"",
    b"{}",
    b"[" * 60_000,
    b'{"v": 1, "verb": "dance"}',
    b'{"v": 2, "verb": "ping"}',
    b'{"v": 1, "verb": "ps", "x": 1}',
    b"\xff\xfe",
    b"null",
)


def knock(path: str, what: bytes) -> socket.socket:
    """Bytes on the socket itself, past every protocol."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(path)
    try:
        peer.sendall(what)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has had enough already
    return peer


def noise(rng: random.Random) -> bytes:
    return rng.choice(
        [b"", GREETING[: rng.randrange(64)], GREETING + rng.randbytes(50), rng.randbytes(200), b"GET / HTTP/1.1\r\n\r\n", b"\x01\0" * 50]
    )


class Storm:
    """Sockets to every path, and what was sent through them."""

    def __init__(self, kind: int, seed: int, paths: list[str]):
        self.rng, self.paths, self.kind = random.Random(seed), paths, kind
        self.context = zmq.Context()
        self.counts: Counter[str] = Counter()
        self.open = [knock(path, GREETING[: self.rng.randrange(64)]) for path in paths for _ in range(HALF_OPEN)]
        self.sockets = [self.connect(path) for path in paths]

    def connect(self, path: str) -> zmq.Socket[bytes]:
        made = self.context.socket(self.kind)
        made.connect(f"ipc://{path}")
        return made

    def now_and_then(self, number: int) -> None:
        """What is worth a connection of its own."""
        path = self.paths[number % len(self.paths)]
        if number % 40 == 0:
            knock(path, noise(self.rng)).close()
            self.counts["noise"] += 1
        if number % 4001 == 0:
            large = self.connect(path)
            large.send_multipart([b"", TOO_LARGE] if self.kind == zmq.DEALER else [TOO_LARGE])
            large.close(linger=500)  # the other end hangs up, and libzmq would try for ever
            self.counts["too large"] += 1

    def passing_connections(self) -> None:
        for path in self.paths:
            for _ in range(PASSING):
                knock(path, b"").close()
        self.counts["connections"] += PASSING * len(self.paths)

    def end(self) -> None:
        for made in self.sockets:
            made.close(linger=60_000)
        self.context.term()
        for peer in self.open:
            peer.close()


def into_inboxes(seed: int, count: int, paths: list[str]) -> Counter[str]:
    storm, forge = Storm(zmq.PUSH, seed, paths), Forge(seed)
    storm.passing_connections()
    while storm.counts["messages"] < count:
        number = storm.counts["messages"]
        made = storm.sockets[number % len(paths)]
        if number % 100 == 0:
            parts = [forge.stranger() for _ in range(20)]
        elif number % 7 == 0:
            parts = [b""]
        elif number % 500 == 1:
            parts = [bytes(60_000)]
        elif number % 3 == 0:
            parts = [sealed(forge.astray(), 0)]
        else:
            parts = [forge.stranger()]
        made.send_multipart(parts)
        storm.counts["messages"] += len(parts)
        storm.now_and_then(number)
    storm.end()
    return storm.counts


def into_control(seed: int, count: int, paths: list[str]) -> Counter[str]:
    storm, rng = Storm(zmq.DEALER, seed, paths), random.Random(seed)
    deaf = storm.connect(paths[0])  # asks and never reads
    storm.passing_connections()
    made = storm.sockets[0]
    for number in range(count):
        body = bytearray(rng.choice(REQUESTS))
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        frames = [b"", bytes(body)]
        if number % 5 == 0:
            frames = [b"", rng.choice(BODIES)]
        elif number % 7 == 0:
            frames = rng.choice([[b""], [b"x", b"y"], [b"", b"{}", b"{}"], [b""] * 40, [rng.randbytes(50)]])
        made.send_multipart(frames)
        storm.counts["messages"] += 1
        while made.poll(0):
            made.recv_multipart()
            storm.counts["replies"] += 1
        if number % 10 == 0:
            try:
                deaf.send_multipart([b"", REQUESTS[4]], zmq.NOBLOCK)
            except zmq.Again:
                storm.counts["held back"] += 1  # it is not even read any more
        storm.now_and_then(number)
    deaf.close(linger=0)
    storm.end()
    return storm.counts


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    storms = {"inboxes": into_inboxes, "control": into_control}
    print(json.dumps(storms[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
