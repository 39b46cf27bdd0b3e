"""The run directory: where a run's sockets, pid file and logs lie, and how one finds out from outside whether it lives.

    $XDG_RUNTIME_DIR/streamcore/NAME, or /tmp/streamcore-UID/NAME
        coordinator.pid     JSON (RunInfo), locked with flock while the run lives
        control             the control socket
        NODE.INCARNATION    inboxes
        logs/NODE.log       stays after the run, as do the next two
        incidents/          why nodes died (supervisor/incident.py); these and the logs go when a run of this name is started
        dead-letters/       packets that killed their node (node/dead_letter.py); they stay until they are dropped

Every level below the first belongs to this user, has mode 0700 and is no symbolic link; anything else is refused.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from streamcore import limits
from streamcore.clock import Clock
from streamcore.control import private
from streamcore.errors import RunError

PID_FILE = "coordinator.pid"
CONTROL_SOCKET = "control"
COORDINATOR_LOG = "_coordinator.log"  # written by whoever started a detached run, before it has the lock; no node id begins so
PID_FILE_BYTES_MAX = 16 * limits.KIB
LOCK_TRIES, LOCK_PAUSE_S = 25, 0.02  # a guardian cleans for 50 ms, a reader of the lock holds it for microseconds


class RunInfo(msgspec.Struct, frozen=True):
    """What the pid file says. `started` is ISO-8601 UTC; `path` is filled in by the reader. `http`: where it can be looked at, or ""."""

    run: str
    pid: int
    run_id: str
    graph: str
    graph_version: str
    spec: str
    started: str
    v: int = 1
    path: str = ""
    http: str = ""


_info = msgspec.json.Decoder(RunInfo)


def roots() -> tuple[Path, ...]:
    """Where runs of this user may lie; the first is where new ones are made."""
    fallback = Path(f"/tmp/streamcore-{os.geteuid()}")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.path.isdir(runtime):
        return Path(runtime, "streamcore"), fallback
    return (fallback,)


def path_of(name: str) -> Path:
    """Where a new run of this name will have its directory. Raises RunError for a name that is no id."""
    if not re.fullmatch(limits.ID_PATTERN, name):
        raise RunError(f"run name: found {name!r}, expected {limits.ID_PATTERN}")
    return roots()[0] / name


class RunDir:
    """The directory of a live run, from `take` to `close`. Holds the lock."""

    def __init__(self, name: str, path: Path, directory_fd: int, lock_fd: int):
        self.name, self.path = name, path
        self._directory_fd, self._lock_fd = directory_fd, lock_fd

    @classmethod
    def take(cls, name: str, clock: Clock | None = None) -> RunDir:
        """Make, verify and lock the directory, and sweep what a dead run of the same name left.

        Raises:
          RunError: a live run has this name; the directory is not ours alone; a socket path would be too long.
        """
        path = path_of(name)
        longest = len(os.fsencode(path / CONTROL_SOCKET))
        if longest > limits.IPC_PATH_BYTES_MAX:
            expected = f"at most {limits.IPC_PATH_BYTES_MAX}"
            raise RunError(f"run directory {path}: its socket paths have {longest} bytes, expected {expected}; choose a shorter --name")
        directory_fd = private.open_private(path, levels=2)
        try:
            run_dir = cls(name, path, directory_fd, _lock(path, directory_fd, clock or Clock()))
        except BaseException:
            os.close(directory_fd)
            raise
        try:
            run_dir._sweep_sockets()
            run_dir._sweep("logs", ".log")
            if os.path.lexists(path / "incidents"):  # made by the first one
                run_dir._sweep("incidents", ".json", ".png", ".tmp")
        except BaseException:
            run_dir.close()
            raise
        return run_dir

    def write_info(self, info: RunInfo) -> None:
        """Say in the pid file who runs here. Whoever reads it while it is written anew finds the one or the other."""
        raw = msgspec.json.encode(info)
        os.pwrite(self._lock_fd, raw, 0)
        os.ftruncate(self._lock_fd, len(raw))

    def log_path(self, node: str) -> str:
        return str(self.path / "logs" / f"{node}.log")

    def open_log(self, node: str, flags: int = os.O_WRONLY | os.O_CREAT | os.O_APPEND) -> int:
        """A descriptor of the node's log; one that appends to it, unless other flags are given."""
        return os.open(f"logs/{node}.log", flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._directory_fd)

    def log_bytes(self, node: str) -> int:
        """The size of the node's log with what was dropped at its front; 0 if there is none."""
        try:
            return os.stat(f"logs/{node}.log", dir_fd=self._directory_fd, follow_symlinks=False).st_size
        except OSError:
            return 0

    @property
    def in_place(self) -> bool:
        """False once somebody has removed the directory, or put another one in its place."""
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._directory_fd))
        except OSError:
            return False

    def forget(self, node: str, incarnation: int) -> None:
        """Remove the inbox that a dead process has left. SYNC: wire.sockets.inbox_path."""
        try:
            os.unlink(f"{node}.{incarnation}", dir_fd=self._directory_fd)
        except OSError:  # it removed it itself; or somebody has removed the directory, which is not ours to mend here
            pass

    def close(self) -> None:
        """Remove sockets and pid file, keep the logs, give up the lock."""
        self._sweep_sockets()
        # Removed while it is locked: who waits for the lock then finds that its file is not the one in the directory.
        try:
            os.unlink(PID_FILE, dir_fd=self._directory_fd)
        except FileNotFoundError:
            pass
        os.close(self._lock_fd)
        os.close(self._directory_fd)

    def _sweep_sockets(self) -> None:
        for name in os.listdir(self._directory_fd):
            try:
                if stat.S_ISSOCK(os.lstat(name, dir_fd=self._directory_fd).st_mode):
                    os.unlink(name, dir_fd=self._directory_fd)
            except FileNotFoundError:  # ZeroMQ removes the sockets it has bound from a thread of its own
                pass

    def _sweep(self, folder: str, *endings: str) -> None:
        """Make a folder, or remove what an earlier run has left in it."""
        folder_fd = private.open_level(self._directory_fd, folder, self.path / folder)
        try:
            for name in os.listdir(folder_fd):
                if name.endswith(endings) and name != COORDINATOR_LOG and stat.S_ISREG(os.lstat(name, dir_fd=folder_fd).st_mode):
                    os.unlink(name, dir_fd=folder_fd)
        finally:
            os.close(folder_fd)


