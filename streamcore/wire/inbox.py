"""The inbox of a process and its connections to others. Only metadata passes here; credits bound what is under way."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from streamcore.clock import Clock
from streamcore.wire.sockets import gather, transmit, uid_of_peer
from streamcore.wire.turn import Turn

monotonic_ns: Final = time.monotonic_ns  # a constant costs no look-up
LINGER_NS: Final = 50_000  # what it takes to wake a process on a virtual machine, both sides together: who looks longer loses more
SHORT_WAITS: Final = 8  # in a row, so that one in vain comes after as many that were worth it
CLOSING_S = 2.0  # at an orderly end: what a live peer had no room for yet
_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)  # the kernel's, for the moment
_NO_ROOM = (*_NO_MEMORY, errno.EMFILE, errno.ENFILE)


class Incoming(Protocol):
    """An Inbox, or what stands for one."""

    def poll(self, timeout_ms: int | None) -> bool: ...

    def sleep(self, duration_ns: int) -> None: ...

    def take(self) -> bytes | None: ...


class Outgoing(Protocol):
    """A Peer, or what stands for one."""

    def send(self, message: bytes) -> None: ...

    def close(self, *, orderly: bool) -> None: ...


class Inbox:
    """Where everything for this process arrives: DATA, RECEIPT and END from peers, WAKE from its own threads.

    Connections have their turns. A stranger's flood waits with the stranger.
    """

    def __init__(self, bound: socket.socket, path: str, connections_max: int, *, lingers: bool = False):
        """`bound`: from bind_inbox; closed with the inbox. More than `connections_max` have to wait until one has ended.

        `lingers`: once some waits in a row were shorter than a wake-up takes, look for so long before sleeping. Only for a process that has
        a CPU of its own: it takes the time from whoever else could have run.
        """
        self.path, self._connections_max = path, connections_max
        self._listener, self._listens = bound, False
        self._connections: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()
        self._messages: deque[bytes] = deque()  # read and not taken
        self._linger_ns, self._short_waits = LINGER_NS if lingers else 0, 0
        self._gather, self._sleep = gather, Clock.sleep  # here they cost no look-up
        self._looked = False  # what the last look has found was not taken to its end
        self._listen()
        woken, self._waking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._waking.setblocking(False)
        self._add(woken)

    def poll(self, timeout_ms: int | None) -> bool:
        """Wait until something is there; None waits without end."""
        if self._messages:
            return True
        wait_ms = -1 if timeout_ms is None else timeout_ms
        messages, odd = self._lingering(wait_ms) if self._linger_ns and wait_ms else self._gather(self._epoll, self._fd, wait_ms, 0)
        self._looked = bool(messages or odd)
        if not self._looked:
            return False
        self._messages.extend(messages)
        self._listen()  # where it did not: a descriptor may be free by now
        if odd:
            self._look_at(odd)
        return True

    def _lingering(self, timeout_ms: int) -> tuple[list[bytes], list[int]]:
        began_ns, linger_ns = monotonic_ns(), self._linger_ns
        found = self._gather(self._epoll, self._fd, timeout_ms, linger_ns if self._short_waits >= SHORT_WAITS else 0)
        self._short_waits = min(self._short_waits + 1, SHORT_WAITS) if monotonic_ns() - began_ns < linger_ns else 0
        return found

    def sleep(self, duration_ns: int) -> None:
        """For so long, whatever comes."""
        self._sleep(duration_ns / 1e9)

    def take(self) -> bytes | None:
        """The next message, None if nothing is there."""
        if not self._messages and (self._looked or not self.poll(0) or not self._messages):
            self._looked = False
            return None
        return self._messages.popleft()

    def wake(self, message: bytes) -> None:
        """End the wait, with a message of our own; from any thread."""
        with suppress(BlockingIOError):  # full of earlier ones: it will look in any case
            self._waking.send(message)

    def _look_at(self, odd: list[int]) -> None:
        for fd in odd:
            ended = self._connections.pop(fd, None)
            if ended is None:
                self._accept()
            else:
                self._epoll.unregister(ended)  # closing it does not do that if a child of this process has a copy
                ended.close()
                self._listen()

    def close(self) -> None:
        for connection in (*self._connections.values(), self._waking, self._listener):
            connection.close()
        self._epoll.close()
        Path(self.path).unlink(missing_ok=True)

    def _accept(self) -> None:
        """One connection, unless it is another user's."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._stop_listening()
            return
        if uid_of_peer(connection) != os.geteuid():
            connection.close()
            return
        self._add(connection)
        if len(self._connections) >= self._connections_max:
            self._stop_listening()

    def _listen(self) -> None:
        if not self._listens and len(self._connections) < self._connections_max:
            self._epoll.register(self._listener, select.EPOLLIN)
            self._listens = True

    def _stop_listening(self) -> None:
        """While no more connections can be taken: they would end every wait."""
        self._epoll.unregister(self._listener)
        self._listens = False

    def _add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._epoll.register(connection, select.EPOLLIN)
        self._connections[connection.fileno()] = connection


class Peer:
    """A connection to another process' inbox. What it sends is sealed with the run's key (SYNC: Exchange unseals).

    What the kernel has no room for waits here, in order: `on_full` is told that, once until `push` has sent all of it.
    """

    def __init__(self, path: str, key: int, on_full: Callable[[Peer], None]):
        """To a process that is gone, or whose inbox is: everything sent is dropped, as it is when it dies later."""
        self._key, self._on_full = key, on_full
        self._waiting: deque[bytes] = deque()
        turn = Turn()
        self._take_turn, self._give_turn = turn.take, turn.give
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._fd, self._send = self._socket.fileno(), self._socket.send
        try:
            self._socket.connect(path)
            self._alive = True
        except (FileNotFoundError, ConnectionError):
            self._alive = False

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """From any thread. Never blocks: nothing bounds what waits but the credits of the edges that use it."""
        self._take_turn()
        try:
            if self._waiting or not self._sent(message):
                self._waiting.append(message)
                if len(self._waiting) == 1:
                    self._on_full(self)
        finally:
            self._give_turn(None)

    def push(self) -> bool:
        """Send what waits, as far as there is room. True: nothing waits any more. From any thread."""
        self._take_turn()
        try:
            while self._waiting and self._sent(self._waiting[0]):
                self._waiting.popleft()
            return not self._waiting
        finally:
            self._give_turn(None)

    def close(self, *, orderly: bool) -> None:
        """Orderly: what waits still leaves if the peer lives (for at most CLOSING_S); otherwise it is dropped. What was sent arrives."""
        self._take_turn()  # another thread may be about to send: to nobody from here on
        try:
            deadline = time.monotonic() + CLOSING_S
            while orderly and self._waiting and (left_s := deadline - time.monotonic()) > 0:
                if self._has_room(left_s) and self._sent(self._waiting[0]):
                    self._waiting.popleft()
            self._waiting.clear()
            self._alive = False
            self._socket.close()
        finally:
            self._give_turn(None)

    def _has_room(self, timeout_s: float) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        return bool(poller.poll(1000 * timeout_s))

    def _sent(self, message: bytes) -> bool:
        """False: there is no room. What is sent to the dead counts as sent."""
        if self._alive:
            try:
                return transmit(self._send, self._fd, message, self._key)
            except ConnectionError:
                self._alive = False
            except OSError as error:
                if error.errno not in _NO_MEMORY:
                    raise
                return False
        return True
