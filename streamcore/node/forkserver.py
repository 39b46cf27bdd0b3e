"""The process that node processes are forked from, with all of streamcore imported and no plugin.

It has one thread and nothing else that a fork could break: no open file but the socket to the coordinator, no lock that anybody holds.
Before each fork it counts its threads, and refuses if something has started one.

The coordinator has to be the parent of its nodes, who waits for them and with whom they die. So the server forks an elder, the elder forks
the node and ends, and the kernel hands the node to the coordinator, which is a subreaper. Messages, msgpack over SOCK_SEQPACKET
(SYNC: supervisor/forking.py):

    server   ->  READY                      once
    Fork     ->  server                     with descriptors: log, working directory, then one for each of `numbers`
    elder    ->  Made(pid), with its pidfd  there is a process
    node     ->  RUNNING                    it has its own session, words, environment and descriptors, and the coordinator for a parent;
                                            from here on its end is an end of the node
    server or node  ->  Refused(why)        there is, or will soon be, no process
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Union

import msgspec

from streamcore.interpreter import die_with
from streamcore.node import arguments

WORD = "forkserver"  # the first of this process' words; a node's has a slash
ROOM = "STREAMCORE_ROOM"  # the variable of blanks
DATAGRAM_BYTES_MAX = 192 * 1024  # what the default send buffer of a socketpair takes
FDS_MAX = 253  # of one message: SCM_MAX_FD of the kernel
TASKS = "/proc/self/task"
REHEARSE_MS = 100  # the end of a thread shows in /proc some microseconds after it was joined


class Ready(msgspec.Struct, tag="ready"):
    pass


class Fork(msgspec.Struct, tag="fork"):
    """`words` follow the command of a node. `nofile`: the limits of descriptors, soft and hard, which the coordinator may have raised."""

    words: tuple[str, ...]
    environ: dict[bytes, bytes]
    numbers: tuple[int, ...]
    nofile: tuple[int, int]
    coordinator_pid: int


class Made(msgspec.Struct, tag="made"):
    pid: int


class Running(msgspec.Struct, tag="running"):
    pass


class Refused(msgspec.Struct, tag="refused"):
    why: str


Answer = Union[Ready, Made, Running, Refused]
Handlers = Mapping[signal.Signals, Any]  # as this interpreter had them when it was started

encode = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(Fork)


def serve(fd: int, coordinator_pid: int) -> None:
    """Fork nodes until the coordinator is gone. Returns in each node, where sys.argv has its words; never in the server."""
    die_with(coordinator_pid)
    # Whoever ends a whole control group or session means the run, which the coordinator ends in order.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    connection = socket.socket(fileno=fd)
    connection.set_inheritable(False)
    gc.disable()
    import_module("streamcore.node.start")  # only now: what it imports takes 0.3 s, in which the coordinator may die
    gc.enable()
    gc.freeze()  # the collector leaves alone what was imported, so its pages stay shared
    try:
        environ = {name: value for name, value in os.environb.items() if name != ROOM.encode()}
        arguments.replace((WORD, str(fd)), environ)
        _rehearse()
    except OSError as error:
        _say(connection, Refused(str(error)))
        os._exit(1)
    _say(connection, Ready())
    while True:
        raw, fds, _, _ = socket.recv_fds(connection, DATAGRAM_BYTES_MAX, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
        if not raw:
            os._exit(0)
        if _in_node(connection, _requests.decode(raw), fds, handlers):
            return
        for number in fds:
            os.close(number)


def _rehearse() -> None:
    """OpenBLAS has started threads when it was loaded; before a fork it ends them, and starts them again when somebody calculates.
    So one fork is made in vain, and from then on a thread is one too many.
    """
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    for _ in range(REHEARSE_MS):
        if _threads() == 1:
            break
        select.select((), (), (), 0.001)


def _threads() -> int:
    return len(os.listdir(TASKS))


def _in_node(connection: socket.socket, request: Fork, fds: Sequence[int], handlers: Handlers) -> bool:
    """Fork. True in the node, False in the server."""
    if _threads() > 1:
        _say(connection, Refused(f"it has {_threads()} threads, and a fork might deadlock"))
        return False
    try:
        elder = os.fork()
        if not elder:
            _fork_and_end(connection, request, fds, handlers)
            return True
        _, status = os.waitpid(elder, 0)
        if os.WIFEXITED(status) and (number := os.WEXITSTATUS(status)):
            raise OSError(number, os.strerror(number))
    except OSError as error:
        _say(connection, Refused(str(error)))
    return False


def _fork_and_end(connection: socket.socket, request: Fork, fds: Sequence[int], handlers: Handlers) -> None:
    """The elder's life. Returns in the node."""
    try:
        elder_pidfd = os.pidfd_open(os.getpid())
        pid = os.fork()
        if pid:
            socket.send_fds(connection, [encode(Made(pid))], [os.pidfd_open(pid)])
            os._exit(0)
    except OSError as error:  # the coordinator is gone, or the box has no process left
        os._exit(error.errno or 1)
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        connection = _become(connection, request, fds, elder_pidfd)
    except (OSError, ValueError) as error:  # the latter is how setrlimit says EPERM
        _say(connection, Refused(str(error)))
        os._exit(1)
    with connection:
        _say(connection, Running())


def _become(connection: socket.socket, request: Fork, fds: Sequence[int], elder_pidfd: int) -> socket.socket:
    """Make of this process what exec would have made. Returns the connection, which has another descriptor now.

    In this order: what has left the group of the server is found by its mark, and the elder is gone only when it has told of this process.
    """
    arguments.replace(request.words, request.environ)
    select.select((elder_pidfd,), (), ())
    if os.getppid() != request.coordinator_pid:
        os._exit(1)
    os.setsid()
    os.fchdir(fds[1])
    hard = request.nofile[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for a moment there are more than the coordinator has counted
    connection_fd = _place(connection.fileno(), fds[0], fds[2:], request.numbers)
    connection.detach()  # its number may be that of a ring now
    resource.setrlimit(resource.RLIMIT_NOFILE, request.nofile)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # random does so by itself
    return socket.socket(fileno=connection_fd)


def _place(connection_fd: int, log_fd: int, fds: Sequence[int], numbers: Sequence[int]) -> int:
    """Give the descriptors their numbers and close all others. Returns the new number of the connection, above all of them."""
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    floor = max(numbers) + 1
    connection_fd, *kept = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor) for fd in (connection_fd, *fds))
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != connection_fd and fd not in kept:
            try:
                os.close(fd)
            except OSError:  # it was that of the listing
                pass
    for fd, number in zip(kept, numbers, strict=True):
        os.dup2(fd, number, inheritable=False)
        os.close(fd)
    return connection_fd


def _say(connection: socket.socket, what: Answer) -> None:
    try:
        connection.send(encode(what))
    except OSError:  # the coordinator is gone, or has given up waiting
        os._exit(1)
