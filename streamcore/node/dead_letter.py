"""Dead letters: packets that killed their process too often, kept whole so that they can be looked at and processed again.

    RUN_DIR/dead-letters/ID.json     the record; ID is the packet id. Mode 0600. It stays when the run has ended, also through later runs
    RUN_DIR/dead-letters/ID.npy      the payload if it is an array (numpy's format, without pickle)
    RUN_DIR/dead-letters/ID.bin      the payload if it is bytes; a JSON payload is in the record

A record is one JSON object, the fields of `Letter`, version 1. Readers ignore keys that they do not know. It is written whole: first
the payload, then the record, each to a temporary name, synced, renamed; so a record that exists is complete. Each packet is written
once; one that was redriven and died again is written anew, with its count of redrives kept.

A record is redriven by handing its id to a live run's node, which makes the packet again, flagged `redelivered`, and processes it as an
input that comes by no edge. What was derived from it has the ids that it would have had, so whoever has seen an output drops it.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamcore import limits
from streamcore.clock import Clock, iso_utc
from streamcore.graph.model import EdgePlan, Poisoned
from streamcore.node.lease import Record
from streamcore.packet import ID_BYTES, StreamPacket
from streamcore.shm.layout import NO_EDGE
from streamcore.wire.messages import OUTCOMES

VERSION = 1
FOLDER = "dead-letters"
ID = re.compile(r"[0-9a-f]{32}")
LETTERS_MAX = 1000  # each stands for at least two crashes of a process: more is a node that is broken
LETTERS_BYTES_MAX = 1 * limits.GIB  # 160 frames of 1080p; the run directory may lie in memory
INCIDENT_BYTES_MAX = 1 * limits.MIB  # of the incident file that is copied into a record

assert 2 * ID_BYTES == 32


class Payload(msgspec.Struct, frozen=True):
    """type: array, bytes or json. `file` is beside the record; "" for json, whose value is in the record. dtype and shape: of an array."""

    type: str
    nbytes: int = 0
    file: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()


class Letter(msgspec.Struct, frozen=True):
    """One record. `ts` and `wall_ns` are the packet's capture time, `stored` when it was written.

    deaths: of the process, in a row, over this packet. incident: the file about the last one; `report`: its content, for the file goes
    when newer ones come. redriven: how often it was processed again; redriven_ts and outcome (ok or failed): the last time.
    """

    v: int
    packet_id: str
    run: str
    node: str
    edge: str
    port: str
    sequence: int
    kind: str
    source_id: str
    ts: str
    wall_ns: int
    capture_ns: int
    position: int | None
    meta: dict[str, Any] | None
    trace: list[tuple[str, int]] | None
    deaths: int
    incident: str
    payload: Payload
    stored: str
    value: Any = None
    report: dict[str, Any] | None = None
    redriven: int = 0
    redriven_ts: str = ""
    outcome: str = ""


def path_of(run_dir: str | Path, packet_id: str) -> Path:
    """Of a record. Raises ValueError for what is no packet id."""
    if not ID.fullmatch(packet_id):
        raise ValueError(f"packet id: found {packet_id!r}, expected 32 hex digits")
    return Path(run_dir) / FOLDER / f"{packet_id}.json"


def write(run_dir: str | Path, node: str, packet: StreamPacket, poisoned: Poisoned, run: str = "", clock: Clock | None = None) -> str:
    """Store a poisoned packet, payload included; the path of its record. A record that is there and was not redriven stays as it is.

    Raises:
      OSError: the disk is full, or LETTERS_MAX or LETTERS_BYTES_MAX is reached. Nothing was stored.
    """
    path = path_of(run_dir, packet.packet_id)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    before = read(path)
    if before is not None and not before.redriven:
        return str(path)
    payload, content = _payload(packet)
    _check_room(path.parent, payload.nbytes)
    if content is not None:
        _store(path.with_name(payload.file), content)
    letter = _letter(node, packet, poisoned, payload, run, (clock or Clock()).wall_ns())
    if before is not None:
        letter = msgspec.structs.replace(letter, redriven=before.redriven, redriven_ts=before.redriven_ts, outcome=before.outcome)
    _store(path, _encoded(letter))
    return str(path)


def read(path: str | Path) -> Letter | None:
    """A record; None if there is none, or it is none of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            letter = msgspec.json.decode(file.read(), type=Letter)
    except (OSError, msgspec.DecodeError):
        return None
    return letter if letter.v == VERSION and ID.fullmatch(letter.packet_id) else None


