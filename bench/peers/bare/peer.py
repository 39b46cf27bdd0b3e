"""bare: the way streamcore carries packets and nothing of what it promises. Slots in shared memory that all processes map, their numbers by
PUSH and PULL over ipc://, one number back per frame, free slots used again last in, first out; up to 1 KiB travels in the message.

What it is behind another transport, the way costs; what streamcore is behind it, its own code does. Nothing is lost while nobody dies.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work
import zmq
from sockets import bound, connected

IN_MESSAGE_BYTES = 1024
PLACE = Path("slots")  # where the sender's memory can be opened
BACK = "ipc://back"


def meet(line: work.Line) -> None:
    """All sockets are there and, at the second time, all receivers have opened the sender's memory."""
    line.ready()
    line.ready()


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    sockets, source = bound(job, 0), work.Source(job, line)
    if job.nbytes <= IN_MESSAGE_BYTES:
        slot = np.empty(job.nbytes, np.uint8)
        meet(line)
        for sequence in source:
            source.write(slot, sequence)
            for socket in sockets:
                socket.send(slot)
    else:
        send_slots(job, line, sockets, source)
    line.stay()


def send_slots(job: work.Job, line: work.Line, sockets: list[zmq.Socket], source: work.Source) -> None:
    back = zmq.Context.instance().socket(zmq.PULL)
    back.bind(BACK)
    fd = os.memfd_create("bare")
    os.ftruncate(fd, job.depth * job.nbytes)
    memory = mmap.mmap(fd, job.depth * job.nbytes)
    slots = [np.frombuffer(memory, np.uint8, job.nbytes, number * job.nbytes) for number in range(job.depth)]
    free, readers = list(range(job.depth)), [0] * job.depth
    PLACE.write_text(f"/proc/{os.getpid()}/fd/{fd}")
    meet(line)
    for sequence in source:
        while back.poll(0) or not free:
            number = back.recv()[0]
            readers[number] -= 1
            if not readers[number]:
                free.append(number)
        number = free.pop()
        source.write(slots[number], sequence)
        readers[number] = job.receivers
        for socket in sockets:
            socket.send(bytes((number,)))


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies nothing: the message goes on."""
    source, sockets = connected(job, index, 0), bound(job, index + 1)
    meet(line)
    for _ in range(job.total):
        message = source.recv()
        for socket in sockets:
            socket.send(message)
    line.stay()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    socket, sink = connected(job, job.hops, index), work.Sink(job, line)
    line.ready()
    last = False
    if job.nbytes <= IN_MESSAGE_BYTES:
        line.ready()
        while not last:
            last = sink.take(socket.recv())
    else:
        with open(PLACE.read_text(), "rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        views = [memory[number * job.nbytes : (number + 1) * job.nbytes] for number in range(job.depth)]
        back = zmq.Context.instance().socket(zmq.PUSH)
        back.connect(BACK)
        line.ready()
        while not last:
            message = socket.recv()
            last = sink.take(views[message[0]])
            back.send(message)
    sink.done()


PEER = work.Peer("bare", "pyzmq", {"sender": send, "hop": forward, "receiver": receive}, rounds=lambda job: 2)

if __name__ == "__main__":
    work.main(__file__, PEER)
