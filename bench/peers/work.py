"""The work that every peer does, and the run around it: stamp, check, clocks, processes, one JSON line at the end.

A peer gives one function per role (sender, hop, receiver). Each runs in a process of its own and is told what to do by a Line, the
connection to the Desk of the program that was started.
"""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from multiprocessing.connection import Client, Connection
from typing import Any, NoReturn

import numpy as np
from processes import Desk, end_all, own_all_children

STAMP = struct.Struct("<QQ")
LARGE_BYTES = 256 * 1024
DESK = "desk.sock"


@dataclass(frozen=True)
class Job:
    """What to measure; the harness gives it as JSON."""

    nbytes: int
    count: int
    case: str = "flow"
    warmup: int = 100
    rate: float = 0.0
    receivers: int = 1
    hops: int = 0
    lossless: bool = True
    timeout_s: float = 120.0
    nodes: int = 3
    kills: int = 3

    @property
    def total(self) -> int:
        return self.warmup + self.count

    @property
    def depth(self) -> int:
        """Packets on the way between two processes, the same for all peers that have such a number."""
        return 8 if self.nbytes >= LARGE_BYTES else 256

    @classmethod
    def parse(cls, text: str) -> Job:
        found = json.loads(text)
        unknown = set(found) - set(cls.__dataclass_fields__)
        if unknown:
            cannot(f"this program knows no {', '.join(sorted(unknown))}")
        if found.get("case", "flow") != "flow":
            found = {"nbytes": 6_220_800, "count": 1} | found | {"rate": found.get("rate") or 60.0}
        job = cls(**found)
        if job.nbytes < 24 or job.count < 1 or job.receivers < 1 or job.hops < 0:
            raise ValueError(f"impossible job: {text}")
        return job


@dataclass(frozen=True)
class Peer:
    """A peer: `package` names what gives it its version, or gives the version; `roles` is the function of (job, line, index) by role;
    `rounds` how often each node calls Line.ready before the first packet; `launch` starts the nodes (each by a command of its own if not
    given); `special` does the cases other than flow.
    """

    name: str
    package: str | Callable[[], str]
    roles: dict[str, Callable[[Job, Line, int], None]]
    cases: tuple[str, ...] = ("flow",)
    rounds: Callable[[Job], int] = lambda job: 1
    launch: Callable[[Job, list[str]], None] | None = None
    clean: Callable[[], None] = lambda: None
    special: Callable[[Job], dict[str, Any]] | None = None

    @property
    def version(self) -> str:
        return f"{self.name} {version(self.package) if isinstance(self.package, str) else self.package()}"


def cannot(sentence: str) -> NoReturn:
    """This peer cannot do that job."""
    print(sentence, file=sys.stderr)
    raise SystemExit(3)


class Line:
    """The connection of one node to the desk: who is there, when to begin, when to end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection: Connection = Client(DESK, family="AF_UNIX")
        self._connection.send(("hello", name, os.getpid()))

    def ready(self) -> None:
        """Says that this node is connected; returns when all are."""
        self._connection.send(("ready",))
        self._expect("go")

    def measuring(self) -> None:
        """The next packet is the first measured one; returns when the desk has read its clocks."""
        self._connection.send(("measuring",))
        self._expect("measure")

    def stay(self) -> None:
        """Until all receivers have everything; what the node holds in memory stays valid until then."""
        self._expect("report")

    def done(self, report: dict[str, Any]) -> None:
        self._connection.send(("done",))
        self._expect("report")
        self._connection.send(("report", report))

    def _expect(self, word: str) -> None:
        got = self._connection.recv()
        if got != word:
            raise RuntimeError(f"{self.name}: the desk said {got}, expected {word}")


class Source:
    """The sender's work. Iterating gives the sequence numbers, in their time; `write` fills a packet's memory."""

    def __init__(self, job: Job, line: Line) -> None:
        self._job = job
        self._line = line
        self._period_ns = int(1e9 / job.rate) if job.rate else 0
        self._begin_ns = 0
        self._picture = np.random.default_rng(1).integers(0, 256, job.nbytes, np.uint8)

    def left_s(self, sequence: int) -> float:
        """Time until this packet is due. Also tells the desk when the first measured one is next."""
        if sequence == self._job.warmup:
            self._line.measuring()
        if not self._period_ns:
            return 0.0
        if not sequence:
            self._begin_ns = time.monotonic_ns()
        return (self._begin_ns + sequence * self._period_ns - time.monotonic_ns()) / 1e9

    def __iter__(self) -> Iterator[int]:
        if not self._period_ns:
            yield from range(self._job.warmup)
            self._line.measuring()
            yield from range(self._job.warmup, self._job.total)
            return
        for sequence in range(self._job.total):
            left_s = self.left_s(sequence)
            if left_s > 0:
                time.sleep(left_s)
            yield sequence

    def write(self, slot: np.ndarray, sequence: int) -> None:
        begin_ns = time.monotonic_ns()
        np.copyto(slot, self._picture)
        STAMP.pack_into(slot, 0, sequence, begin_ns)
        slot[-1] = sequence & 255

    def write_items(self, slot: Any, sequence: int) -> None:
        """The same for memory that takes bytes by assignment but shows no buffer."""
        begin_ns = time.monotonic_ns()
        slot[0 : self._job.nbytes] = self._bytes
        slot[0:16] = STAMP.pack(sequence, begin_ns)
        slot[self._job.nbytes - 1] = sequence & 255

    @cached_property
    def _bytes(self) -> bytes:
        return self._picture.tobytes()


class Sink:
    """The receiver's work: `take` looks at a packet and says whether it was the last one."""

    def __init__(self, job: Job, line: Line) -> None:
        self._line = line
        self._warmup = job.warmup
        self._count = job.count
        self._last = job.total - 1
        self._next = 0
        self._first_ns = 0
        self._last_ns = 0
        self._wrong = 0
        self._latencies_ns = array("q")

    def take(self, view: Any) -> bool:
        sequence, begin_ns = STAMP.unpack_from(view)
        wrong = view[-1] != sequence & 255
        now_ns = time.monotonic_ns()
        # Packets never overtake one another: one that is not the next one is wrong, or follows lost ones.
        if wrong or sequence < self._next:
            self._wrong += 1
            return False
        self._next = sequence + 1
        if sequence >= self._warmup:
            self._latencies_ns.append(now_ns - begin_ns)
            if not self._first_ns:
                self._first_ns = now_ns
            self._last_ns = now_ns
        return sequence == self._last

    def done(self) -> None:
        latencies_ns = self._latencies_ns
        self._line.done(
            {
                "first_ns": self._first_ns,
                "last_ns": self._last_ns,
                "wrong": self._wrong,
                "measured": len(latencies_ns),
                "lost": self._count - len(latencies_ns),
                "latencies_ns": latencies_ns.tobytes(),
            }
        )


