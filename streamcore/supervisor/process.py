"""One incarnation of a node as the coordinator holds it: pid, process group, control channel. Spawned from the main thread only."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

import msgspec

from streamcore.errors import MessageError
from streamcore.graph.model import Boot
from streamcore.node import channel
from streamcore.secret import reveal_hook, revealed
from streamcore.supervisor import guardian
from streamcore.supervisor.forking import ForkServer
from streamcore.supervisor.group import Group
from streamcore.supervisor.interpreter import COMMAND, execute

MARK = guardian.MARK[:-1].decode()
REPORTS_PER_TURN_MAX = 1024  # more than the channel holds, so the last words of a dead process are among them; a flood waits its turn


class Process:
    """A running node process."""

    def __init__(self, boot: Boot, log_fd: int, command: Sequence[str] = COMMAND, fork_server: ForkServer | None = None):
        """Spawn it: forked, if there is a server for it that works, else by exec. Nobody can tell which.

        `boot.control_fd` is filled in here: the process end of a new control channel. PR_SET_PDEATHSIG follows the thread that spawned,
        not the process: hence the main thread only.

        Raises:
          OSError: the box refused (EAGAIN, ENOMEM, EMFILE).
        """
        self.mark = f"{boot.run_id}/{boot.node.id}/{boot.incarnation}/"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            boot_fd = _boot_memfd(msgspec.structs.replace(boot, control_fd=theirs.fileno()))
            try:
                words = (f"{boot.run}/{boot.node.id}", str(boot_fd))
                fds = (boot_fd, theirs.fileno(), boot.status_fd, boot.inbox_fd, *boot.ring_fds.values())
                own = _environment(boot)
                environ = {**os.environ, **own, MARK: self.mark}
                # What libraries read when they are loaded would come too late in a fork.
                forked = fork_server.fork(words, fds, log_fd, environ) if fork_server and not own else None
                self.pid, self.pidfd = forked or execute((*command, *words), fds, log_fd, environ)
            finally:
                os.close(boot_fd)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel: socket.socket | None = ours
        self._group = Group(self.pid)

    @property
    def status(self) -> int | None:
        """Its exit code once it is reaped, as os.waitstatus_to_exitcode gives it."""
        return self._group.status

    @property
    def cpu_s(self) -> float:
        """CPU time of what was reaped of it."""
        return self._group.cpu_s

    @property
    def core_wait_s(self) -> float:
        """How long it had waited for a core when it ended."""
        return self._group.core_wait_s

    @property
    def channel_fd(self) -> int:
        """-1 once the channel is at its end."""
        return self._channel.fileno() if self._channel else -1

    def send(self, command: channel.Command) -> bool:
        """False if the process is gone or does not read: its end is found by its pidfd or its deadlines."""
        if self._channel is None:
            return False
        try:
            self._channel.send(channel.encode(command))
        except OSError:
            return False
        return True

    def reports(self) -> list[channel.Report]:
        """What it said since the last call; what is beyond REPORTS_PER_TURN_MAX waits for the next. Closed at its end of file.

        Raises:
          MessageError: something that is no report; the channel is closed, for nothing after it can be trusted.
        """
        said: list[channel.Report] = []
        while self._channel is not None and len(said) < REPORTS_PER_TURN_MAX:
            try:
                raw = self._channel.recv(channel.DATAGRAM_BYTES_MAX)
                if raw:
                    said.append(channel.decode_report(raw))
                    continue
            except BlockingIOError:
                break
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self.close_channel()
                raise MessageError(f"control channel of pid {self.pid}: {error}") from None
            except ConnectionResetError:
                continue  # it died with commands unread; said once, and before what it had still reported
            self.close_channel()
        return said

    def close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def terminate(self) -> None:
        """SIGTERM to the process alone: what it has started it may still need for the packet that it finishes."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def signal_group(self, number: signal.Signals) -> None:
        """To the process and all that it started and that stayed in its group. Nothing happens if none is left."""
        self._group.signal(number)

    def reap(self) -> bool:
        """Collect exit statuses of the group, of orphaned grandchildren too, without waiting. True if none of it is left."""
        return self._group.reap()

    def close(self) -> None:
        """Give back the descriptors. The process must have been reaped."""
        self.close_channel()
        os.close(self.pidfd)


def _environment(boot: Boot) -> dict[str, str]:
    """What the spec adds for this node: true and false as YAML writes them."""
    given = revealed(boot.node.env)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def _boot_memfd(boot: Boot) -> int:
    fd = os.memfd_create("streamcore:boot", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)  # it holds the node's config
        with open(fd, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(boot, enc_hook=reveal_hook))
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
