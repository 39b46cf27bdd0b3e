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

TOO_LARGE = bytes(16 << 20)  # for ZeroMQ
LONGEST = bytes(200_000)  # that the kernel takes for one message
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


def knock(path: str, kind: int, what: bytes) -> socket.socket:
    """Bytes on the socket itself, past every protocol."""
    peer = socket.socket(socket.AF_UNIX, kind)
    peer.connect(path)
    try:
        if what:
            peer.sendall(what)
    except ConnectionError:
        pass  # it has had enough already
    return peer


def noise(rng: random.Random) -> bytes:
    return rng.choice(
        [b"", GREETING[: rng.randrange(64)], GREETING + rng.randbytes(50), rng.randbytes(200), b"GET / HTTP/1.1\r\n\r\n", b"\x01\0" * 50]
    )


class Storm:
    """Connections to every path that are no use, and what was sent."""

    def __init__(self, kind: int, seed: int, paths: list[str], half_said: bytes):
        self.rng, self.paths, self.kind = random.Random(seed), paths, kind
        self.counts: Counter[str] = Counter()
        self.open = [knock(path, kind, half_said[: self.rng.randrange(64)]) for path in paths for _ in range(HALF_OPEN)]
        for path in paths:
            for _ in range(PASSING):
                knock(path, kind, b"").close()
        self.counts["connections"] += PASSING * len(paths)

    def now_and_then(self, number: int, what: bytes) -> None:
        """What is worth a connection of its own."""
        if number % 40 == 0:
            knock(self.paths[number % len(self.paths)], self.kind, what).close()
            self.counts["noise"] += 1


def into_inboxes(seed: int, count: int, paths: list[str]) -> Counter[str]:
    storm, forge = Storm(socket.SOCK_SEQPACKET, seed, paths, b""), Forge(seed)
    peers = [knock(path, socket.SOCK_SEQPACKET, b"") for path in paths]
    while storm.counts["messages"] < count:
        number = storm.counts["messages"]
        peer = peers[number % len(paths)]
        if number % 100 == 0:
            messages = [forge.stranger() for _ in range(20)]
        elif number % 500 == 1:
            messages = [bytes(60_000)]
        elif number % 4001 == 2:
            messages = [LONGEST]
        elif number % 3 == 0:
            messages = [sealed(forge.astray(), 0)]
        else:
            messages = [forge.stranger()]
        for message in filter(None, messages):
            peer.send(message)
            storm.counts["messages"] += 1
        if number % 7 == 0:
            with knock(paths[number % len(paths)], socket.SOCK_SEQPACKET, b"") as ending:
                ending.send(b"")  # which is the end, for whoever reads it
            storm.counts["empty"] += 1
        storm.now_and_then(number, b"")
    for peer in [*peers, *storm.open]:
        peer.close()
    return storm.counts


def into_control(seed: int, count: int, paths: list[str]) -> Counter[str]:
    storm, rng, context = Storm(socket.SOCK_STREAM, seed, paths, GREETING), random.Random(seed), zmq.Context()

    def connected() -> zmq.Socket[bytes]:
        made = context.socket(zmq.DEALER)
        made.connect(f"ipc://{paths[0]}")
        return made

    made, deaf = connected(), connected()  # the latter asks and never reads
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
        if number % 4001 == 0:
            large = connected()
            large.send_multipart([b"", TOO_LARGE])
            large.close(linger=500)  # the other end hangs up, and libzmq would try for ever
            storm.counts["too large"] += 1
        storm.now_and_then(number, noise(storm.rng))
    deaf.close(linger=0)
    made.close(linger=60_000)
    context.term()
    for peer in storm.open:
        peer.close()
    return storm.counts


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    storms = {"inboxes": into_inboxes, "control": into_control}
    print(json.dumps(storms[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
