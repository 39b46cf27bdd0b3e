"""The tapping side of a tap: asks the run for it, and takes what the node shows, across restarts of the node. SYNC: node/tapping.py."""

from __future__ import annotations

import os
import re
import secrets
import select
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from streamcore.clock import Clock
from streamcore.control.client import Client
from streamcore.control.ports import OutputPort
from streamcore.errors import ConfigError, MessageError, RunError, StreamcoreError
from streamcore.packet import Meta, decode_json, decode_meta
from streamcore.shm.ring import RingReader, attach_ring
from streamcore.wire import tapping
from streamcore.wire.sockets import uid_of_peer

LOOK_MS = 250  # how often a tap that waits for its node looks what has become of it
CONNECTIONS_WAITING_MAX = 4


class PortEnded(StreamcoreError):
    """Nothing more will leave at this port. `failed`: not because its stream is at its end."""

    def __init__(self, text: str, failed: bool = False):
        super().__init__(text)
        self.failed = failed


class TapRefused(StreamcoreError):
    """The node does not show this port to one more tap."""

    fault = "box"


class Tapped(msgspec.Struct):
    """A packet as it was shown. `payload`: JSON, bytes, or an array that is ours; None with `seen` false for what was not asked for.

    age_ns: from its capture to its arrival here. passed: packets of the port that were not shown to this tap, so far.
    """

    meta: Meta
    sequence: int
    incarnation: int
    redelivered: bool
    passed: int
    age_ns: int
    payload: Any = None
    seen: bool = True


