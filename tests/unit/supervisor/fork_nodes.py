"""A source that writes down all that its process was given, before anything runs, and then waits for its end."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from streamcore import Port, Source, StreamPacket

PR_GET_PDEATHSIG = 2


def signals(which: str) -> list[int]:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{which}:"))
    return [number for number in range(1, 65) if int(line.split()[1], 16) >> (number - 1) & 1]


def descriptors() -> dict[str, str]:
    """Those that were handed over, by number: what streamcore and this interpreter open themselves gets whatever number is free."""
    found = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
    return {fd: name for fd, name in found.items() if int(fd) < 3 or name.startswith("/memfd:given")}


def facts() -> dict[str, Any]:
    death = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(death), 0, 0, 0)
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "cmdline": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode(),
        "comm": Path("/proc/self/comm").read_text(),
        "environ": dict(os.environ),
        "environ shown": sorted(entry for entry in Path("/proc/self/environ").read_text().split("\0") if entry),
        "environ of libc": os.popen("env | sort").read(),
        "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
        "parent": os.getppid(),
        "dies by": death.value,
        "directory": os.getcwd(),
        "umask": [os.umask(0o022), os.umask(0o022)][0],
        "limits": [resource.getrlimit(number) for number in range(16)],
        "nice": os.nice(0),
        "descriptors": descriptors(),
        "signals": {which: signals(which) for which in ("SigBlk", "SigIgn", "SigCgt")},
        "handlers": [str(signal.getsignal(number)).partition(" at ")[0] for number in range(1, 32)],
        "streams": [
            (stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.isatty(), stream.fileno())
            for stream in streams
        ],
        "main": (vars(sys.modules["__main__"])["__spec__"].name, vars(sys.modules["__main__"])["__name__"]),
        "path": sys.path,
        "collector": (gc.isenabled(), gc.get_threshold()),
        "faulthandler": faulthandler.is_enabled(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "hooks": [str(hook).partition(" at ")[0] for hook in (sys.excepthook, sys.unraisablehook, sys.gettrace())],
    }


class Facts(Source):
    outputs = {"out": Port("fact", "any")}

    def setup(self) -> None:
        print(json.dumps(facts()), flush=True)
        print("in the log at once")

    def run(self) -> Any:
        yield from ()


class Dice(Source):
    """What must not come out the same twice."""

    outputs = {"out": Port("fact", "any")}

    def setup(self) -> None:
        import random
        import tempfile
        import uuid

        import numpy as np

        names = tempfile._get_candidate_names()  # type: ignore[attr-defined]
        packet = StreamPacket.new(kind="fact", source_id="dice", payload=None)
        thrown = [random.random(), float(np.random.random()), str(uuid.uuid4()), next(names), packet.packet_id]
        print(json.dumps(thrown), flush=True)

    def run(self) -> Any:
        yield from ()


class Sums(Source):
    """Calculates with the threads of BLAS, which the server has ended."""

    outputs = {"out": Port("fact", "any")}

    def setup(self) -> None:
        import numpy as np

        ones = np.ones((600, 600))
        print(json.dumps([float((ones @ ones).sum()), len(os.listdir("/proc/self/task"))]), flush=True)

    def run(self) -> Any:
        yield from ()
