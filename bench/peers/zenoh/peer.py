"""Zenoh: peers over Unix sockets, large payloads in the memory of a shared memory provider.

A receiver that falls behind would stall the link until Zenoh closes it, so receivers give the sender credits, over the whole chain.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work
import zenoh
from zenoh import shm

SHARED_BYTES = 64 * 1024
SETTLE_S = 0.5


def endpoint(number: int) -> str:
    return f"unixsock-stream/{os.getcwd()}/edge{number}.sock"


def opened(listen: int | None, connect: list[int]) -> zenoh.Session:
    """A session that looks for nobody and waits for the ones it is told of."""
    config = zenoh.Config()
    settings: dict[str, Any] = {
        "mode": "peer",
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "listen/endpoints": [] if listen is None else [endpoint(listen)],
        "connect/endpoints": [endpoint(number) for number in connect],
        "connect/timeout_ms": 20_000,
        "connect/exit_on_failure": True,
    }
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


def publisher(session: zenoh.Session, job: work.Job, key: str) -> zenoh.Publisher:
    # Express: no waiting for more messages to send together, which is better only for many small ones.
    express = bool(job.rate) or job.nbytes >= SHARED_BYTES
    return session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK, express=express)


def window(job: work.Job) -> int:
    return job.depth * (job.hops + 1)


def subscriber(session: zenoh.Session, job: work.Job, key: str) -> zenoh.Subscriber:
    return session.declare_subscriber(key, zenoh.handlers.FifoChannel(2 * window(job)))


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    session = opened(0, [])
    credit = subscriber(session, job, "credit/*")
    output = publisher(session, job, "edge/0")
    shared = job.nbytes >= SHARED_BYTES
    provider = shm.ShmProvider.default_backend((window(job) + 4) * (job.nbytes + 4096)) if shared else None
    policy = shm.BlockOn(shm.GarbageCollect())
    small = bytearray(job.nbytes)
    source = work.Source(job, line)
    returned = [0] * job.receivers
    line.ready()
    # A publisher knows that somebody subscribed, not that all did.
    time.sleep(SETTLE_S)
    for sequence in source:
        while sequence - min(returned) >= window(job):
            sample = credit.recv()
            returned[int(str(sample.key_expr).rpartition("/")[2])] = int.from_bytes(sample.payload.to_bytes(), "little")
        if provider is not None:
            slot = provider.alloc(job.nbytes, policy)
            source.write_items(slot, sequence)
            output.put(slot)
        else:
            source.write_items(small, sequence)
            output.put(small)
    line.stay()
    session.close()


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies nothing that is in shared memory: the payload that came goes on."""
    session = opened(index + 1, [index])
    packets = subscriber(session, job, f"edge/{index}")
    output = publisher(session, job, f"edge/{index + 1}")
    line.ready()
    for _ in range(job.total):
        output.put(packets.recv().payload)
    line.stay()
    session.close()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    """Copies: the Python API shows a payload only as bytes of its own."""
    session = opened(None, sorted({0, job.hops}))
    packets = subscriber(session, job, f"edge/{job.hops}")
    credit = session.declare_publisher(f"credit/{index}", congestion_control=zenoh.CongestionControl.BLOCK, express=True)
    sink = work.Sink(job, line)
    step = max(window(job) // 4, 1)
    taken = 0
    line.ready()
    while not sink.take(packets.recv().payload.to_bytes()):
        taken += 1
        if taken % step == 0:
            credit.put(taken.to_bytes(8, "little"))
    sink.done()
    session.close()


PEER = work.Peer("zenoh", "eclipse-zenoh", {"sender": send, "hop": forward, "receiver": receive})

if __name__ == "__main__":
    work.main(__file__, PEER)
