"""The control channel: one SOCK_SEQPACKET socketpair per node, one JSON datagram per command or report.

Commands go from the coordinator to the node, reports come back. End of file means that the other side is gone.
"""

from __future__ import annotations

import socket
from typing import Annotated, Any, Union

import msgspec

DATAGRAM_BYTES_MAX = 64 * 1024  # below the default send buffer of a socketpair; texts are cut to fit


class Start(msgspec.Struct, tag="start", frozen=True):
    """All peers are bound: connect to them (node id to incarnation) and begin.

    A restarted node learns here which peers are done and which are gone (see PeerDone and PeerGone).
    """

    peers: dict[str, int]
    done: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """Sources: end the stream now. Others end when their inputs do."""


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Others than sources: the run is asked to end. What a node keeps on the disk for later may stay there."""


class PeerRestarted(msgspec.Struct, tag="peer_restarted", frozen=True):
    """A node has a new incarnation, which is bound: connect to it, and send it again what it has not completed."""

    node: str
    incarnation: int


class PeerDone(msgspec.Struct, tag="peer_done", frozen=True):
    """A node has ended in good order: it has completed whatever it was sent, and nothing more comes from it."""

    node: str


class Outcomes(msgspec.Struct, tag="outcomes", frozen=True):
    """Sent before a node is named as done: what it has completed with another outcome than OK, so that its last receipts are not missed.

    `sequences` on `edge`; several of these if there are many.
    """

    edge: int
    outcome: int
    sequences: tuple[int, ...]


class Pause(msgspec.Struct, tag="pause", frozen=True):
    """Begin no further packet (a source: emit none) until Resume. What is under way is finished."""


class Resume(msgspec.Struct, tag="resume", frozen=True):
    pass


class Redrive(msgspec.Struct, tag="redrive", frozen=True):
    """Process the dead letter of this packet id once more, as an input that comes by no edge. It is marked when that is done."""

    record: str


class Order(msgspec.Struct, tag="order", frozen=True):
    """Carry out what `Node.on_order` of this node knows by that name, between two packets, and say Answered with the same number."""

    number: int
    name: str
    arguments: dict[str, Any]


class Tap(msgspec.Struct, tag="tap", frozen=True):
    """Show the packets of an output port to the process that listens at `name` in the run directory. `frames`: also what lies in slots.

    every_ns: at most one packet in so long; 0: as many as it can copy; None: as many as do no harm (node.tapping). What comes of it the
    process learns from the node itself, by wire.tapping.
    """

    name: str
    port: str
    frames: bool
    every_ns: int | None = None


class Untap(msgspec.Struct, tag="untap", frozen=True):
    """A tap of this process has gone. Said by the lifeline's thread, which hears it, to the main one."""

    number: int


class News(msgspec.Struct, tag="news", frozen=True):
    """The answer to Follow: events of telemetry/journal.py in order, the first of them behind `lost` that were forgotten.

    No events: nothing more is to come, for all that has work of its own is done.
    """

    events: tuple[dict[str, Any], ...]
    lost: int = 0


class PeerGone(msgspec.Struct, tag="peer_gone", frozen=True):
    """A node failed for good, and its process is gone: its edges end. What waited for it fails; what it had committed is processed."""

    node: str


class Starting(msgspec.Struct, tag="starting", frozen=True):
    """setup() is at work on something long and gets on with it: `startup_s` begins anew."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Plugin loaded, setup() returned, rings mapped."""

    pid: int


class Draining(msgspec.Struct, tag="draining", frozen=True):
    """All inputs of the node, or its source, are at their end; outputs are still under way."""


class Done(msgspec.Struct, tag="done", frozen=True):
    """flush() and close() returned, everything is completed; the process exits with 0 next."""


class Answered(msgspec.Struct, tag="answered", frozen=True):
    """An order was carried out, or not: `error` says why. The node goes on in either case."""

    number: int
    reply: dict[str, Any]
    error: str = ""


class LogLost(msgspec.Struct, tag="log_lost", frozen=True):
    """The log of the node takes nothing any more, e.g. for want of room on the disk; what the node prints is lost. Said once."""

    why: str


class Follow(msgspec.Struct, tag="follow", frozen=True):
    """A node wants to know what happens in the run after the event of this number, as soon as there is something: once, by News."""

    after: Annotated[int, msgspec.Meta(ge=0)]


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The node cannot go on and exits with 1 next.

    where: import, config, setup, run, process, flush, close or host. cause: one line, e.g. "ConfigError: no such file: a.mp4".
    fault: spec, plugin, box or streamcore. traceback: shown with --debug and kept in the log.
    """

    where: str
    cause: str
    fault: str
    traceback: str = ""


Command = Union[Start, Stop, Drain, Pause, Resume, Redrive, Order, Tap, Untap, PeerRestarted, Outcomes, PeerDone, PeerGone, News]
Report = Union[Starting, Ready, Draining, Answered, LogLost, Follow, Done, Failed]

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
