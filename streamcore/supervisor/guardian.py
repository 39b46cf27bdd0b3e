"""The process that cleans up after a coordinator that can no longer do it (kill -9, the kernel's out-of-memory killer).

Run as a file by a bare interpreter, so it imports nothing of streamcore and costs 15 ms and 8 MiB. Arguments: RUN_DIR RUN_ID PID, the last
of the coordinator. Its standard input is a pipe from there (SYNC: guard.py), one line each:

    +123    process group 123 belongs to the run
    -123    it is gone
    bye     the coordinator cleans up itself; exit

End of file without `bye` means that the coordinator is dead: kill every group and every process that carries the run's mark in its
environment, then remove the sockets and the pid file of the run directory. The mark also finds what left its group (setsid) and what
was spawned in the instant before the death. The pid file is locked while files go, so that a new run of the same name cannot be hit.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import sys

MARK = b"STREAMCORE_PROCESS="  # RUN_ID/NODE/INCARNATION/, set for every node and inherited by all that it starts
PID_FILE = "coordinator.pid"
DEATH_S = 30.0  # from the end of a pipe to that of the process: the kernel gives back its memory, gigabytes at times
LOCK_TRIES, LOCK_PAUSE_S = 25, 0.01  # a reader looks whether it is locked; a new run keeps it
LOOKS, LOOK_PAUSE_S = 3, 0.001  # at a process without environment: exec takes microseconds, and some have none for good
ROUNDS_MAX = 50  # a process that forks while it is hunted needs a second look; one that outruns 50 is hostile


def members(prefix: bytes) -> list[int]:
    """Pids of living processes whose mark begins with `prefix`. Zombies have no environment and do not count."""
    found, wanted = [], MARK + prefix
    names = [name for name in os.listdir("/proc") if name.isdigit()]
    for look in range(LOOKS):
        if look:
            select.select((), (), (), LOOK_PAUSE_S)
        in_exec = []
        for name in names:
            environ = _environ(name)
            if any(entry.startswith(wanted) for entry in environ.split(b"\0")):
                found.append(int(name))
            elif not environ and _has_program(name):
                in_exec.append(name)
        names = in_exec
        if not names:
            break
    return found


def _environ(name: str) -> bytes:
    try:
        with open("/proc/" + name + "/environ", "rb", buffering=0) as file:
            return file.read(1 << 20)
    except OSError:  # gone meanwhile, or not ours
        return b""


def _has_program(name: str) -> bool:
    """In the middle of exec a process has its program but no environment yet, and its parent may be dead by then. Zombies have neither."""
    try:
        os.readlink("/proc/" + name + "/exe")
    except OSError:
        return False
    return True


def kill_members(prefix: bytes) -> list[int]:
    """One round: SIGKILL to all of them. Returns whom it hit."""
    hit = members(prefix)
    for pid in hit:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    return hit


def _listen() -> tuple[bool, set[int]]:
    """Follow the coordinator until it says bye or dies. Returns (bye, groups that are left)."""
    groups: set[int] = set()
    rest = b""
    while True:
        data = os.read(0, 4096)
        if not data:
            return False, groups
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"bye":
                return True, groups
            if line[:1] == b"+":
                groups.add(int(line[1:]))
            elif line[:1] == b"-":
                groups.discard(int(line[1:]))


def _take_pid_file(directory: int, coordinator: int) -> bool:
    """Lock it, so that no new run of this name begins while its files go. False if one has begun, and has swept the directory itself."""
    try:
        pid_file = os.open(PID_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            _await_end(coordinator)
            select.select((), (), (), LOCK_PAUSE_S)
    return False


def _kill(run_id: str, groups: set[int]) -> None:
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    rounds = 0
    while rounds < ROUNDS_MAX and kill_members(run_id.encode() + b"/"):
        rounds += 1


def _await_end(pidfd: int) -> None:
    """Until the coordinator is gone altogether. Its pipe may end some time before its lock does."""
    if pidfd >= 0:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(DEATH_S * 1000)


def _open_pid(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # it is gone and was reaped
        return -1


def _remove_files(run_dir: str, coordinator: int) -> None:
    try:
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # somebody removed it
    if _take_pid_file(directory, coordinator):
        for name in os.listdir(directory):
            try:
                if name == PID_FILE or stat.S_ISSOCK(os.lstat(name, dir_fd=directory).st_mode):
                    os.unlink(name, dir_fd=directory)
            except FileNotFoundError:  # a dying node removes its own inbox
                pass


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    coordinator = _open_pid(int(sys.argv[3]))
    bye, groups = _listen()
    if not bye:
        _kill(sys.argv[2], groups)
        _remove_files(sys.argv[1], coordinator)


if __name__ == "__main__":
    main()
