"""What may be asked of a live run: JSON over a ZeroMQ ROUTER on ipc, one request, one reply (frames of a REQ socket).

    request   {"v": 1, "verb": "ps"}                        at most limits.MESSAGE_BYTES_MAX bytes
    reply     {"v": 1, "ok": true, ...what the verb gives}
              {"v": 1, "ok": false, "error": "one sentence"}

Unknown verbs, unknown keys and wrong types are refused, never guessed. Bodies of replies: telemetry/snapshot.py for `ps` and `stats`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.wire.tapping import NAME_PATTERN

VERSION = 1
RECORD_CHARS_MAX = 64  # a packet id has 32; it goes on to the node in one datagram, as does the name of an order
EVENTS_WAIT_S_MAX = 300.0  # an asker that has gone away is forgotten by then
Version = Literal[1]


class Ping(msgspec.Struct, tag="ping", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"pid", "refused", "orders"}: is anybody there; how many requests were none, so far; how many orders wait for their nodes."""

    v: Version


class Ps(msgspec.Struct, tag="ps", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"run", "state", "graph", "graph_version", "started", "uptime_s", "nodes": [NodeRow with CPU and memory], "edges": [EdgeRow],
    "http"}: where it can be looked at over HTTP, "" if nowhere.
    """

    v: Version


class Stats(msgspec.Struct, tag="stats", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"run", "state", "uptime_s", "nodes": [NodeRow], "edges": [EdgeRow], "windows": {"1": Window or null, "10", "60"},
    "bottleneck": Bottleneck}: the counters, what happened in the last seconds (telemetry/history.py), and what held the graph back in the
    last ten (telemetry/bottleneck.py); cheap enough to ask for often.
    """

    v: Version


class Trace(msgspec.Struct, tag="trace", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"run", "state", "uptime_s", "monotonic_ns", "wall_ns", "spans": {node: [Span]}, "edges": {number: [name, from_node]}, "roles"}: the
    traced packets of the last moment, the latest of each node first; telemetry/traces.py joins them. `roles`: {node: source, node or sink}.
    """

    v: Version


class Info(msgspec.Struct, tag="info", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"run", "run_id", "pid", "graph", "graph_version", "spec", "started", "http", "plan"}: what changes at most by `up --reload`."""

    v: Version


class Down(msgspec.Struct, tag="down", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"state"}: end the run; `now` kills without draining. The reply comes at once, the end when the lock is given up."""

    v: Version
    now: bool = False


class Account(msgspec.Struct, tag="account", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"run", "state", "uptime_s", "balanced", "edges", "sources", "sinks"}: what became of every packet; telemetry/account.py."""

    v: Version


class Restart(msgspec.Struct, tag="restart", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"node", "state", "incarnation", "pid"} of the process that is asked to end; `ps` shows the next one. Nothing is lost."""

    v: Version
    node: str


class Pause(msgspec.Struct, tag="pause", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"paused": [node]}: all that are now. Begin no further packet at one node, or at all of them."""

    v: Version
    node: str | None = None


class Resume(msgspec.Struct, tag="resume", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"paused": [node]}: those that still are."""

    v: Version
    node: str | None = None


class Redrive(msgspec.Struct, tag="redrive", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"node", "record"}: process a dead letter once more; the record says when that is done."""

    v: Version
    node: str
    record: Annotated[str, msgspec.Meta(max_length=RECORD_CHARS_MAX)]


class Order(msgspec.Struct, tag="order", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"node", "reply"}: what the node says to an order that its plugin knows (Node.on_order). The reply comes when it is carried out."""

    v: Version
    node: str
    name: Annotated[str, msgspec.Meta(max_length=RECORD_CHARS_MAX)]
    arguments: dict[str, Any] = {}


class Tap(msgspec.Struct, tag="tap", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"node", "state", "incarnation", "asked"}: show what leaves at `port` to whoever listens at `socket` in the run directory.

    asked: false if the node is in no state for it; ask again when `stats` shows it READY. The rest is between the two: wire/tapping.py.
    `frames`: also what lies in slots. `every_ns`: see node.channel.Tap.
    """

    v: Version
    node: str
    port: Annotated[str, msgspec.Meta(max_length=RECORD_CHARS_MAX)]
    socket: Annotated[str, msgspec.Meta(pattern=f"^{NAME_PATTERN}$")]
    frames: bool = False
    every_ns: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Events(msgspec.Struct, tag="events", tag_field="verb", forbid_unknown_fields=True, frozen=True):
    """{"events": [Event of telemetry/journal.py], "lost", "next"}: what happened after event `since`, the oldest first.

    `lost`: how many before the first were forgotten. Ask again with `next` until there are none. If there are none and `wait_s` is not 0,
    the reply comes with the next event, or after so long without one.
    """

    v: Version
    since: Annotated[int, msgspec.Meta(ge=0)] = 0
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=EVENTS_WAIT_S_MAX)] = 0.0


Request = Union[Ping, Ps, Stats, Trace, Info, Down, Account, Restart, Pause, Resume, Redrive, Order, Tap, Events]

_requests = msgspec.json.Decoder(Request)
_bodies = msgspec.json.Decoder(dict[str, Any])


def encode_request(verb: str, arguments: dict[str, Any]) -> bytes:
    """Raises MessageError if there is no such verb, or it does not take these arguments, or too many. Found out here, not there."""
    raw = msgspec.json.encode({"v": VERSION, "verb": verb, **arguments})
    if len(raw) > limits.MESSAGE_BYTES_MAX:  # the run would hang up without a word
        raise MessageError(f"request {verb}: found {len(raw)} bytes, expected at most {limits.MESSAGE_BYTES_MAX}; let it be several")
    decode_request(raw)
    return raw


def decode_request(raw: bytes) -> Request:
    """Raises MessageError, with a sentence for the sender, for anything that is no request."""
    try:
        request: Request = _requests.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"request refused: {error}") from None
    return request


def encode_reply(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"v": VERSION, "ok": True, **body})


def encode_refusal(error: str) -> bytes:
    return msgspec.json.encode({"v": VERSION, "ok": False, "error": error})


def decode_reply(raw: bytes) -> dict[str, Any]:
    """Raises MessageError for anything that is no reply of this version."""
    try:
        reply = _bodies.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"reply refused: {error}") from None
    if reply.get("v") != VERSION or not isinstance(reply.get("ok"), bool):
        raise MessageError(f"reply refused: v found {reply.get('v')!r}, expected {VERSION}")
    return reply
