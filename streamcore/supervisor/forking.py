"""The coordinator's end of the fork server: starts it, has nodes forked, does without it after a failure (SYNC: node/forkserver.py).

Not started again: who needs it next has waited for it in vain once, exec always works, and costs 0.3 s more.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic

import msgspec

from streamcore.node import forkserver
from streamcore.node.forkserver import Answer, Made, Refused
from streamcore.supervisor import guardian
from streamcore.supervisor.group import Group
from streamcore.supervisor.interpreter import COMMAND, execute

SWITCH = "STREAMCORE_FORKSERVER"  # 0: every node is exec'ed
READY_S = 5.0  # for its imports, 0.3 s of a core, which have begun before the spec was read
ANSWER_S = 2.0  # for one fork, 10 ms of a core; the coordinator does nothing else meanwhile
ANSWER_BYTES_MAX = 4096
REAP_S, REAP_PAUSE_S = 2.0, 0.001  # after SIGKILL it is gone in a millisecond, unless the kernel holds it
ROOM_WORD_BYTES = 64  # RUN/NODE FD, each id at most 32 bytes; words of the server give room too
ROOM_ENVIRON_BYTES = 4096  # the mark, and what plugins that the coordinator loads add to its environment

_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class _Failed(Exception):
    """It cannot be used any more; the text says why."""


class ForkServer:
    """A process with everything imported, and the socket to it. Main thread only: the server dies with the thread that has started it.

    on_failure: told once, in a sentence, when it is not used any more. It fails for good, and exec takes its place.
    """

    def __init__(self) -> None:
        """Start it. It imports while the caller does other things. Raises OSError if the box has no process or descriptor left."""
        self.on_failure: Callable[[str], None] = lambda text: None
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [*COMMAND, forkserver.WORD, str(theirs.fileno()), str(os.getpid()), " " * ROOM_WORD_BYTES]
        environ = {**os.environ, forkserver.ROOM: " " * ROOM_ENVIRON_BYTES}
        try:
            self.pid, pidfd = execute(words, (theirs.fileno(),), subprocess.DEVNULL, environ)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        os.close(pidfd)  # its end is seen on the socket
        self._group = Group(self.pid)

    def fork(self, words: Sequence[str], fds: Sequence[int], output_fd: int, environ: Mapping[str, str]) -> tuple[int, int] | None:
        """As interpreter.execute: (pid, pidfd) of a process whose words after COMMAND are `words`. This process must be a subreaper.

        `environ` holds the mark of the process. None if it has to be exec'ed: the server has failed, now or earlier, or it is no case for
        it. A node that needs another environment when its interpreter starts, or its libraries load, is none.
        """
        if self._socket.fileno() < 0 or len(fds) + len(("output", "directory")) > forkserver.FDS_MAX:
            return None
        request = forkserver.encode(
            forkserver.Fork(
                words=tuple(words),
                environ={os.fsencode(name): os.fsencode(value) for name, value in environ.items()},
                numbers=tuple(fds),
                nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
                coordinator_pid=os.getpid(),
            )
        )
        if len(request) > forkserver.DATAGRAM_BYTES_MAX:
            return None
        made: list[tuple[int, int]] = []
        try:
            self._await_ready()
            self._ask(request, output_fd, fds, made)
            return made[0]
        except (OSError, msgspec.DecodeError, _Failed) as error:
            self._fail("it has ended" if isinstance(error, ConnectionError) else str(error))
            _undo(made, environ[guardian.MARK[:-1].decode()])
            return None

    def _await_ready(self) -> None:
        if not self._ready:
            self._hear(monotonic() + READY_S)
            self._ready = True

    def _ask(self, request: bytes, output_fd: int, fds: Sequence[int], made: list[tuple[int, int]]) -> None:
        """Until the process is there and is what it should be. It is added to `made` as soon as it is known of. Raises _Failed, OSError."""
        directory_fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            socket.send_fds(self._socket, [request], [output_fd, directory_fd, *fds])
        finally:
            os.close(directory_fd)
        deadline_s, running = monotonic() + ANSWER_S, False
        while not (made and running):
            answer, received = self._hear(deadline_s, made[0][1] if made else -1)
            if isinstance(answer, Made):
                made.append((answer.pid, received[0] if received else os.pidfd_open(answer.pid)))  # none came: EMFILE, which this raises
            else:
                running = True

    def _hear(self, deadline_s: float, pidfd: int = -1) -> tuple[Answer, list[int]]:
        """The next word, of the server or of the process of `pidfd`, and what came with it. Raises _Failed, OSError."""
        poller = select.poll()
        for fd in (self._socket.fileno(), pidfd):
            if fd >= 0:
                poller.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(max(0.0, deadline_s - monotonic()) * 1000)]
        if not ready:
            raise _Failed("it does not answer")
        if self._socket.fileno() not in ready:
            raise _Failed("what it had forked ended before it was a node")
        raw, fds, _, _ = socket.recv_fds(self._socket, ANSWER_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
        if not raw:
            raise _Failed("it has ended")
        answer = _answers.decode(raw)
        if isinstance(answer, Refused):
            raise _Failed(answer.why)
        return answer, fds

    def reap(self) -> None:
        """A child has ended: perhaps it, or an elder of it."""
        self._group.reap()
        if self._group.status is not None:
            self._fail("it has ended")

    def close(self) -> None:
        """Kill and reap it. It holds nothing that would have to be given back."""
        self._socket.close()
        self._group.signal(signal.SIGKILL)
        deadline_s = monotonic() + REAP_S
        while not self._group.reap() and monotonic() < deadline_s:
            select.select((), (), (), REAP_PAUSE_S)

    def _fail(self, why: str) -> None:
        if self._socket.fileno() >= 0:
            self.close()
            self.on_failure(f"the fork server is not used any more: {why}; new processes of nodes start by exec, which takes 0.3 s more")


def _undo(made: list[tuple[int, int]], mark: str) -> None:
    """Whoever was forked nevertheless is killed and reaped: by exec it would come a second time."""
    pids = set(guardian.kill_members(mark.encode()))
    for pid, pidfd in made:
        with suppress(ProcessLookupError):  # it was still in the group of the server, and was reaped with it
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        pids.add(pid)
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
