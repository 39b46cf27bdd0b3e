"""The nodes of the dora dataflow: `nodes.py ROLE INDEX`, started by dora, with the job in the environment.

Input queues of dora drop what is too much, so receivers give the sender credits: an output `credit` of theirs is an input of the sender.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work
from dora import Node

FIRST = "first.txt"
RECEIVED = "received.bin"
SENT = "sent.txt"
STOP = "stop"


def window(job: work.Job) -> int:
    """Packets between the sender and its receivers, over all hops."""
    return job.depth * (job.hops + 1)


def publish(node: Node, source: work.Source, nbytes: int, sequence: int) -> None:
    with node.send_output_raw("packet", nbytes) as loan:
        slot = np.frombuffer(loan, np.uint8)
        source.write(slot, sequence)
        # dora refuses to send while anything still looks at the buffer.
        del slot


def next_input(node: Node) -> Any:
    """The next input; None when the dataflow stops."""
    while True:
        event = node.next()
        if event is None or event["type"] == "STOP":
            return None
        if event["type"] == "INPUT":
            return event


def send(job: work.Job, node: Node, index: int) -> None:
    del index
    line = work.Line("sender")
    source = work.Source(job, line)
    returned = [0] * job.receivers
    line.ready()
    for sequence in source:
        while sequence - min(returned) >= window(job):
            event = next_input(node)
            returned[int(event["id"].removeprefix("credit"))] = event["value"][0].as_py()
        publish(node, source, job.nbytes, sequence)
    line.stay()


def forward(job: work.Job, node: Node, index: int) -> None:
    """Copies: the array that came in lies in the memory of another node."""
    line = work.Line(f"hop{index}")
    line.ready()
    for _ in range(job.total):
        packet = next_input(node)["value"].to_numpy()
        with node.send_output_raw("packet", job.nbytes) as loan:
            slot = np.frombuffer(loan, np.uint8)
            np.copyto(slot, packet)
            del slot
        del packet
    line.stay()


def receive(job: work.Job, node: Node, index: int) -> None:
    line = work.Line(f"receiver{index}")
    sink = work.Sink(job, line)
    step = max(window(job) // 4, 1)
    taken = 0
    line.ready()
    while True:
        event = next_input(node)
        last = sink.take(memoryview(event["value"].to_numpy()))
        del event
        taken += 1
        if last:
            break
        if taken % step == 0:
            node.send_output("credit", pa.array([taken]))
    sink.done()


class Quiet:
    """In place of a Line where no desk takes part."""

    def measuring(self) -> None: ...


def send_always(job: work.Job, node: Node, index: int) -> None:
    """At the job's rate until told to stop: no credits, for receivers that die."""
    del index
    source = work.Source(job, Quiet())  # type: ignore[arg-type]
    sequence = 0
    while not os.path.exists(STOP):
        left_s = source.left_s(sequence)
        if left_s > 0:
            time.sleep(left_s)
        publish(node, source, job.nbytes, sequence)
        sequence += 1
    Path(f"{SENT}.part").write_text(str(sequence))
    os.replace(f"{SENT}.part", SENT)
    while next_input(node) is not None:
        pass


def forward_always(job: work.Job, node: Node, index: int) -> None:
    del index
    while (event := next_input(node)) is not None:
        packet = event["value"].to_numpy()
        with node.send_output_raw("packet", job.nbytes) as loan:
            slot = np.frombuffer(loan, np.uint8)
            np.copyto(slot, packet)
            del slot
        del packet, event


def receive_always(job: work.Job, node: Node, index: int) -> None:
    """Writes down when its first packet came, then every sequence number."""
    del job, index
    first = True
    received = os.open(RECEIVED, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while (event := next_input(node)) is not None:
        sequence, _ = work.STAMP.unpack_from(memoryview(event["value"].to_numpy()))
        if first:
            Path(f"{FIRST}.part").write_text(f"{os.getpid()} {time.monotonic_ns()}")
            os.replace(f"{FIRST}.part", FIRST)
            first = False
        os.write(received, sequence.to_bytes(8, "little"))
        del event


ROLES = {
    "flow": {"sender": send, "hop": forward, "receiver": receive},
    "always": {"sender": send_always, "hop": forward_always, "receiver": receive_always},
}


def main() -> None:
    job = work.Job.parse(os.environ["PEER_JOB"])
    # The first conversion of a process loads what it needs.
    pa.array([0]).to_numpy()
    role, index = sys.argv[1], int(sys.argv[2])
    ROLES["flow" if job.case == "flow" else "always"][role](job, Node(), index)


if __name__ == "__main__":
    main()
