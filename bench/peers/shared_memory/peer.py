"""What one writes by hand: slots in multiprocessing.shared_memory, their numbers in a multiprocessing.Queue, and a Queue of free ones back.

Nothing is lost: the sender waits for a slot that all receivers have given back.
"""

from __future__ import annotations

import multiprocessing
import platform
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work


def send(job: work.Job, line: work.Line, memory: SharedMemory, free: Any, outputs: list[Any]) -> None:
    slots = [np.ndarray(job.nbytes, np.uint8, memory.buf, index * job.nbytes) for index in range(job.depth)]
    idle = list(range(job.depth))
    readers = [0] * job.depth
    source = work.Source(job, line)
    line.ready()
    for sequence in source:
        while not idle:
            index = free.get()
            readers[index] -= 1
            if not readers[index]:
                idle.append(index)
        index = idle.pop()
        source.write(slots[index], sequence)
        readers[index] = job.receivers
        for output in outputs:
            output.put(index)
    line.stay()


def forward(job: work.Job, line: work.Line, queue: Any, outputs: list[Any]) -> None:
    """Copies nothing: the number of the slot goes on."""
    line.ready()
    for _ in range(job.total):
        index = queue.get()
        for output in outputs:
            output.put(index)
    line.stay()


def receive(job: work.Job, line: work.Line, memory: SharedMemory, free: Any, queue: Any) -> None:
    views = [memory.buf[index * job.nbytes : (index + 1) * job.nbytes] for index in range(job.depth)]
    sink = work.Sink(job, line)
    line.ready()
    last = False
    while not last:
        index = queue.get()
        last = sink.take(views[index])
        free.put(index)
    sink.done()
    for view in views:
        view.release()


def run(name: str, job: work.Job, memory: SharedMemory, free: Any, queue: Any, outputs: list[Any]) -> None:
    line = work.Line(name)
    if name == "sender":
        send(job, line, memory, free, outputs)
    elif name.startswith("hop"):
        forward(job, line, queue, outputs)
    else:
        receive(job, line, memory, free, queue)


segments: list[SharedMemory] = []
kept: list[Any] = []  # a Queue is gone with its last reference here, even if a process that is about to start has one


def launch(job: work.Job, names: list[str]) -> None:
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=job.depth * job.nbytes)
    segments.append(memory)
    free = context.Queue()
    queues = {name: context.Queue() for name in names if name != "sender"}
    kept.extend([free, *queues.values()])
    chain = [name for name in names if not name.startswith("receiver")]
    last = [queues[name] for name in names if name.startswith("receiver")]
    for name in names:
        if name in chain:
            after = chain.index(name) + 1
            outputs = [queues[chain[after]]] if after < len(chain) else last
        else:
            outputs = []
        context.Process(target=run, args=(name, job, memory, free, queues.get(name), outputs), daemon=True).start()


def clean() -> None:
    kept.clear()
    for memory in segments:
        memory.close()
        memory.unlink()


PEER = work.Peer("shared_memory", platform.python_version, {}, launch=launch, clean=clean)

if __name__ == "__main__":
    work.main(__file__, PEER)
