"""What a process uses, and all that it has started: for somebody who looks, from whatever process he looks.

Unlike a look at the status page this costs the looker some milliseconds per process, for the kernel walks through its memory. Nothing is
asked of the process itself. What may not be read (another user's process), or is not there (a zombie has no memory, any process may end
while it is read), is null, and never an error.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from streamcore.supervisor import proc
from streamcore.supervisor.box import bounds
from streamcore.supervisor.gpu import NO_USE, GpuUse, gpu_use
from streamcore.supervisor.masking import MASK, is_secret, mask_text
from streamcore.supervisor.usage import Usage

Read = TypeVar("Read")
# The memory and the command line of a process cannot be read while the kernel holds its address space, e.g. for a page on a server that is
# away: the reader would wait with it. Otherwise a read takes milliseconds, some 50 for 100 GiB.
READ_S = 2.0


class Numbers(msgspec.Struct, kw_only=True):
    """What adds up over processes.

    cpu_percent: of one core, since the same Usage has read the process before, else since it began. cpu_s: since it began.
    rss_bytes: resident, every shared page counted in each process that has touched it. pss_bytes: each shared page divided by the number
        of processes that have it, so that sums are true. uss_bytes: pages that no other process has, which its end would set free.
    fds: open descriptors. read_bytes, written_bytes: from and to disks, not what came from the page cache.
    switches_voluntary, switches_involuntary: context switches of the threads that live: it waited, or its time was up.
    faults_minor, faults_major: pages that were touched for the first time, or had to come from a disk.
    gpu_percent: of one device.
    """

    cpu_percent: float | None = None
    cpu_s: float | None = None
    rss_bytes: int | None = None
    uss_bytes: int | None = None
    pss_bytes: int | None = None
    threads: int | None = None
    fds: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    switches_voluntary: int | None = None
    switches_involuntary: int | None = None
    faults_minor: int | None = None
    faults_major: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_percent: float | None = None


class Facts(Numbers, kw_only=True):
    """One process. `state` is a word of proc.STATES; `command` is without secrets; `fds_max` is the soft limit.

    cgroup, memory_max_bytes, cpu_max: of supervisor/box.py's Bounds; a limit is null where there is none. `affinity`: CPUs it may run on.
    """

    pid: int
    parent: int
    name: str
    state: str
    age_s: float
    nice: int
    user: str | None = None
    command: list[str] | None = None
    fds_max: int | None = None
    affinity: list[int] | None = None
    cgroup: str | None = None
    memory_max_bytes: int | None = None
    cpu_max: float | None = None


class Tree(msgspec.Struct):
    """A process and all that it has started, parents before their children, and their sums.

    `partial` names the sums in which a process is left out that lives and could not be read.
    """

    total: Numbers
    partial: list[str]
    processes: list[Facts]


def inspect(pids: Iterable[int], usage: Usage, *, children: bool = True) -> dict[int, Tree]:
    """Of each of these processes that lives. Call `begin` before, with the same Usage, for the CPU share of the time between."""
    wanted = list(pids)
    gpu = _in_time(gpu_use) or {}
    families = proc.families(wanted) if children else {pid: [pid] for pid in wanted}
    every = dict.fromkeys(pid for family in families.values() for pid in family)  # once, though several of them may have it in their tree
    seen = {pid: facts for pid in every if (facts := _facts(pid, usage, gpu))}
    return {root: _tree([seen[pid] for pid in family if pid in seen]) for root, family in families.items() if root in seen}


def begin(pids: Iterable[int], usage: Usage) -> None:
    """Note how much CPU time these processes, and all that they have started, have used until now."""
    for family in proc.families(pids).values():
        for pid in family:
            usage.read(pid)


def _tree(processes: list[Facts]) -> Tree:
    total, partial = Numbers(), []
    for name in Numbers.__struct_fields__:
        known = [value for one in processes if (value := getattr(one, name)) is not None]
        living = [one for one in processes if one.state not in ("zombie", "dead")]
        setattr(total, name, round(sum(known), 2) if known else None)
        if known and any(getattr(one, name) is None for one in living) and not name.startswith("gpu_"):
            partial.append(name)
    return Tree(total, partial, processes)


def _facts(pid: int, usage: Usage, gpu: Mapping[int, GpuUse]) -> Facts | None:
    seen, (cpu_percent, rss_bytes) = proc.stat(pid), usage.read(pid)
    if seen is None:
        return None
    facts = Facts(
        pid=pid,
        parent=seen.parent,
        name=seen.name,
        state=proc.STATES.get(seen.state, seen.state),
        age_s=round(seen.age_s, 2),
        nice=seen.nice,
        cpu_percent=cpu_percent,
        cpu_s=seen.cpu_s,
        rss_bytes=rss_bytes,
        threads=seen.threads,
        faults_minor=seen.faults_minor,
        faults_major=seen.faults_major,
    )
    if seen.state in "ZX":
        facts.rss_bytes = None
        return facts
    facts.gpu_memory_bytes, facts.gpu_percent = gpu.get(pid, NO_USE)
    for name, value in (_in_time(lambda: _slow_facts(pid)) or {}).items():
        setattr(facts, name, value)
    return facts


def _slow_facts(pid: int) -> dict[str, object]:
    """Fields of Facts that need more than the stat line of the process."""
    import psutil  # 20 ms that a run need not pay

    found: dict[str, object] = {}
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return found

    def read(what: Callable[[], Read]) -> Read | None:
        try:
            return what()
        except (psutil.Error, OSError):
            return None

    if limit := read(lambda: process.rlimit(psutil.RLIMIT_NOFILE)):
        found["fds_max"] = None if limit[0] == psutil.RLIM_INFINITY else limit[0]
    if switches := read(lambda: _switches(pid)):
        found["switches_voluntary"], found["switches_involuntary"] = switches
    group = bounds(pid)
    found |= {"cgroup": group.path, "memory_max_bytes": group.memory_bytes, "cpu_max": group.cpus}
    found |= {"fds": read(process.num_fds), "affinity": read(process.cpu_affinity), "user": read(process.username)}
    if io := read(process.io_counters):
        found["read_bytes"], found["written_bytes"] = io.read_bytes, io.write_bytes
    command = read(process.cmdline)
    found["command"] = None if command is None else list(_masked(command))
    if memory := read(process.memory_full_info):
        found["uss_bytes"], found["pss_bytes"] = memory.uss, memory.pss
    return found


def _masked(command: list[str]) -> Iterator[str]:
    """A process that has renamed itself, as a forked node does, leaves its old command line as empty words behind the new one."""
    while command and not command[-1]:
        command.pop()
    for before, word in zip(["", *command], command, strict=False):
        yield MASK if before.startswith("-") and "=" not in before and is_secret(before) else mask_text(word)


def _switches(pid: int) -> tuple[int, int]:
    """Of all threads. /proc/PID/status has those of the first thread alone, and so has psutil."""
    counts = [0, 0]
    for thread in os.listdir(f"/proc/{pid}/task"):
        lines = Path(f"/proc/{pid}/task/{thread}/status").read_text("utf-8", "replace").splitlines()
        for which, name in enumerate(("voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:")):
            counts[which] += sum(int(line.split()[1]) for line in lines if line.startswith(name))
    return counts[0], counts[1]


def _in_time(call: Callable[[], Read]) -> Read | None:
    """Its answer, or None if it has none within READ_S. The thread that waits is left behind: it ends with this process."""
    answer: queue.SimpleQueue[Read] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(call()), name="inspection", daemon=True).start()
    try:
        return answer.get(timeout=READ_S)
    except queue.Empty:
        return None
