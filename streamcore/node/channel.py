"""The control channel: one SOCK_SEQPACKET socketpair per node, one JSON datagram per command or report.

Commands go from the coordinator to the node, reports come back. End of file means that the other side is gone.
"""

from __future__ import annotations

import socket
from typing import Union

import msgspec

DATAGRAM_BYTES_MAX = 64 * 1024  # below the default send buffer of a socketpair; texts are cut to fit


class Start(msgspec.Struct, tag="start", frozen=True):
    """All peers are bound: connect to them (node id to incarnation) and begin."""

    peers: dict[str, int]


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """Sources: end the stream now. Others end when their inputs do."""


class PeerGone(msgspec.Struct, tag="peer_gone", frozen=True):
    """A node failed for good: its edges end. What waited for it fails; what came from it is finished."""

    node: str


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Plugin loaded, setup() returned, rings mapped, inbox bound."""

    pid: int


class Draining(msgspec.Struct, tag="draining", frozen=True):
    """All inputs of the node, or its source, are at their end; outputs are still under way."""


class Done(msgspec.Struct, tag="done", frozen=True):
    """flush() and close() returned, everything is completed; the process exits with 0 next."""


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The node cannot go on and exits with 1 next.

    where: import, config, setup, run, process, flush, close or host. cause: one line, e.g. "ConfigError: no such file: a.mp4".
    fault: spec, plugin, box or streamcore. traceback: shown with --debug and kept in the log.
    """

    where: str
    cause: str
    fault: str
    traceback: str = ""


Command = Union[Start, Stop, PeerGone]
Report = Union[Ready, Draining, Done, Failed]

_encoder = msgspec.json.Encoder()
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def encode(what: Command | Report) -> bytes:
    """Raises ValueError if the datagram would be larger than DATAGRAM_BYTES_MAX."""
    raw = _encoder.encode(what)
    if len(raw) > DATAGRAM_BYTES_MAX:
        raise ValueError(f"control datagram of {len(raw)} bytes, at most {DATAGRAM_BYTES_MAX}")
    return raw


def receive_command(channel: socket.socket) -> Command | None:
    """Block for the next command; None at end of file. Raises msgspec.DecodeError for anything else than a command."""
    raw = channel.recv(DATAGRAM_BYTES_MAX)
    return _commands.decode(raw) if raw else None


def decode_report(raw: bytes) -> Report:
    """Raises msgspec.DecodeError for anything else than a report."""
    return _reports.decode(raw)