def names_of(job: Job) -> list[str]:
    hops = [f"hop{index}" for index in range(job.hops)]
    return ["sender", *hops, *(f"receiver{index}" for index in range(job.receivers))]


def upstream(job: Job, role: str, index: int) -> int:
    """Number of the edge that a hop or a receiver reads; hop n writes edge n + 1, the sender edge 0."""
    return index if role == "hop" else job.hops


def result_of(desk: Desk) -> dict[str, Any]:
    latencies_us = np.concatenate([np.frombuffer(one["latencies_ns"], np.int64) for one in desk.reports]) / 1000
    p50_us, p99_us = np.percentile(latencies_us, [50, 99])
    slowest = min((one["measured"] - 1) / max((one["last_ns"] - one["first_ns"]) / 1e9, 1e-9) for one in desk.reports)
    return {
        "rate": round(slowest, 2),
        "p50_us": round(float(p50_us), 2),
        "p99_us": round(float(p99_us), 2),
        "cpu_s": round(desk.cpu_s, 4),
        "measured": min(one["measured"] for one in desk.reports),
        "lost": sum(one["lost"] for one in desk.reports),
        "wrong": sum(one["wrong"] for one in desk.reports),
        "uss_mib": round(desk.uss_mib, 1),
        "threads": desk.threads,
    }


def run_node(peer: Peer, name: str) -> None:
    """One node, in the process it was started in."""
    role, number = re.fullmatch(r"([a-z]+)(\d*)", name).groups()  # type: ignore[union-attr]
    job = Job.parse(os.environ["PEER_JOB"])
    line = Line(name)
    peer.roles[role](job, line, int(number or 0))


def launch(file: str, job: Job, names: list[str]) -> None:
    """Every node by a command of its own: nothing is shared with the program that started it."""
    del job
    for name in names:
        subprocess.Popen([sys.executable, file, "--node", name], stdin=subprocess.DEVNULL, stdout=sys.stderr)


def flow(file: str, peer: Peer, job: Job) -> dict[str, Any]:
    names = names_of(job)
    desk = Desk(DESK, names)
    try:
        if peer.launch:
            peer.launch(job, names)
        else:
            launch(file, job, names)
        desk.serve(peer.rounds(job), job.receivers)
        return result_of(desk)
    finally:
        desk.close()


def measure(file: str, peer: Peer, text: str) -> None:
    job = Job.parse(text)
    if job.case not in peer.cases:
        cannot(f"{peer.name} has no case {job.case}")
    found = peer.version
    os.environ["PEER_JOB"] = text
    own_all_children()

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(f"{peer.name}: not finished after {job.timeout_s} s" if number == signal.SIGALRM else 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, job.timeout_s)
    leave_s = 0.0
    try:
        result = flow(file, peer, job) if job.case == "flow" or not peer.special else peer.special(job)
        leave_s = 3.0 if job.case == "flow" else 0.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        end_all(leave_s, peer.clean)
    print(json.dumps(result | {"version": found}), flush=True)


def main(file: str, peer: Peer) -> None:
    if sys.argv[1] == "--node":
        run_node(peer, sys.argv[2])
    else:
        measure(file, peer, sys.argv[1])
