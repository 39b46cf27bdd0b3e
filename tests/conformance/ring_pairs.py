"""The implementations of a ring that the contract is tested on: plain bytes in one process, and a memfd between two processes."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ring_program import RUN_ID, ReaderSide, Shape, WriterSide

from streamcore import native
from streamcore.shm import segment
from streamcore.shm.ring import clear_table, format_ring, geometry, ring_bytes

ANSWER_S = 20


def mapped_shared(pid: int) -> dict[str, str]:
    """What a process maps so that another may see its stores: name to permissions, as the kernel writes them; OSError when it has ended."""
    with open(f"/proc/{pid}/maps") as maps:
        rows = [line.rstrip("\n").split(maxsplit=5) for line in maps]
    return {row[5]: row[1] for row in rows if len(row) == 6 and row[1].endswith("s")}


class PlainPair:
    """Writer and reader on the same anonymous memory. A kill forgets the writer: what it knew is lost, the bytes stay."""

    def __init__(self, shape: Shape):
        self.shape = shape
        memory = mmap.mmap(-1, ring_bytes(shape))  # MAP_SHARED: a fork that is killed in the middle of a store leaves its bytes here
        clear_table(memory, geometry(shape))
        self._writer: Any = WriterSide(memory, shape)
        self._reader = ReaderSide(memory, shape)

    def write_side(self, operation: str, *arguments: Any) -> Any:
        return getattr(self._writer, operation)(*arguments)

    def read_side(self, operation: str, *arguments: Any) -> Any:
        return getattr(self._reader, operation)(*arguments)

    def kill_writer(self) -> None:
        self._writer = None

    def close(self) -> None:
        self._writer = None


class ProcessPair:
    """A writer process and a reader process on one sealed memfd; the reader has it read-only."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.label = f"conformance-{os.getpid()}-{id(self):x}"
        fd = segment.create(self.label, ring_bytes(shape))
        readonly = segment.reopen_readonly(fd)
        format_ring(fd, shape, RUN_ID)
        self._writer, self._reader = self._spawn("writer", fd), self._spawn("reader", readonly)
        os.close(fd)
        os.close(readonly)

    def _spawn(self, role: str, fd: int) -> subprocess.Popen[str]:
        program = Path(__file__).with_name("ring_program.py")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment.setdefault(native.VARIABLE, "0")  # what is killed at any line must have lines
        command = [sys.executable, str(program), role, str(fd), json.dumps(asdict(self.shape))]
        return subprocess.Popen(command, pass_fds=[fd], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _ask(process: subprocess.Popen[str], *request: Any) -> Any:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], ANSWER_S)
        assert ready, f"no answer to {request[0]} within {ANSWER_S} s"
        return json.loads(process.stdout.readline())

    def write_side(self, operation: str, *arguments: Any) -> Any:
        return self._ask(self._writer, operation, *arguments)

    def read_side(self, operation: str, *arguments: Any) -> Any:
        return self._ask(self._reader, operation, *arguments)

    def holders(self) -> set[int]:
        """The processes of this machine that map the ring or have it open. With the last of them its memory is gone."""
        found = set()
        for process in filter(str.isdigit, os.listdir("/proc")):
            names: list[str] = []
            with suppress(OSError):  # it has ended meanwhile, or is not ours
                for fd in os.listdir(f"/proc/{process}/fd"):
                    with suppress(OSError):  # this one was closed meanwhile: what it was mapped for is seen below
                        names.append(os.readlink(f"/proc/{process}/fd/{fd}"))
                names += mapped_shared(int(process))
            if any(self.label in name for name in names):
                found.add(int(process))
        return found

    def mapped_shared(self) -> list[dict[str, str]]:
        """What the writer and the reader map shared."""
        return [mapped_shared(side.pid) for side in (self._writer, self._reader)]

    def kill_writer(self) -> None:
        self._writer.send_signal(signal.SIGKILL)
        assert self._writer.wait(ANSWER_S) == -signal.SIGKILL

    def close(self) -> None:
        for process in (self._writer, self._reader):
            process.kill()
            process.wait(ANSWER_S)
            for pipe in (process.stdin, process.stdout):
                assert pipe
                pipe.close()
