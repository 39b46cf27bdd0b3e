"""What a process is doing at this moment, asked from outside: Python stacks by signal, kernel stacks and states from /proc.

Works for a process that hangs in Python, in native code with or without the GIL. One that is stopped (state T) or waits uninterruptibly
in the kernel (D) runs no signal handler: there only the kernel's view is to be had, and `Stacks.note` says so.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from streamcore.clock import Clock
from streamcore.node.stacks import FILE_NAME, SIGNAL

WAIT_S = 0.5  # a handler runs within a millisecond, on a loaded box within ten
QUIET_S = 0.02  # the text is complete when it has not grown for so long
LOOK_S = 0.002
TEXT_BYTES_MAX = 256 * 1024  # faulthandler writes at most 100 threads with 100 frames each; a node has ten with twenty
THREADS_MAX = 64
_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting in the kernel, not interruptible",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "Z": "dead, not yet reaped",
    "X": "dead",
    "I": "idle",
}
_MUTE = {"T": "stopped (state T), so it runs no signal handler", "t": "stopped by a debugger", "D": "held by the kernel (state D)"}


@dataclass(frozen=True)
class Thread:
    """One thread as the kernel sees it. `wchan`: the kernel function it waits in; `stack`: kernel frames, if this user may read them."""

    tid: int
    name: str
    state: str
    wchan: str = ""
    stack: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stacks:
    """`python`: as faulthandler writes it, the most recent call first; empty if there is none, and then `note` says why."""

    python: str
    note: str
    state: str
    threads: tuple[Thread, ...]


def look(pid: int, clock: Clock | None = None, *, wake: bool = False) -> Stacks:
    """Ask a live process of ours. Takes some 25 ms, at most WAIT_S. A process that is gone gives an empty answer, with a note.

    wake: let a stopped process go on, so that it can answer: it handles our signal first. Only for one that is killed next.
    """
    state, catches = _status(pid)
    threads = kernel_threads(pid)
    shown = f"{state} ({_STATES.get(state, 'unknown')})" if state else ""
    if not state or state in "ZX":
        return Stacks("", "the process is gone", shown, threads)
    if state in _MUTE and not (wake and state == "T"):
        return Stacks("", f"no Python stack: the process is {_MUTE[state]}", shown, threads)
    if not catches:
        return Stacks("", f"no Python stack: the process does not catch {SIGNAL.name}: it has just been started", shown, threads)
    text = _ask(pid, clock or Clock(), wake=state == "T")
    return Stacks(text, "" if text else f"no Python stack: no answer to {SIGNAL.name} within {WAIT_S:g} s", shown, threads)


def kernel_threads(pid: int) -> tuple[Thread, ...]:
    """All threads of a process, at most THREADS_MAX; empty if it is gone."""
    try:
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return ()
    return tuple(_thread(f"/proc/{pid}/task/{tid}", tid) for tid in tids[:THREADS_MAX])


def _thread(path: str, tid: int) -> Thread:
    state = re.search(r"^State:\s*(\S)", _read(f"{path}/status"), re.MULTILINE)
    wchan = _read(f"{path}/wchan").strip("\0\n 0")
    stack = tuple(line.partition("] ")[2] or line for line in _read(f"{path}/stack").splitlines())
    return Thread(tid, _read(f"{path}/comm").strip(), state[1] if state else "", wchan, stack)


def _status(pid: int) -> tuple[str, bool]:
    """(state letter, whether it catches SIGNAL); ("", False) if it is gone."""
    text = _read(f"/proc/{pid}/status")
    state = re.search(r"^State:\s*(\S)", text, re.MULTILINE)
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", text, re.MULTILINE)
    return (state[1] if state else ""), bool(caught and int(caught[1], 16) >> (SIGNAL - 1) & 1)


def _ask(pid: int, clock: Clock, *, wake: bool) -> str:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return ""
    fd = _answer_file(pid)
    try:
        if fd < 0:
            return ""
        os.ftruncate(fd, 0)
        signal.pidfd_send_signal(pidfd, SIGNAL)
        if wake:
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        return _when_complete(fd, clock)
    except OSError:
        return ""  # it died meanwhile
    finally:
        os.close(pidfd)
        if fd >= 0:
            os.close(fd)


def _answer_file(pid: int) -> int:
    """The memory file that node.stacks has made, opened for reading and emptying; -1 if there is none."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{FILE_NAME}"):
                return os.open(f"{folder}/{name}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        pass  # gone, or not ours
    return -1


def _when_complete(fd: int, clock: Clock) -> str:
    began_ns = grown_ns = clock.monotonic_ns()
    size = 0
    while True:
        clock.sleep(LOOK_S)
        now_ns, found = clock.monotonic_ns(), os.fstat(fd).st_size
        if found != size:
            size, grown_ns = found, now_ns
        if (size and now_ns - grown_ns > QUIET_S * 1e9) or now_ns - began_ns > WAIT_S * 1e9:
            return os.pread(fd, TEXT_BYTES_MAX, 0).decode("utf-8", "replace").strip()


def _read(path: str) -> str:
    """A file of /proc; empty if it is gone or may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read(64 * 1024).decode("utf-8", "replace")
    except OSError:
        return ""
