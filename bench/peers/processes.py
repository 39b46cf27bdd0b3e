"""Processes of one run: the desk where all nodes report, CPU and memory from /proc, and an end that leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
SHM = "/dev/shm/"
seen_shm: set[str] = set()


def own_all_children() -> None:
    """Daemons that leave their parent become children of this process, so that it can end them."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass  # ended since it was listed
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, in ns: the kernel's clock for any process has its id in the number."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def uss_mib(pid: int) -> float:
    text = Path("/proc", str(pid), "smaps_rollup").read_text()
    return sum(int(row.split()[1]) for row in text.splitlines() if row.startswith("Private_")) / 1024


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def note_shm(pids: list[int]) -> None:
    """Remembers the files in /dev/shm that these processes have mapped."""
    for pid in pids:
        try:
            rows = Path("/proc", str(pid), "maps").read_text().splitlines()
        except OSError:
            continue
        seen_shm.update(row[row.index(SHM) :] for row in rows if SHM in row and not row.endswith("(deleted)"))


class Desk:
    """Waits until every node has said hello and is ready, reads clocks at both ends of the measured part, gathers the reports.

    CPU is that of all processes below this one: nodes, and routers or daemons that work for them.
    """

    def __init__(self, address: str, names: list[str]) -> None:
        self._listener = Listener(address, family="AF_UNIX", backlog=32)
        self._names = set(names)
        self._nodes: dict[Connection, tuple[str, int]] = {}
        self.reports: list[dict[str, Any]] = []
        self.cpu_s = 0.0
        self.uss_mib = 0.0
        self.threads = 0

    def close(self) -> None:
        self._listener.close()

    def serve(self, rounds: int, receivers: int) -> None:
        while len(self._nodes) < len(self._names):
            self._admit()
        for _ in range(rounds):
            self._gather("ready", len(self._nodes))
            pids = [pid for pid in descendants() if not is_tracker(pid)]
            note_shm(pids)
            self._tell("go")
        self._gather("measuring", 1)
        begin_s = {pid: cpu_s(pid) for pid in pids}
        next(line for line, (name, _) in self._nodes.items() if name == "sender").send("measure")
        self._gather("done", receivers)
        self.cpu_s = sum(max(cpu_s(pid) - begin, 0.0) for pid, begin in begin_s.items())
        nodes = [pid for _, pid in self._nodes.values()]
        self.uss_mib = max(uss_mib(pid) for pid in nodes)
        self.threads = max(threads(pid) for pid in nodes)
        note_shm(pids)
        self._tell("report")
        # The others may leave from here on.
        self._nodes = {line: node for line, node in self._nodes.items() if node[0].startswith("receiver")}
        self.reports = [report for _, report in self._gather("report", receivers)]

    def _admit(self) -> None:
        while not wait([self._listener._listener._socket], 0.5):  # type: ignore[attr-defined]
            self._look_for_dead(os.WNOHANG)
        connection = self._listener.accept()
        word, name, pid = connection.recv()
        assert word == "hello" and name in self._names, (word, name)
        self._nodes[connection] = (name, pid)

    def _look_for_dead(self, options: int) -> None:
        """A child that failed before it said hello would be waited for until the deadline."""
        try:
            pid, status = os.waitpid(-1, options)
        except ChildProcessError:
            raise RuntimeError("no process of the run is left") from None
        if pid and status:
            raise RuntimeError(f"process {pid} failed at its start, status {os.waitstatus_to_exitcode(status)}")

    def _gather(self, word: str, number: int) -> list[tuple[Any, ...]]:
        """Blocks until `number` messages beginning with `word` have come; a node that ends before is an error."""
        found: list[tuple[Any, ...]] = []
        while len(found) < number:
            for connection in wait(list(self._nodes)):
                try:
                    message = connection.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    raise RuntimeError(f"{self._nodes[connection][0]} ended before it had done its work") from None  # type: ignore[index]
                if message[0] != word:
                    raise RuntimeError(f"{self._nodes[connection][0]} said {message[0]}, expected {word}")  # type: ignore[index]
                found.append(message)
                if word == "report":
                    del self._nodes[connection]  # type: ignore[arg-type]
        return found

    def _tell(self, word: str) -> None:
        for connection in self._nodes:
            connection.send(word)


def is_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False


def reap(until_s: float) -> None:
    """Until no child is left but trackers, or the time is over."""
    while time.monotonic() < until_s and not all(map(is_tracker, descendants())):
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.02)
        except ChildProcessError:
            return


def end_all(leave_s: float, clean: Callable[[], None]) -> None:
    """Nodes may leave by themselves for a moment, so that their libraries clear up; then all are killed, trackers of memory last."""
    note_shm(descendants())
    reap(time.monotonic() + leave_s)
    for kind, grace_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0)):
        for pid in descendants():
            if not is_tracker(pid):
                end(pid, kind)
        reap(time.monotonic() + grace_s)
    clean()
    for pid in descendants():
        end(pid, signal.SIGKILL)
    for path in seen_shm:
        if os.path.exists(path):
            os.unlink(path)


def end(pid: int, kind: signal.Signals) -> None:
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        pass  # ended since it was listed
