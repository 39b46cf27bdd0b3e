"""pyzmq: the frame inside the message, PUSH to PULL over ipc://, one socket per receiver.

Nothing is lost: a PUSH socket at its high-water mark blocks the sender.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work
import zmq

# Below this size libzmq's copy is cheaper than sharing the memory with it.
SHARED_BYTES = 64 * 1024


def bound(job: work.Job, number: int) -> list[zmq.Socket]:
    """The sockets of the sender (number 0) or of hop number - 1: one per process that reads from it."""
    readers = job.receivers if number == job.hops else 1
    sockets = []
    for reader in range(readers):
        socket = zmq.Context.instance().socket(zmq.PUSH)
        socket.sndhwm = job.depth
        socket.bind(f"ipc://edge{number}.{reader}")
        sockets.append(socket)
    return sockets


def connected(job: work.Job, number: int, reader: int) -> zmq.Socket:
    socket = zmq.Context.instance().socket(zmq.PULL)
    socket.rcvhwm = job.depth
    socket.reconnect_ivl = 10
    socket.connect(f"ipc://edge{number}.{reader}")
    return socket


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    sockets = bound(job, 0)
    source = work.Source(job, line)
    shared = job.nbytes >= SHARED_BYTES
    # libzmq reads a shared buffer until the message is written, so there are as many as packets on the way.
    buffers = [np.empty(job.nbytes, np.uint8) for _ in range(job.depth if shared else 1)]
    trackers: list[list[Any]] = [[] for _ in buffers]
    line.ready()
    for sequence in source:
        number = sequence % len(buffers)
        for tracker in trackers[number]:
            tracker.wait()
        source.write(buffers[number], sequence)
        if shared:
            trackers[number] = [socket.send(buffers[number], copy=False, track=True) for socket in sockets]
        else:
            for socket in sockets:
                socket.send(buffers[number])
    line.stay()


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies nothing itself: the message that came goes on. The kernel copies it into the next socket, and out of it."""
    source = connected(job, index, 0)
    sockets = bound(job, index + 1)
    shared = job.nbytes >= SHARED_BYTES
    line.ready()
    for _ in range(job.total):
        message = source.recv(copy=not shared)
        for socket in sockets:
            socket.send(message, copy=not shared)
    line.stay()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    socket = connected(job, job.hops, index)
    shared = job.nbytes >= SHARED_BYTES
    sink = work.Sink(job, line)
    line.ready()
    last = False
    while not last:
        message = socket.recv(copy=not shared)
        last = sink.take(message.buffer if shared else message)
    sink.done()


PEER = work.Peer("pyzmq", "pyzmq", {"sender": send, "hop": forward, "receiver": receive})

if __name__ == "__main__":
    work.main(__file__, PEER)
