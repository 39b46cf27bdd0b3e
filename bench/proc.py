"""Processes as /proc shows them: who belongs to a run, CPU clocks, memory."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1024.0  # KiB, as /proc counts


def descendants(root: int) -> list[int]:
    """Every process below `root`, at this moment."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # ended since it was listed
            children.setdefault(parent, []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def node_name(pid: int) -> str | None:
    """The node that runs in this process, by its command line (streamcore/node/__main__.py)."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    for word, after in itertools.pairwise(words):
        if word == b"streamcore.node":
            return after.decode().partition("/")[2]
    return None


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, to the nanosecond; 0 if it is gone. The clock of a process has its id as number."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


@dataclass(frozen=True)
class Memory:
    """In MiB: private pages; private and a share of the shared ones; and the part of the latter that is shared memory."""

    uss_mib: float
    pss_mib: float
    pss_shmem_mib: float
    threads: int


def anonymous_mib(pid: int) -> float:
    """What the kernel could only swap: without pages of files, which it drops when it needs room. 0 if the process is gone."""
    try:
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / MIB for line in lines if line.startswith("RssAnon:")), 0.0)


def memory(pid: int) -> Memory | None:
    """None if it is gone."""
    try:
        text = Path("/proc", str(pid), "smaps_rollup").read_text()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    rows = dict(line.split(":", 1) for line in text.splitlines()[1:])
    kib = {name: int(value.split()[0]) for name, value in rows.items()}
    private = sum(value for name, value in kib.items() if name.startswith("Private_"))
    return Memory(private / MIB, kib["Pss"] / MIB, kib.get("Pss_Shmem", 0) / MIB, threads)
