"""A packet of a tap as a line of text or of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.cli.wording import size
from streamcore.clock import iso_utc

if TYPE_CHECKING:
    from streamcore.control.tapping import Tapped

SHORT_CHARS = 120  # of meta and of a payload in a line for people, where the terminal does not say how wide it is


def line(tapped: Tapped, width: int, saved: Path | None = None) -> str:
    """Sequence, age, kind, source, payload, meta, each once, cut to `width` characters if that is not 0."""
    meta = tapped.meta
    words = [f"#{tapped.sequence}" if tapped.sequence >= 0 else "dropped", f"{tapped.age_ns / 1e6:.1f} ms", meta.kind, meta.source_id]
    words.append(_payload(tapped))
    if meta.meta:
        words.append(f"meta {_short(meta.meta)}")
    if tapped.redelivered:
        words.append("redelivered")
    text = _printable("  ".join(words))
    if width and len(text) > width:
        text = text[: max(1, width - 1)] + "…"
    return text + (f"  -> {saved}" if saved is not None else "")


def facts(tapped: Tapped, port: str, saved: Path | None = None) -> dict[str, Any]:
    """The same for programs: one object of `--json`."""
    meta, ref = tapped.meta, tapped.meta.ref
    found: dict[str, Any] = {
        "port": port,
        "sequence": tapped.sequence if tapped.sequence >= 0 else None,
        "packet_id": meta.id16.hex(),
        "kind": meta.kind,
        "source_id": meta.source_id,
        "ts": iso_utc(meta.wall_ns),
        "age_ms": round(tapped.age_ns / 1e6, 3),
        "meta": meta.meta,
        "position": meta.position,
        "redelivered": tapped.redelivered,
        "incarnation": tapped.incarnation,
        "passed": tapped.passed,
    }
    if ref is not None and ref.dtype not in ("", "msgpack"):
        found |= {"payload": "array", "dtype": ref.dtype, "shape": list(ref.shape), "bytes": ref.nbytes}
    elif ref is not None and ref.dtype == "":
        found |= {"payload": "bytes", "bytes": ref.nbytes}
    elif isinstance(tapped.payload, bytes):
        found |= {"payload": "bytes", "bytes": len(tapped.payload)}
    else:
        found |= {"payload": "json", "value": tapped.payload}
    return found | ({"saved": str(saved)} if saved is not None else {})


def as_json(tapped: Tapped, port: str, saved: Path | None = None) -> str:
    return json.dumps(facts(tapped, port, saved), ensure_ascii=True, separators=(",", ":"))


def _payload(tapped: Tapped) -> str:
    ref = tapped.meta.ref
    if ref is not None and ref.dtype not in ("", "msgpack"):
        return f"{ref.dtype} {'x'.join(map(str, ref.shape)) or 'scalar'}, {size(ref.nbytes)}"
    if ref is not None and ref.dtype == "":
        return f"bytes, {size(ref.nbytes)}"
    if isinstance(tapped.payload, bytes):
        return f"bytes, {size(len(tapped.payload))}"
    return _short(tapped.payload)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text if len(text) <= SHORT_CHARS else text[: SHORT_CHARS - 1] + "…"


def _printable(text: str) -> str:
    """What a packet carries must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
