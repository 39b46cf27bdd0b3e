"""The control socket of a live run. It answers from the coordinator's own thread and never waits for anybody."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import zmq

from streamcore import limits
from streamcore.control import protocol
from streamcore.errors import MessageError, StreamcoreError

REQUESTS_PER_TURN_MAX = 32  # one flooding client must not keep the coordinator from its nodes
REPLY_LINGER_MS = 200  # the reply to `down --now` is under way when the run ends; bounded, so closing never hangs
REQUESTS_WAITING_MAX = 64  # of one client; more wait at the client, not in our memory
REPLIES_WAITING_MAX = 64  # to one client that asks and does not read; further replies to it are dropped


class Later:
    """A reply that is not known yet: whoever returns one calls `reply` or `refuse` of it, once. After the run's end nobody hears it."""

    def __init__(self) -> None:
        self.send: Callable[[bytes], None] = lambda raw: None  # set by the server

    def reply(self, body: dict[str, Any]) -> None:
        self.send(protocol.encode_reply(body))

    def refuse(self, error: str) -> None:
        self.send(protocol.encode_refusal(error))


Answer = Callable[[protocol.Request], dict[str, Any] | Later]


class Server:
    """A ROUTER at `path`. The owner watches `fd` and calls `serve` when it is readable, and again while `serve` says True."""

    def __init__(self, path: str, answer: Answer):
        """Bind. Raises zmq.ZMQError if the path cannot be bound."""
        self._answer = answer
        self.served = 0
        self.refused = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX)
        self._socket.setsockopt(zmq.RCVHWM, REQUESTS_WAITING_MAX)
        self._socket.setsockopt(zmq.SNDHWM, REPLIES_WAITING_MAX)
        if hasattr(zmq, "IPC_FILTER_UID"):
            self._socket.setsockopt(zmq.IPC_FILTER_UID, os.geteuid())
        umask = os.umask(0o077)
        try:
            self._socket.bind(f"ipc://{path}")
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        finally:
            os.umask(umask)
        self.fd = int(self._socket.getsockopt(zmq.FD))

    def serve(self) -> bool:
        """Answer what is waiting. True if more is: the descriptor tells of a change only once, so nobody else would say it again."""
        for _ in range(REQUESTS_PER_TURN_MAX):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self._handle(frames)
        return True

    def _handle(self, frames: list[bytes]) -> None:
        if len(frames) != 3 or frames[1]:
            self.refused += 1  # not what a REQ socket sends: there is no way to answer it either
            return
        try:
            answer = self._answer(protocol.decode_request(frames[2]))
            self.served += 1
            if isinstance(answer, Later):
                answer.send = functools.partial(self._send, frames[0])
                return
            reply = protocol.encode_reply(answer)
        except MessageError as error:
            self.refused += 1
            reply = protocol.encode_refusal(str(error))
        except StreamcoreError as error:
            reply = protocol.encode_refusal(str(error))
        self._send(frames[0], reply)

    def _send(self, to: bytes, reply: bytes) -> None:
        try:
            self._socket.send_multipart([to, b"", reply], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass  # the asker has gone, or does not read its replies; or the run has ended

    def close(self) -> None:
        self._context.destroy(linger=REPLY_LINGER_MS)
