"""ezmsg: one unit per process, arrays through the shared memory of its publishers, notices and receipts over loopback TCP.

Nothing is lost: a publisher waits for a buffer that all subscribers have given back.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ezmsg.core as ez
import work


class NodeSettings(ez.Settings):
    job: work.Job
    name: str


class NodeState(ez.State):
    line: work.Line
    sink: work.Sink
    left: int


class Sender(ez.Unit):
    SETTINGS = NodeSettings
    STATE = NodeState
    OUTPUT = ez.OutputStream(np.ndarray)

    async def initialize(self) -> None:
        self.STATE.line = work.Line(self.SETTINGS.name)
        self.STATE.sink = None
        self.STATE.left = 0

    @ez.publisher(OUTPUT)
    async def send(self) -> AsyncGenerator:
        job, line = self.SETTINGS.job, self.STATE.line
        source = work.Source(job, line)
        # No loan of shared memory: a message is an array, and `broadcast` copies it before it returns, so one array does for all.
        array = np.empty(job.nbytes, np.uint8)
        await asyncio.to_thread(line.ready)
        for sequence in range(job.total):
            left_s = source.left_s(sequence)
            if left_s > 0:
                await asyncio.sleep(left_s)
            source.write(array, sequence)
            yield self.OUTPUT, array
        await asyncio.to_thread(line.stay)
        raise ez.Complete


class Hop(ez.Unit):
    SETTINGS = NodeSettings
    STATE = NodeState
    INPUT = ez.InputStream(np.ndarray)
    OUTPUT = ez.OutputStream(np.ndarray)

    async def initialize(self) -> None:
        self.STATE.line = work.Line(self.SETTINGS.name)
        self.STATE.sink = None
        self.STATE.left = self.SETTINGS.job.total

    @ez.task
    async def begin(self) -> None:
        await asyncio.to_thread(self.STATE.line.ready)
        await asyncio.to_thread(self.STATE.line.stay)
        raise ez.Complete

    @ez.subscriber(INPUT)
    @ez.publisher(OUTPUT)
    async def forward(self, array: np.ndarray) -> AsyncGenerator:
        """Copies: the view that came in goes into the shared memory of the next publisher."""
        yield self.OUTPUT, array


class Receiver(ez.Unit):
    SETTINGS = NodeSettings
    STATE = NodeState
    INPUT = ez.InputStream(np.ndarray)

    async def initialize(self) -> None:
        self.STATE.line = work.Line(self.SETTINGS.name)
        self.STATE.sink = work.Sink(self.SETTINGS.job, self.STATE.line)
        self.STATE.left = 0

    @ez.task
    async def begin(self) -> None:
        await asyncio.to_thread(self.STATE.line.ready)

    @ez.subscriber(INPUT)
    async def receive(self, array: np.ndarray) -> None:
        if self.STATE.sink.take(memoryview(array)):
            await asyncio.to_thread(self.STATE.sink.done)
            raise ez.NormalTermination


KINDS = {"sender": Sender, "hop": Hop, "receiver": Receiver}


def run_graph(job: work.Job) -> None:
    server = ez.GraphServer()
    server.start(("127.0.0.1", 0))
    names = work.names_of(job)
    units = {name: KINDS[name.rstrip("0123456789")](NodeSettings(job=job, name=name)) for name in names}
    for unit in units.values():
        if hasattr(unit, "OUTPUT"):
            unit.OUTPUT.num_buffers = min(job.depth, 64)  # for small messages faster than more, and than its default of 32
            unit.OUTPUT.buf_size = job.nbytes + 4096
    chain = [units[name] for name in names if not name.startswith("receiver")]
    edges = [(one.OUTPUT, other.INPUT) for one, other in pairwise(chain)]
    edges += [(chain[-1].OUTPUT, units[name].INPUT) for name in names if name.startswith("receiver")]
    ez.run(components=units, connections=edges, process_components=list(units.values()), graph_address=server.address)
    server.stop()


def launch(job: work.Job, names: list[str]) -> None:
    del job, names
    # A process of its own for the server of the graph; ezmsg starts one more per unit.
    subprocess.Popen([sys.executable, __file__, "--graph"], stdin=subprocess.DEVNULL, stdout=sys.stderr)


PEER = work.Peer("ezmsg", "ezmsg", {}, launch=launch)

if __name__ == "__main__":
    if sys.argv[1] == "--graph":
        run_graph(work.Job.parse(os.environ["PEER_JOB"]))
    else:
        work.main(__file__, PEER)
