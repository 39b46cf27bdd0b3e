"""The two sides of a ring as the contract tests use them, and a program that runs one of them in a process of its own.

`python ring_program.py writer|reader FD SHAPE_JSON` reads one JSON list `[operation, arguments...]` per line and answers with one JSON
value per line. Bytes travel as latin-1 text.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore.errors import MessageError
from streamcore.packet import SlotRef
from streamcore.shm.layout import ENTRY, ENTRY_BYTES, HEADER_BYTES
from streamcore.shm.ring import RingReader, RingWriter, attach_ring, geometry
from streamcore.shm.words import put_row

RUN_ID = "ab" * 16
FIELDS = ("sequence", "state", "pending", "ring", "slot", "offset", "nbytes")
FIELDS += ("parent_edge", "parent_entry", "parent_sequence", "meta_len", "flags")


@dataclass(frozen=True)
class Shape:
    """A ring as a plan describes it."""

    id: int = 3
    port: str = "camera.out"
    entry_count: int = 4
    meta_bytes: int = 128
    slot_count: int = 3
    slot_bytes: int = 8192


class WriterSide:
    """What the owner of the port does."""

    def __init__(self, memory: mmap.mmap, shape: Shape):
        self.writer = RingWriter(memory, shape)

    def write(self, content: str, pending: int) -> list[int] | None:
        """Copy into a slot and commit, with the content once more as metadata: [entry, sequence, slot], or None if the ring is full."""
        if not self.writer.free_slots or not self.writer.free_entries:
            return None
        raw = content.encode("latin-1")
        slot = self.writer.claim_slot()
        self.writer.slot_view(slot, len(raw))[:] = raw
        entry, sequence = self.writer.commit(raw[:64], pending, SlotRef(self.writer.shape.id, slot, 0, len(raw), "", (len(raw),), ()))
        self.writer.release_slot(slot)
        return [entry, sequence, slot]

    def complete(self, entry: int, sequence: int, bit: int) -> bool | None:
        return self.writer.complete(entry, sequence, bit)

    def free(self) -> list[int]:
        return [self.writer.free_entries, self.writer.free_slots]

    def cut_short(self, line: int, content: str) -> bool:
        """Write, but end for good before the `line`-th line of commit(); False if commit() has fewer. A fork of this process does it."""
        child = os.fork()
        if child == 0:
            kill_self_at(line)
            self.write(content, 1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    def flood(self) -> None:
        """Commit and complete as fast as possible until killed; says so once, when it is well under way."""
        alive: list[tuple[int, int]] = []
        for number in range(1 << 40):
            if number == 300:
                print("null", flush=True)
            if len(alive) == 2:
                self.writer.complete(*alive.pop(0), 1)
            entry, sequence, _ = self.write(chr(number % 251) * 4000, 1) or [0, 0, 0]
            alive.append((entry, sequence))


def kill_self_at(line: int) -> None:
    """Die before the `line`-th line of RingWriter.commit, and of what it calls to store a row, that is executed from now on."""
    seen, watched = 0, (RingWriter.commit.__code__, put_row.__code__)

    def tracer(frame: Any, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code not in watched:
            return None
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer

    sys.settrace(tracer)


class ReaderSide:
    """What a consumer, or a debugger, sees through its own mapping."""

    def __init__(self, memory: mmap.mmap, shape: Shape):
        self.reader = RingReader(memory, shape)

    def read(self, slot: int, offset: int, shape: list[int], strides: list[int], dtype: str, nbytes: int) -> str:
        """The bytes that a reference shows, or the class of the error that refused it."""
        try:
            interface = self.reader.interface(SlotRef(self.reader.shape.id, slot, offset, nbytes, dtype, tuple(shape), tuple(strides)))
        except MessageError:
            return "MessageError"
        holder = type("Holder", (), {"__array_interface__": interface})()
        return np.asarray(holder).tobytes().decode("latin-1")

    def rows(self) -> list[dict[str, Any]]:
        """The whole entry table, each row with its metadata."""
        g, memory, found = geometry(self.reader.shape), self.reader.memory, []
        for entry in range(g.entry_count):
            row: dict[str, Any] = dict(zip(FIELDS, ENTRY.unpack_from(memory, HEADER_BYTES + entry * ENTRY_BYTES), strict=True))
            start = g.meta_offset + entry * g.meta_bytes
            found.append(row | {"entry": entry, "meta": memory[start : start + row["meta_len"]].decode("latin-1")})
        return found

    def poke(self) -> str:
        """Try to write through the mapping."""
        try:
            self.reader.memory[0] = 1
        except TypeError:
            return "refused"
        return "written"


def main() -> None:
    role, fd, shape = sys.argv[1], int(sys.argv[2]), Shape(**json.loads(sys.argv[3]))
    memory = attach_ring(fd, shape, RUN_ID, writable=role == "writer")
    side = WriterSide(memory, shape) if role == "writer" else ReaderSide(memory, shape)
    for line in sys.stdin:
        operation, *arguments = json.loads(line)
        print(json.dumps(getattr(side, operation)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