def known() -> list[Path]:
    """Directories of runs, live or ended, that are ours alone; by name."""
    found = [path for root in roots() for path in _subdirectories(root) if re.fullmatch(limits.ID_PATTERN, path.name)]
    return sorted(found, key=lambda path: path.name)


def live_info(path: Path) -> RunInfo | None:
    """What the pid file in this directory says, if the run lives: a lock is held on it."""
    try:
        fd = os.open(path / PID_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return msgspec.structs.replace(_info.decode(os.pread(fd, PID_FILE_BYTES_MAX, 0)), path=str(path))
    except msgspec.DecodeError:
        return None  # it is being started and has not yet said who it is
    finally:
        os.close(fd)


def _subdirectories(root: Path) -> Iterator[Path]:
    try:
        private.verify(os.lstat(root), root)
    except FileNotFoundError:
        return
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        yield root / name


def _lock(path: Path, directory_fd: int, clock: Clock) -> int:
    """The locked pid file. Waits a moment for a guardian that still cleans up, or for a reader that looks at the lock."""
    for _ in range(LOCK_TRIES):
        try:
            fd = os.open(PID_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
        except OSError as error:
            raise RunError(f"{path / PID_FILE}: {error.strerror}, expected a plain file of ours; remove it") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here = os.stat(PID_FILE, dir_fd=directory_fd, follow_symlinks=False)
            if os.path.samestat(here, os.fstat(fd)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or removed by its last holder after we had opened it
        os.close(fd)
        clock.sleep(LOCK_PAUSE_S)
    info = live_info(path)
    who = f"pid {info.pid}, since {info.started}" if info else "another process holds its lock"
    raise RunError(f"run '{path.name}' is live ({who}); end it with `streamctl down {path.name}`, or choose another --name")
