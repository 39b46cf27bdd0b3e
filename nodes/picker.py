"""A text of a packet, named by a path in the config of a node."""

from __future__ import annotations

from typing import Any

from streamcore import ConfigError, StreamPacket


class Picker:
    """Text of a packet by a path such as `payload.camera`; "" for an empty path, or where there is nothing."""

    def __init__(self, path: str):
        self.first, *self.rest = path.split(".")
        if path and (self.first not in ("source_id", "kind", "payload", "meta") or (self.first in ("payload", "meta")) != bool(self.rest)):
            raise ConfigError(f"found {path!r}, expected source_id, kind, payload.NAME or meta.NAME")

    def text(self, packet: StreamPacket) -> str:
        if not self.first:
            return ""
        value: Any = getattr(packet, self.first)
        for name in self.rest:
            value = value.get(name) if isinstance(value, dict) else None
        return "" if value is None else str(value)
