"""The thread that listens to the coordinator: commands, and the end of the process when the coordinator is gone."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns

from streamcore.node import channel
from streamcore.shm.status import WORD, StatusWriter
from streamcore.wire.inbox import Inbox
from streamcore.wire.messages import WAKE_MESSAGE, sealed

WAKE_BYTES = 4096  # of pokes read at once
GUARD_MS = 2  # how long a batch may wait if node code keeps the main thread
TICK_MS = 1000  # how often it says that it lives; as often as an idle process may wake
_ALIVE = WORD["alive_ns"]


class Lifeline:
    """Reads the control channel in a thread of its own, hands commands to `on_command` there, and wakes the main loop.

    At end of file the coordinator is dead: the inbox' file is removed and the whole process group is killed, children included.
    `poke` may be called from any thread and from signal handlers. `wake_fd` is for signal.set_wakeup_fd: without it, a signal that comes
    just before the main thread falls asleep does not wake it, and its Python handler is not run.
    """

    def __init__(
        self,
        inbox: Inbox,
        control: socket.socket,
        on_command: Callable[[channel.Command], None],
        status: StatusWriter,
        key: int,
    ):
        self._inbox, self._control, self._on_command = inbox, control, on_command
        self._wake_message = sealed(WAKE_MESSAGE, key)
        self._words = status.words
        self._wake_end, self.wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # the interpreter writes single bytes: no eventfd
        self._closing = False
        self.started = False
        self._guard: Callable[[], bool] | None = None
        self._calls: dict[int, Callable[[], None]] = {}  # by descriptor
        self._watching = threading.Lock()
        self._poller = select.poll()
        self._thread = threading.Thread(target=self._run, name="lifeline", daemon=True)

    def start(self) -> None:
        self.started = True
        self._thread.start()

    def poke(self) -> None:
        """Make the main loop look at what has changed."""
        with suppress(BlockingIOError):  # full of earlier pokes: it will look in any case
            os.write(self.wake_fd, b"\0")

    def call_guard(self, guard: Callable[[], bool]) -> None:
        """Call `guard` here every GUARD_MS until it returns False."""
        self._guard = guard
        self.poke()

    def watch(self, fd: int, call: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call it in this thread whenever the descriptor is readable, or what else `events` says. The main loop is not woken for that."""
        with self._watching:
            self._calls[fd] = call
            self._poller.register(fd, events)
        self.poke()

    def unwatch(self, fd: int, call: Callable[[], None]) -> None:
        """From any thread, any number of times. `call` as it was given: by now the descriptor may be another one."""
        with self._watching:
            if self._calls.get(fd) is call:
                del self._calls[fd]
                self._poller.unregister(fd)

    def close(self) -> None:
        self._closing = True
        self.poke()
        self._thread.join()

    def _run(self) -> None:
        poller = self._poller
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake_end, select.POLLIN)
        while not self._closing:
            guard = self._guard
            self._words[_ALIVE] = monotonic_ns()
            events = poller.poll(TICK_MS if guard is None else GUARD_MS)
            if guard is not None and not guard():
                self._guard = None
                if guard():  # armed again between the two lines above
                    self._guard = guard
            if [fd for fd, _ in events if not self._is_heard(fd)]:
                self._inbox.wake(self._wake_message)

    def _is_heard(self, fd: int) -> bool:
        """Do what a readable descriptor asks for. True: the main loop need not look."""
        if fd == self._wake_end:
            os.read(fd, WAKE_BYTES)
        elif fd == self._control.fileno():
            command = self._receive()
            if command is None:
                self._die()
            else:
                self._on_command(command)
        else:
            call = self._calls.get(fd)
            if call is not None:  # None: it was closed while this thread slept
                call()
            return True
        return False

    def _receive(self) -> channel.Command | None:
        try:
            return channel.receive_command(self._control)
        except ConnectionError:
            return None

    def _die(self) -> None:
        Path(self._inbox.path).unlink(missing_ok=True)
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
