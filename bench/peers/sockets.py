"""PUSH and PULL over ipc://, one socket per receiver, for the peers that use pyzmq."""

from __future__ import annotations

import work
import zmq


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