class Tap:
    """One tap of one port. Use as a context manager: at its end the node is told, by the connection that closes.

    frames: copy what lies in slots. every_ns: see node.channel.Tap. stop_fd: once it is readable, `take` gives None. on_wait: told, in a
    few words, whenever the node is in another state that has to be waited for.
    """

    def __init__(
        self,
        client: Client,
        port: OutputPort,
        run_id: str,
        *,
        frames: bool,
        every_ns: int | None,
        stop_fd: int,
        on_wait: Callable[[str], None] = lambda text: None,
    ):
        self._client, self._port, self._run_id, self._frames, self._every_ns = client, port, run_id, frames, every_ns
        self._stop_fd, self._on_wait = stop_fd, on_wait
        self._folder = Path(client.info.path)
        self._name = f"_tap.{os.getpid()}.{secrets.token_hex(4)}"
        self._link: socket.socket | None = None
        self._reader: RingReader | None = None
        self._asked = 0  # the incarnation that was asked to connect
        self._said = ""
        self._copied: dict[int, Tapped] = {}  # and not vouched for
        self._passed_before = self._passed = 0  # on connections before this one, and on this one
        self._waits = False  # said NEXT, and nothing came
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _sweep(self._folder)
            self._listener.setblocking(False)
            self._listener.bind(str(self._folder / self._name))
            self._listener.listen(CONNECTIONS_WAITING_MAX)
        except OSError as error:
            self.close()
            if not client.live():
                raise RunError(f"run '{client.info.run}' has ended") from None
            raise ConfigError(f"{self._folder / self._name}: cannot listen there: {error.strerror or error}") from None

    def take(self) -> Tapped | None:
        """Wait for the next packet. None once `stop_fd` is readable.

        Raises:
          PortEnded, TapRefused: there will be no further one.
        """
        while True:
            if self._link is None:
                self._look()
            self._say_next()
            poll = select.poll()
            poll.register(self._stop_fd, select.POLLIN)
            poll.register(self._link or self._listener, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(LOOK_MS if self._link is None else None)}
            if self._stop_fd in ready:
                return None
            if ready and self._link is None:
                self._accept()
            elif ready and (taken := self._hear()) is not None:
                return taken

    # --- finding the node

    def _look(self) -> None:
        """Ask the node to connect, once per incarnation, when it is in a state to do so."""
        try:
            rows = self._client.request("stats")["nodes"]
            row = next(row for row in rows if row["id"] == self._port.node)
            state, incarnation = row["state"], row["incarnation"]
            if state in ("DONE", "FAILED"):
                cause = f": {row['cause']}" if state == "FAILED" and row.get("cause") else ""
                word = "has failed for good" if state == "FAILED" else "has ended"
                raise PortEnded(f"node '{self._port.node}' {word}{cause}", failed=state == "FAILED")
            if state not in ("READY", "DRAINING"):
                self._wait_for(f"node '{self._port.node}' is {state}")
            elif incarnation != self._asked:
                self._ask()
            else:
                self._wait_for(f"node '{self._port.node}' is busy with a packet")
        except RunError as error:
            if self._client.live():
                raise
            raise PortEnded(f"run '{self._client.info.run}' has ended", failed=False) from error

    def _ask(self) -> None:
        port = self._port
        answer = self._client.request(
            "tap", node=port.node, port=port.name, socket=self._name, frames=self._frames, every_ns=self._every_ns
        )
        self._asked = answer["incarnation"] if answer["asked"] else 0

    def _wait_for(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._on_wait(what)

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except BlockingIOError:
            return
        if uid_of_peer(link) != os.geteuid():
            link.close()
            return
        link.setblocking(False)
        self._link, self._said = link, ""

    # --- what it shows

    def _hear(self) -> Tapped | None:
        assert self._link is not None  # the caller looked
        try:
            raw, fds, _, _ = socket.recv_fds(self._link, tapping.DATAGRAM_BYTES_MAX, 1)
        except (BlockingIOError, ConnectionResetError):
            return None  # the second is said once, before what the node had still to say
        try:
            if not raw:
                self._lose()
                return None
            word = tapping.read(raw)
            if word.type == tapping.PACKET:
                return self._on_packet(word)
            if word.type == tapping.VOUCHED:
                return self._copied.pop(word.number, None)
            if word.type == tapping.REFUSED:
                raise TapRefused(word.rest.decode("utf-8", "replace"))
            if word.type == tapping.HELLO and fds:
                memory = attach_ring(fds[0], self._port.ring, self._run_id, writable=False)
                self._reader = RingReader(memory, self._port.ring)
        except MessageError as error:
            raise TapRefused(f"node '{self._port.node}' said what nobody understands: {error}") from None
        finally:
            for fd in fds:
                os.close(fd)
        return None

    def _lose(self) -> None:
        """The node has gone, or thinks that we have. What it has not vouched for may be torn."""
        assert self._link is not None
        self._link.close()
        self._copied.clear()
        self._passed_before, self._passed = self._passed_before + self._passed, 0
        self._link, self._reader, self._asked, self._waits = None, None, 0, False

    def _on_packet(self, word: tapping.Word) -> Tapped | None:
        meta = decode_meta(word.rest)
        age_ns = max(0, Clock.monotonic_ns() - meta.capture_ns)
        redelivered = bool(word.flags & tapping.REDELIVERED)
        self._passed = word.passed
        passed = self._passed_before + word.passed
        tapped = Tapped(meta, word.sequence, word.incarnation, redelivered, passed, age_ns, meta.value)
        if meta.ref is None:
            return tapped
        tapped.seen = bool(word.flags & tapping.HELD) or not meta.ref.nbytes
        if not tapped.seen or self._reader is None:
            return tapped
        tapped.payload = self._reader.copied(meta.ref)
        if not word.flags & tapping.HELD:
            return tapped
        self._copied[word.number] = tapped
        self._waits = False
        if meta.ref.dtype == "msgpack":
            tapped.payload = _decoded(tapped.payload)
        self._say(tapping.DONE, word.number)
        return None

    def _say_next(self) -> None:
        if self._reader is not None and not self._waits and not self._copied:
            self._waits = True
            self._say(tapping.NEXT)

    def _say(self, kind: int, number: int = 0) -> None:
        assert self._link is not None  # there is none without a reader
        try:
            self._link.send(tapping.header(kind, number=number))
        except OSError:  # it has gone: what it had still to say comes before its end
            pass

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._listener.close()
        (self._folder / self._name).unlink(missing_ok=True)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _decoded(raw: bytes) -> Any:
    """None for what is torn, and will not be vouched for."""
    try:
        return decode_json(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _sweep(folder: Path) -> None:
    """Remove the sockets of taps that were killed."""
    for path in folder.glob("_tap.*"):
        if re.fullmatch(tapping.NAME_PATTERN, path.name) and not Path("/proc", path.name.split(".")[1]).exists():
            path.unlink(missing_ok=True)
