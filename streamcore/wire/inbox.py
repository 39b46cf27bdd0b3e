"""Sockets: one PULL inbox per process, one PUSH per peer process. Only metadata passes here; credits, not high-water marks, bound it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import zmq

from streamcore import limits
from streamcore.wire.messages import WAKE_MESSAGE, sealed

WAKE_ENDPOINT = "inproc://wake"
RECONNECT_IVL_MS = 10  # a restarted peer binds anew; the default of 100 would be most of its outage
LINGER_MS = 2000  # at an orderly end: what is still on its way to live peers


def inbox_path(run_dir: str, node_id: str, incarnation: int) -> str:
    """The path carries the incarnation: a second bind on a live path silently steals it."""
    return str(Path(run_dir) / f"{node_id}.{incarnation}")


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    # A woken I/O thread must not preempt the main thread that has just sent: 64 byte packets, 2 busy cores: 40,000 to 57,000/s, at no
    # cost of latency (a main thread that waits gives way at once).
    context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
    context.setsockopt(zmq.LINGER, 0)
    return context


class Inbox:
    """Where everything for this process arrives: DATA, RECEIPT and END from peers, WAKE from its own threads."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: str, waiting_max: int):
        """`waiting_max`: messages of one connection that may wait here unread; more wait at their sender. At least what a genuine peer may
        have under way: so they bound only what a flood may take of our memory.
        """
        self.path = path
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, waiting_max)
        self._socket.setsockopt(zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX)
        if hasattr(zmq, "IPC_FILTER_UID") and zmq.has("ipc"):
            self._socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
        self._socket.bind(WAKE_ENDPOINT)
        mask = os.umask(0o077)
        try:
            self._socket.bind(f"ipc://{path}")
        finally:
            os.umask(mask)
        self._recv: Callable[[int], bytes] = self._socket.recv
        self._watched = [(self._socket, zmq.POLLIN)]
        self._there = False  # a poll has found something that was not taken yet

    def poll(self, timeout_ms: int | None) -> bool:
        """Wait until something is there; None waits without end."""
        self._there = bool(zmq.zmq_poll(self._watched, -1 if timeout_ms is None else timeout_ms))
        return self._there

    def take(self) -> bytes | None:
        """The next message, None if nothing is there. Asking first costs 1.7 us, the exception of an empty socket 6 us."""
        if not self._there and not zmq.zmq_poll(self._watched, 0):
            return None
        self._there = False
        try:
            return self._recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        self._socket.close(linger=0)
        Path(self.path).unlink(missing_ok=True)


class Peer:
    """A connected PUSH socket to another process' inbox. What it sends is sealed with the run's key (SYNC: Exchange unseals)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: str, key: int):
        self._key = key
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # equal to the window it gives spurious EAGAIN; credits are the only limit
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_IVL_MS)
        self._socket.connect(f"ipc://{path}")
        self._send: Callable[[bytes, int], object] = self._socket.send
        self._lock = Lock()

    def send(self, message: bytes) -> None:
        """From any thread. Never blocks: nothing bounds the queue but the credits of the edges that use it."""
        raw = sealed(message, self._key)
        with self._lock:
            self._send(raw, zmq.NOBLOCK)

    def close(self, *, orderly: bool) -> None:
        """Orderly: what was sent still leaves if the peer lives (at most LINGER_MS); otherwise it is dropped."""
        with self._lock:  # another thread may be about to send: to nobody from here on
            self._send = lambda message, flags: None
            self._socket.close(linger=LINGER_MS if orderly else 0)


class Waker:
    """Lets another thread of the process end the inbox's wait. Make it in the thread that uses it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], key: int):
        self._message = sealed(WAKE_MESSAGE, key)
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.connect(WAKE_ENDPOINT)

    def wake(self) -> None:
        self._socket.send(self._message)

    def close(self) -> None:
        self._socket.close(linger=0)
