"""bare: the way streamcore carries packets and nothing of what it promises. Slots in shared memory that all processes map, their numbers by
SOCK_SEQPACKET of the kernel, one number back per frame, free slots used again last in, first out; up to 1 KiB travels in the message.

What it is behind another transport, the way costs; what streamcore is behind it, its own code does. Nothing is lost while nobody dies.
"""

from __future__ import annotations

import mmap
import os
import platform
import select
import sys
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, socket

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work

IN_MESSAGE_BYTES = 1024
PLACE = Path("slots")  # where the sender's memory can be opened


def listening(path: str) -> socket:
    listener = socket(AF_UNIX, SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    return listener


def connected(path: str) -> socket:
    made = socket(AF_UNIX, SOCK_SEQPACKET)
    made.connect(path)
    return made


def connect(job: work.Job, line: work.Line, number: int) -> list[socket]:
    """The sockets to all readers of the sender (number 0) or of hop number - 1, whose own inbox is there by then."""
    line.ready()
    readers = job.receivers if number == job.hops else 1
    sockets = [connected(f"edge{number}.{reader}") for reader in range(readers)]
    line.ready()
    return sockets


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    source = work.Source(job, line)
    if job.nbytes > IN_MESSAGE_BYTES:
        send_slots(job, line, source)
        return
    slot = np.empty(job.nbytes, np.uint8)
    sockets = connect(job, line, 0)
    for sequence in source:
        source.write(slot, sequence)
        for one in sockets:
            one.send(slot)
    line.stay()


def send_slots(job: work.Job, line: work.Line, source: work.Source) -> None:
    back = listening("back")
    fd = os.memfd_create("bare")
    os.ftruncate(fd, job.depth * job.nbytes)
    memory = mmap.mmap(fd, job.depth * job.nbytes)
    slots = [np.frombuffer(memory, np.uint8, job.nbytes, number * job.nbytes) for number in range(job.depth)]
    free, readers = list(range(job.depth)), [0] * job.depth
    PLACE.write_text(f"/proc/{os.getpid()}/fd/{fd}")
    sockets = connect(job, line, 0)
    backs = [back.accept()[0] for _ in range(job.receivers)]
    poller = select.epoll()
    for one in backs:
        poller.register(one, select.EPOLLIN)
    by_fd = {one.fileno(): one for one in backs}
    for sequence in source:
        while events := poller.poll(-1 if not free else 0):
            for ready, _ in events:
                number = by_fd[ready].recv(1)[0]
                readers[number] -= 1
                if not readers[number]:
                    free.append(number)
        number = free.pop()
        source.write(slots[number], sequence)
        readers[number] = job.receivers
        for one in sockets:
            one.send(bytes((number,)))
    line.stay()


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies nothing: the message goes on."""
    inbox = listening(f"edge{index}.0")
    sockets = connect(job, line, index + 1)
    source = inbox.accept()[0]
    for _ in range(job.total):
        message = source.recv(IN_MESSAGE_BYTES)
        for one in sockets:
            one.send(message)
    line.stay()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    inbox, sink = listening(f"edge{job.hops}.{index}"), work.Sink(job, line)
    line.ready()
    last = False
    if job.nbytes <= IN_MESSAGE_BYTES:
        line.ready()
        source = inbox.accept()[0]
        while not last:
            last = sink.take(source.recv(IN_MESSAGE_BYTES))
    else:
        with open(PLACE.read_text(), "rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        views = [memory[number * job.nbytes : (number + 1) * job.nbytes] for number in range(job.depth)]
        back = connected("back")
        line.ready()
        source = inbox.accept()[0]
        while not last:
            number = source.recv(1)
            last = sink.take(views[number[0]])
            back.send(number)
    sink.done()


PEER = work.Peer("bare", platform.python_version, {"sender": send, "hop": forward, "receiver": receive}, rounds=lambda job: 2)

if __name__ == "__main__":
    work.main(__file__, PEER)
