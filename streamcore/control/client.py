"""The asking side of the control socket: find live runs of this user and send them requests."""

from __future__ import annotations

import os
import select
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from streamcore.clock import Clock
from streamcore.control import private, protocol, rundir
from streamcore.errors import RunError

REQUEST_S = 5.0  # a coordinator answers within a millisecond unless the box stands still
LOOK_MS = 100  # how often a waiting client looks whether the run still lives


def runs() -> list[rundir.RunInfo]:
    """All live runs of this user, by name."""
    return [info for info in map(rundir.live_info, rundir.known()) if info]


def directory(name: str | None) -> Path:
    """The directory of a run, live or ended, e.g. for its logs. Without a name: the only live run, else the only directory.

    A name with a slash is the directory itself.

    Raises:
      RunError: there is none, or several; it belongs to another user.
    """
    if name is not None and "/" in name:
        return _verified(name)
    if name is None and len(runs()) == 1:
        return Path(runs()[0].path)
    found = [path for path in rundir.known() if name in (None, path.name)]
    live = [path for path in found if rundir.live_info(path)]
    one: Path = _the_one(name, live or found, [path.name for path in found], list(map(str, live or found)))
    return one


def connect(name: str | None, clock: Clock | None = None) -> Client:
    """A client of the run of this name, or of the only live one. A name with a slash is the directory of the run.

    Raises:
      RunError: there is no such run, or several and no name was given; its directory belongs to another user.
    """
    if name is not None and "/" in name:
        left = [_verified(name)]
        live = found = [info for info in map(rundir.live_info, left) if info]
    else:
        live = runs()
        found = [info for info in live if name in (None, info.run)]
        left = [path for path in rundir.known() if path.name == name]
    if left and not found:
        raise RunError(
            f"no run '{name}' found: it is not up; what it left is in {left[0]}, its logs show with `streamctl logs --run {name}`"
        )
    return Client(_the_one(name, found, [info.run for info in live], [info.path for info in found]), clock)


def _verified(name: str) -> Path:
    path = Path(name).absolute()
    try:
        private.verify(path.lstat(), path)
    except OSError as error:
        raise RunError(f"run directory {path}: {error.strerror}") from None
    return path


def _the_one(name: str | None, found: list[Any], names: list[str], paths: list[str]) -> Any:
    if len(found) == 1:
        return found[0]
    if found and (name is not None or len(set(names)) < len(names)):
        raise RunError(f"several runs, some of one name: give the directory of the one that is meant, {' or '.join(paths)}")
    if found:
        raise RunError(f"several runs: {', '.join(names)}; say which one")
    if name is None:
        raise RunError(f"no run found in {' or '.join(map(str, rundir.roots()))}; start one with `streamctl up SPEC`")
    raise RunError(f"no run '{name}' found; " + (f"there is {', '.join(names)}" if names else "there is none at all"))


class Client:
    """One run and a socket to it. Use as a context manager."""

    def __init__(self, info: rundir.RunInfo, clock: Clock | None = None):
        self.info = info
        self._clock = clock or Clock()
        self._context = zmq.Context()

    def request(self, verb: str, timeout_s: float = REQUEST_S, **arguments: Any) -> dict[str, Any]:
        """Ask and wait for the reply: the dict of protocol.py without `v` and `ok`.

        Raises:
          MessageError: no such verb, or not these arguments.
          RunError: the run refused with a sentence, ended meanwhile, or did not answer in time.
        """
        raw = protocol.encode_request(verb, arguments)
        # A socket per request: a REQ socket whose reply was not waited for cannot be used again.
        socket = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(f"ipc://{self.info.path}/{rundir.CONTROL_SOCKET}")
            socket.send(raw, zmq.NOBLOCK)
            deadline_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
            while not socket.poll(LOOK_MS):
                if not self.live():
                    raise RunError(f"run '{self.info.run}' ended before it answered `{verb}`")
                if self._clock.monotonic_ns() > deadline_ns:
                    raise RunError(f"run '{self.info.run}' (pid {self.info.pid}) lives but did not answer `{verb}` within {timeout_s:g} s")
            reply = protocol.decode_reply(socket.recv(zmq.NOBLOCK))
        finally:
            socket.close()
        if not reply.pop("ok"):
            raise RunError(f"run '{self.info.run}': {reply.get('error', 'refused without a reason')}")
        del reply["v"]
        return reply

    def live(self) -> bool:
        """Does this very run still live; a later one of the same name does not count."""
        info = rundir.live_info(Path(self.info.path))
        return info is not None and info.run_id == self.info.run_id

    def wait_end(self, timeout_s: float) -> bool:
        """Wait until the run has ended and cleaned up. False if it still lives after `timeout_s`."""
        deadline_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        try:
            pidfd = os.pidfd_open(self.info.pid)
        except ProcessLookupError:
            return True
        try:
            # The process may live on after the run (a test, an embedding program): hence the look at the lock as well.
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            while self.live():
                if self._clock.monotonic_ns() > deadline_ns:
                    return False
                if poll.poll(LOOK_MS):
                    self._clock.sleep(LOOK_MS / 10_000)  # killed: its guardian cleans up and holds the lock for some 50 ms
        finally:
            os.close(pidfd)
        return True

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
