"""What a run tells systemd, if that has started it with Type=notify: that it is ready, how it goes, that it ends, and that it is alive.

The watchdog's word is sent from the loop itself, at half of the time that the unit allows: a loop that hangs sends none. sd_notify(3) is a
datagram of a few words, so no library is needed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING

from streamcore.supervisor import states
from streamcore.supervisor.loop import Loop

if TYPE_CHECKING:
    from streamcore.coordinator.coordinator import Coordinator

SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
WATCHDOG_S_MIN = 0.05  # a loop that says more often that it lives does little else


class ServiceManager:
    """Silent if nobody listens: a run does not depend on who watches it."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0):
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        self._status, self._is_stopping = "", False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """Takes the words out of the environment: no child may speak for the run."""
        address, usec, pid = (environ.pop(name, "") for name in (SOCKET, WATCHDOG_USEC, WATCHDOG_PID))
        meant_for_us = not pid or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if usec.isdecimal() and meant_for_us and address else 0.0
        return cls(address if address[:1] in ("/", "@") else "", watchdog_s)

    def watch(self, loop: Loop) -> None:
        """Say that the loop is alive, from now on until it is closed."""
        if self.watchdog_s <= 0:
            return
        pause_s = max(WATCHDOG_S_MIN, self.watchdog_s / 2)

        def alive() -> None:
            self.say("WATCHDOG=1")
            loop.after(pause_s, alive)

        alive()

    def ready(self) -> None:
        self.say("READY=1")

    def stopping(self) -> None:
        """Said once."""
        if not self._is_stopping:
            self._is_stopping = True
            self.say("STOPPING=1")

    def status(self, tell: Callable[[], str]) -> None:
        """`systemctl status` shows it. Only news are sent."""
        if self._socket is None:
            return
        text = tell().replace("\n", " ")
        if text != self._status:
            self._status = text
            self.say(f"STATUS={text}")

    def say(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:  # it is restarted, or its queue is full
            pass

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def in_short(run: Coordinator) -> str:
    rows = run.view.snapshot(distributions=False).nodes
    ready, taken = sum(row.state in (states.READY, states.DRAINING) for row in rows), sum(row.consumed for row in rows)
    return f"{run.phase}: {ready} of {len(rows)} nodes ready, {taken:,} packets taken, {sum(row.restarts for row in rows)} restarts"
