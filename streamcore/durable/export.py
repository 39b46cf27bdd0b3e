"""Records as other programs read them: JSON lines, payload included or in files beside them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from streamcore.clock import iso_utc
from streamcore.durable import recording_export
from streamcore.durable.upkeep import Seen
from streamcore.errors import ConfigError, StoreError

ENDINGS = {"png": "png", "jpeg": "jpg", "raw": "raw", "bytes": "bin"}


def facts_of(seen: Seen) -> dict[str, Any]:
    """What is known of a record, as JSON; of the payload its size, and its value if it is JSON."""
    facts: dict[str, Any] = {"sequence": seen.sequence, "state": seen.state, "failures": seen.failures, "replayed": seen.replayed}
    facts |= {"since": iso_utc(seen.since_ns) if seen.since_ns else None, "reason": seen.reason, "problem": seen.problem}
    if seen.record is not None:
        record = seen.record
        facts |= {"id": record.id16.hex(), "stored": iso_utc(record.stored_ns), "captured": iso_utc(record.wall_ns)}
        facts |= msgspec.structs.asdict(record.head) | {"payload_bytes": len(record.payload), "value": value_of(seen)}
    return facts


def value_of(seen: Seen) -> Any:
    """The value of a JSON payload; None of another."""
    if seen.record is None or seen.record.head.codec != "json":
        return None
    try:
        return msgspec.to_builtins(msgspec.msgpack.decode(seen.record.payload))
    except msgspec.DecodeError:
        return None


def write_jsonl(records: Iterable[Seen], file: BinaryIO, payloads: Path | None) -> int:
    """One object per record, one line each; how many. A payload that is no JSON is a file in `payloads` as it is stored, else base64."""
    count = 0
    for seen in records:
        facts = facts_of(seen)
        if seen.record is not None and seen.record.head.codec != "json":
            if payloads is None:
                facts["payload_base64"] = base64.b64encode(seen.record.payload).decode()
            else:
                facts["payload_file"] = _write_payload(payloads, seen, seen.record.payload, seen.record.head.codec)
        file.write(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def write_mcap(records: Iterable[Seen], file: BinaryIO, payloads: Path | None) -> int:
    """As recordings are exported; what cannot be read is left out. Raises ConfigError if the package mcap is missing."""
    if payloads is not None:
        raise ConfigError("--payloads: found with --format mcap, which holds the payloads itself")
    return recording_export.write_mcap((seen.record for seen in records if seen.record is not None), file)


# Each takes records, an open file, and a folder for payloads or None; gives how many it has written.
FORMATS = {"jsonl": write_jsonl, "mcap": write_mcap}


def _write_payload(folder: Path, seen: Seen, payload: bytes, codec: str) -> str:
    path = folder / f"{seen.sequence}.{ENDINGS.get(codec, 'bin')}"
    part = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(payload)
        os.replace(part, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return path.name
