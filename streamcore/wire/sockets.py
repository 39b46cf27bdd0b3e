"""Sockets between processes: SOCK_SEQPACKET of the kernel. Messages arrive whole and in order, and one that is sent wakes the process that
reads it, and no thread between.

The coordinator makes the inbox of a process before the process: so whoever knows of an incarnation can connect to it, and what is sent
before it listens, waits. What is done per message has a twin in leaves.c.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

from streamcore import limits, native
from streamcore.wire.messages import sealed

RECEIVE_MAX = 16  # messages of one connection that are read before the others have their turn
EVENTS_MAX = 16  # connections that are read at once
READ_BYTES = limits.MESSAGE_BYTES_MAX + 1  # a longer message is cut, so its checksum is wrong
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def inbox_path(run_dir: str, node_id: str, incarnation: int) -> str:
    """The path carries the incarnation: what was meant for a dead process never reaches its successor."""
    return str(Path(run_dir) / f"{node_id}.{incarnation}")


def bind_inbox(path: str) -> socket.socket:
    """The socket that a process gets as its inbox. Raises OSError that names the path: it is taken, or there is no such directory."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(bound.fileno(), 0o600)  # before it has a name: nobody else may ever connect
        bound.bind(path)
        bound.listen(socket.SOMAXCONN)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{error.strerror}: {path}") from None
    return bound


def uid_of_peer(connection: socket.socket) -> int:
    """The user who is at the other end, as the kernel knows."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def gather(epoll: select.epoll, fd: int, timeout_ms: int, linger_ns: int) -> tuple[list[bytes], list[int]]:
    """Wait until something is there, for ever if `timeout_ms` is negative, or until a signal comes, and read it.

    Before it sleeps, unless `timeout_ms` is 0, it looks again and again for `linger_ns`. `fd`: that of the epoll.

    Gives the messages, RECEIVE_MAX of a connection at most, and the descriptors that have no more: of listeners, and of connections that
    have ended, as one with an empty message has.
    """
    messages: list[bytes] = []
    odd: list[int] = []
    events: list[tuple[int, int]] = []
    until_ns = monotonic_ns() + linger_ns if linger_ns and timeout_ms else 0
    while not events and until_ns and monotonic_ns() < until_ns:
        events = epoll.poll(0, EVENTS_MAX)
    for fd, _ in events or epoll.poll(timeout_ms if timeout_ms < 0 else timeout_ms / 1000, EVENTS_MAX):
        for _ in range(RECEIVE_MAX):
            try:
                message = os.read(fd, READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                message = b""
            if not message:
                odd.append(fd)
                break
            messages.append(message)
    return messages, odd


def transmit(send: Callable[[bytes, int], int], fd: int, message: bytes, key: int) -> bool:
    """Seal a message and send it at once, through `fd`, whose method `send` is. False: there is no room. Raises OSError."""
    try:
        send(sealed(message, key), _AT_ONCE)
    except BlockingIOError:
        return False
    return True


native.take_over(globals(), "gather", "transmit")
