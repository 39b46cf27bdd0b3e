"""A packet as an HTTP/1.1 request, in bytes. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from streamcore import ConfigError, DeliveryRefused, PayloadError, StreamPacket, __version__
from streamcore_nodes.delivery_order import told_of
from streamcore_nodes.http_connection import Target
from streamcore_nodes.line_file import line_of
from streamcore_nodes.picture_codec import encode_picture

JSON, BYTES = "application/json", "application/octet-stream"
OURS = {"host", "connection", "keep-alive", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
HIDDEN_CHARS_MIN, HIDDEN_PATH_CHARS_MIN = 4, 16  # of words in headers and queries; of parts of a path, where most are no secrets

_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


class Request(NamedTuple):
    """`key` is what the server knows a repeat by, `told` what a durable queue says of the packet."""

    key: str
    told: Mapping[str, Any]
    raw: bytes


class Requests:
    """Makes the requests of one node."""

    def __init__(self, target: Target, config: Mapping[str, Any]):
        headers = config["headers"]
        if wrong := [name for name in (*headers, config["key_header"]) if name.lower() in OURS]:
            raise ConfigError(f"headers: found {wrong[0]}, which the node sets itself (the type of the body by `content_type`)")
        own = {} if any(name.lower() == "user-agent" for name in headers) else {"User-Agent": f"streamcore/{__version__}"}
        lines = {"Host": target.authority, **own, **headers}
        self._head = f"POST {target.path} HTTP/1.1\r\n" + "".join(map(_header, lines, lines.values()))
        self._key_header, self._content_type = config["key_header"], config["content_type"]
        self._body, self._codec, self._quality = config["body"], config["codec"], config["quality"]
        _header("Content-Type", self._content_type)

    def make(self, packet: StreamPacket) -> Request:
        """Raises DeliveryRefused for what cannot be sent: a second attempt would not change that."""
        told = told_of(packet)
        key = told.get("id")
        key = key if isinstance(key, str) and _KEY.fullmatch(key) else packet.packet_id
        try:
            body, kind = self._encode(packet, key)
        except PayloadError as error:
            raise DeliveryRefused(str(error)) from None
        lines = [(self._key_header, key), ("Content-Type", self._content_type or kind), ("Content-Length", len(body))]
        if isinstance(told.get("attempt"), int):
            lines.append(("X-Streamcore-Attempt", told["attempt"]))
        if told.get("replayed") is True:
            lines.append(("X-Streamcore-Replayed", 1))
        if packet.redelivered:
            lines.append(("X-Streamcore-Redelivered", 1))
        head = self._head + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        return Request(key, told, head.encode("ascii") + body)

    def _encode(self, packet: StreamPacket, key: str) -> tuple[bytes, str]:
        """(body, its type). Raises PayloadError."""
        payload = packet.payload
        binary = isinstance(payload, (np.ndarray, bytes, bytearray, memoryview))
        if self._body == "envelope":
            if binary:
                raise PayloadError(f"found a payload of {type(payload).__name__}, expected JSON for an envelope; `body: payload` sends it")
            captured = {"id": key, "kind": packet.kind, "source_id": packet.source_id, "captured": packet.ts}
            return line_of({**captured, "payload": payload}), JSON
        if isinstance(payload, np.ndarray):
            if not self._codec:
                raise PayloadError("found an array, expected JSON or bytes: name a codec")
            return encode_picture(payload, self._codec, self._quality), f"image/{self._codec}"
        return (bytes(payload), BYTES) if binary else (line_of(payload), JSON)


def _header(name: str, value: str) -> str:
    """A line. Raises ConfigError, which does not show the value: it may be a secret."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ConfigError(f"headers: found a line break or another character that no header may have in {name!r}, expected printable ASCII")
    return f"{name}: {value}\r\n"


class Hidden:
    """Takes out of a server's words what it may repeat of ours: values of headers, of the query, and long parts of the path."""

    def __init__(self, values: Iterable[str], path: str):
        path, _, query = path.partition("?")
        words = {word for value in values for word in (value, *value.split()) if len(word) >= HIDDEN_CHARS_MIN}
        words |= {word for word in re.split("[&=]", query) if len(word) >= HIDDEN_CHARS_MIN}
        words |= {word for word in path.split("/") if len(word) >= HIDDEN_PATH_CHARS_MIN}
        self._words = sorted(words, key=len, reverse=True)

    def taken_out_of(self, text: str) -> str:
        for word in self._words:
            text = text.replace(word, "***")
        return text
