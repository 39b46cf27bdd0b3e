"""Taps of a real outlet over real sockets, without threads: what the lifeline would hear is heard when the test says so."""

from __future__ import annotations

import logging
import mmap
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamcore.node import channel
from streamcore.node.tapping import Tapping
from streamcore.packet import Meta, decode_meta
from streamcore.shm import segment
from streamcore.wire import tapping
from streamcore.wire.tapping import DONE, HELD, NEXT, PACKET, VOUCHED, Word


def frame(number: int) -> np.ndarray[Any, Any]:
    return np.full((8, 10, 3), number % 251, np.uint8)


class Ears:
    """Stands for the lifeline."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], None]] = {}
        self.pokes = 0

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        self.calls[fd] = call

    def unwatch(self, fd: int, call: Callable[[], None]) -> None:
        if self.calls.get(fd) is call:
            del self.calls[fd]

    def poke(self) -> None:
        self.pokes += 1

    def hear(self) -> None:
        """Until nobody says anything any more."""
        while ready := [fd for fd in self.calls if select.select([fd], [], [], 0)[0]]:
            for fd in ready:
                if fd in self.calls:
                    self.calls[fd]()


class FarEnd:
    """A tapping process: words sent and received by hand, pixels read from the ring."""

    def __init__(self, rig: Rig, name: str):
        self.rig, self.name = rig, name
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(rig.folder / name))
        self.listener.listen(1)
        self.link: socket.socket | None = None
        self.words: deque[Word] = deque()
        self.fds: list[int] = []

    def connect(self) -> None:
        self.link, _ = self.listener.accept()
        self.link.setblocking(False)

    def hears(self) -> list[Word]:
        """What has come since the last call; VOUCHED and PACKET as well as HELLO. An empty type 0 stands for the end."""
        assert self.link is not None
        found = []
        while True:
            try:
                raw, fds, _, _ = socket.recv_fds(self.link, tapping.DATAGRAM_BYTES_MAX, 1)
            except BlockingIOError:
                return found
            except ConnectionResetError:
                continue
            self.fds += fds
            if not raw:
                return [*found, Word(0, 0, 0, 0, 0, 0, b"")]
            found.append(tapping.read(raw))

    def packets(self) -> list[tuple[Word, Meta]]:
        return [(word, decode_meta(word.rest)) for word in self.hears() if word.type == PACKET]

    def say(self, kind: int, number: int = 0) -> None:
        assert self.link is not None
        self.link.send(tapping.header(kind, number=number))
        self.rig.ears.hear()
        self.rig.obey()

    def ready(self) -> None:
        self.say(NEXT)

    def take(self) -> tuple[Word, Meta, Any] | None:
        """The frame that was shown, copied and vouched for. None if there is none, or nobody vouches for it."""
        shown = [(word, meta) for word, meta in self.packets() if word.flags & HELD]
        if not shown:
            return None
        word, meta = shown[-1]
        assert meta.ref is not None
        payload = self.rig.wire.reader.copied(meta.ref)
        self.say(DONE, word.number)
        vouched = any(told.type == VOUCHED and told.number == word.number for told in self.hears())
        return (word, meta, payload) if vouched else None

    def close(self) -> None:
        for end in (self.link, self.listener):
            if end is not None:
                end.close()
        for fd in self.fds:
            os.close(fd)


class Rig:
    """`wire`, whose outlet is tapped."""

    def __init__(self, wire: Any, folder: Path):
        self.wire, self.folder, self.ears = wire, folder, Ears()
        self.commands: deque[channel.Command] = deque()
        self.ring_fd = segment.create("ring", mmap.PAGESIZE)  # the wire's own memory has no descriptor
        self.tapping = Tapping({"out": wire.outlet}, {str(wire.shape.id): self.ring_fd}, str(folder), 1, "camera")
        self.tapping.equip(self.ears, self.commands, wire.page.writer, logging.getLogger("test"))  # type: ignore[arg-type]
        self.ends: list[FarEnd] = []

    def attach(self, *, frames: bool = True, every_ns: int | None = 0) -> FarEnd:
        end = FarEnd(self, f"_tap.1.{len(self.ends):08x}")
        self.ends.append(end)
        self.tapping.on_command(channel.Tap(end.name, "out", frames, every_ns))
        end.connect()
        return end

    def obey(self) -> None:
        """What the main thread does with the commands that the lifeline's has left."""
        while self.commands:
            command = self.commands.popleft()
            assert isinstance(command, channel.Untap)
            self.tapping.on_command(command)

    @property
    def taps(self) -> int:
        return len(self.wire.outlet.taps.taps) if self.wire.outlet.taps is not None else 0

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.ears.hear()
        self.obey()
        os.close(self.ring_fd)