def payload_of(path: Path, letter: Letter) -> Any:
    """The payload as the node got it. Raises OSError or ValueError if its file is gone or damaged."""
    if letter.payload.type == "json":
        return letter.value
    fd = os.open(path.with_name(f"{letter.packet_id}{_ENDINGS[letter.payload.type]}"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if letter.payload.type == "bytes":
            return memoryview(file.read())
        array = np.load(io.BytesIO(file.read()), allow_pickle=False)
    array.flags.writeable = False  # as a frame in a ring is
    return array


def load(path: str | Path) -> StreamPacket | None:
    """The packet of a record as an input that comes by no edge, flagged `redelivered`; None if there is no such record.

    Raises:
      OSError or ValueError: its payload is gone or damaged.
    """
    letter = read(path)
    if letter is None:
        return None
    return StreamPacket(
        letter.kind,
        letter.source_id,
        payload_of(Path(path), letter),
        letter.meta,
        bytes.fromhex(letter.packet_id),
        letter.wall_ns,
        letter.capture_ns,
        letter.position,
        redelivered=True,
        sequence=letter.sequence,
        in_port=letter.port,
        trace=letter.trace,
        parent=_record(letter),
    )


def mark_redriven(path: str | Path, outcome: str, clock: Clock | None = None) -> None:
    """Note in the record that it was processed again. Raises OSError."""
    letter = read(path)
    if letter is not None:
        stamp = iso_utc((clock or Clock()).wall_ns())
        _store(Path(path), _encoded(msgspec.structs.replace(letter, redriven=letter.redriven + 1, redriven_ts=stamp, outcome=outcome)))


class Letters:
    """The dead letters of one node, as its host uses them."""

    def __init__(self, run: str, run_dir: str, node: str, poisoned: Iterable[Poisoned], log: logging.Logger):
        self._run, self._run_dir, self._node, self._log = run, run_dir, node, log
        self._poisoned = {(each.edge, each.sequence): each for each in poisoned}

    def keep(self, packet: StreamPacket) -> None:
        """Store a packet that fails because it is poisoned. It fails even if it cannot be stored."""
        poisoned = self._poisoned[packet.parent.inlet.plan.id, packet.sequence]
        why = f"killed its process {poisoned.deaths} times"
        try:
            path = write(self._run_dir, self._node, packet, poisoned, self._run)
            self._log.error("packet %s failed: it %s; it is in %s", packet.packet_id, why, path)
        except OSError as error:
            self._log.error("packet %s failed: it %s; it could not be stored: %s", packet.packet_id, why, error)

    def load(self, record: str) -> StreamPacket | None:
        """The packet of a record, to be processed again."""
        try:
            packet = load(path_of(self._run_dir, record))
        except (OSError, ValueError) as error:
            self._log.error("dead letter %s cannot be processed again: %s", record, error)
            return None
        if packet is None:
            self._log.error("dead letter %s cannot be processed again: there is no such record", record)
        return packet

    def mark(self, packet_id: str, outcome: int) -> None:
        """It was processed again, with this outcome."""
        try:
            mark_redriven(path_of(self._run_dir, packet_id), OUTCOMES[outcome])
        except OSError as error:
            self._log.error("dead letter %s was processed again, which could not be noted: %s", packet_id, error)


# --- the parts of a record

_ENDINGS = {"array": ".npy", "bytes": ".bin"}


def _letter(node: str, packet: StreamPacket, poisoned: Poisoned, payload: Payload, run: str, now_ns: int) -> Letter:
    return Letter(
        v=VERSION,
        packet_id=packet.packet_id,
        run=run,
        node=node,
        edge=packet.parent.inlet.plan.name if packet.parent is not None else "",
        port=packet.in_port,
        sequence=packet.sequence,
        kind=packet.kind,
        source_id=packet.source_id,
        ts=packet.ts,
        wall_ns=packet.wall_ns,
        capture_ns=packet.capture_ns,
        position=packet.position,
        meta=packet.meta,
        trace=packet.trace,
        deaths=poisoned.deaths,
        incident=poisoned.incident,
        payload=payload,
        stored=iso_utc(now_ns),
        value=packet.payload if payload.type == "json" else None,
        report=_report(poisoned.incident),
    )


def _payload(packet: StreamPacket) -> tuple[Payload, bytes | memoryview | None]:
    """The description of a payload, and what its file holds."""
    payload, name = packet.payload, packet.packet_id
    if isinstance(payload, np.ndarray):
        file = io.BytesIO()
        np.save(file, payload, allow_pickle=False)
        return Payload("array", payload.nbytes, f"{name}.npy", str(payload.dtype), payload.shape), file.getbuffer()
    if isinstance(payload, (bytes, bytearray, memoryview)):
        content = bytes(payload)
        return Payload("bytes", len(content), f"{name}.bin"), content
    return Payload("json", len(msgspec.json.encode(payload))), None


def _report(incident: str) -> dict[str, Any] | None:
    if not incident:
        return None
    try:
        with open(incident, "rb") as file:
            report: dict[str, Any] = msgspec.json.decode(file.read(INCIDENT_BYTES_MAX), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None
    return report


def _record(letter: Letter) -> Record:
    """What the host wants to know of an input: nothing has to be told to anybody when it is completed."""
    edge = EdgePlan(NO_EDGE, 0, "", "", letter.node, letter.port, 0, "block", 1, 1, ())
    record = Record(_NoInlet(edge), letter.sequence, 0, lambda record: None, lambda record: None)
    record.uses = 1  # the process call; there is no lease
    return record


class _NoInlet:
    """Stands where the input edge is of a packet that comes by none."""

    delivered = False

    def __init__(self, plan: EdgePlan):
        self.plan = plan


def _encoded(letter: Letter) -> bytes:
    return msgspec.json.format(msgspec.json.encode(letter), indent=2) + b"\n"


def _check_room(folder: Path, nbytes: int) -> None:
    with os.scandir(folder) as entries:
        sizes = [(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries]
    count, total = sum(name.endswith(".json") for name, _ in sizes), sum(size for _, size in sizes)
    if count >= LETTERS_MAX or total + nbytes > LETTERS_BYTES_MAX:
        most = f"{LETTERS_MAX} records and {LETTERS_BYTES_MAX >> 20} MiB"
        raise OSError(f"{folder} holds {count} records in {total >> 20} MiB, at most {most}; `streamctl dlq drop` makes room")


def _store(path: Path, content: bytes | memoryview) -> None:
    """Whole or not at all, also if the power fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
