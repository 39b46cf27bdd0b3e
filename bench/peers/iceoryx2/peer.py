"""iceoryx2: publish-subscribe of slices of bytes in shared memory, and an event service that wakes the receivers.

Nothing is lost by a queue that does not overflow, and a publisher that tries again until the sample is delivered.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work

PREFIX = f"iox2_{os.environ.setdefault('PEER_RUN', str(os.getpid()))}_"


class Edge:
    """One service of samples and one of events, each found by its name."""

    def __init__(self, node: Any, job: work.Job, number: int) -> None:
        import iceoryx2 as iox2

        name = iox2.ServiceName.new(f"edge{number}")
        self._job = job
        self._iox2 = iox2
        self._samples = (
            node.service_builder(name)
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(job.depth)
            .subscriber_max_borrowed_samples(2)
            .open_or_create()
        )
        self._events = node.service_builder(name).event().open_or_create()

    def publisher(self) -> tuple[Any, Any]:
        builder = self._samples.publisher_builder().initial_max_slice_len(self._job.nbytes)
        builder = builder.backpressure_strategy(self._iox2.BackpressureStrategy.RetryUntilDelivered)
        return builder.create(), self._events.notifier_builder().create()

    def subscriber(self) -> tuple[Any, Any]:
        return self._samples.subscriber_builder().create(), self._events.listener_builder().create()


def new_node() -> Any:
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Error)
    config = iox2.config.default()
    config.global_cfg.prefix = iox2.FileName.new(PREFIX)
    config.global_cfg.root_path = iox2.Path.new(os.path.join(os.getcwd(), "iox2"))
    return iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)


def samples(subscriber: Any, listener: Any) -> Iterator[Any]:
    """Everything that arrives. An event is taken before the queue is emptied, so that none is slept over.

    Once in some hundred runs a listener is not woken though its queue is full, and its publisher tries again for ever. Therefore it looks
    again after a while, which costs that run a tenth of a second and the others nothing.
    """
    import iceoryx2 as iox2

    again = iox2.Duration.from_millis(100)
    while True:
        while (sample := subscriber.receive()) is not None:
            yield sample
        listener.timed_wait(again)


def connect(line: work.Line, publisher: Any = None, subscriber: Any = None) -> None:
    """A publisher that tries again until a sample is delivered still drops it while the subscriber has not opened its end, which it does
    in `receive`: so all ports exist first, then publishers connect, then subscribers.
    """
    line.ready()
    if publisher is not None:
        publisher.update_connections()
    line.ready()
    if subscriber is not None:
        assert subscriber.receive() is None
    line.ready()


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    edge = Edge(new_node(), job, 0)
    publisher, notifier = edge.publisher()
    memory = ctypes.c_uint8 * job.nbytes
    # The publisher's memory stays where it is, so each of its samples needs an array only once.
    slots: dict[int, np.ndarray] = {}
    source = work.Source(job, line)
    connect(line, publisher=publisher)
    for sequence in source:
        loan = publisher.loan_slice_uninit(job.nbytes)
        pointer = loan.payload_ptr
        slot = slots.get(pointer)
        if slot is None:
            slot = slots[pointer] = np.frombuffer(memory.from_address(pointer), np.uint8)
        source.write(slot, sequence)
        loan.assume_init().send()
        # A system call only if the listener has no event yet that it did not take.
        notifier.notify()
    line.stay()


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies: a sample that was received cannot be published again."""
    node = new_node()
    subscriber, listener = Edge(node, job, index).subscriber()
    publisher, notifier = Edge(node, job, index + 1).publisher()
    connect(line, publisher=publisher, subscriber=subscriber)
    left = job.total
    for sample in samples(subscriber, listener):
        loan = publisher.loan_slice_uninit(job.nbytes)
        ctypes.memmove(loan.payload_ptr, sample.payload_ptr, job.nbytes)
        sample.delete()
        loan.assume_init().send()
        notifier.notify()
        left -= 1
        if not left:
            break
    line.stay()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    subscriber, listener = Edge(new_node(), job, work.upstream(job, "receiver", index)).subscriber()
    memory = ctypes.c_uint8 * job.nbytes
    sink = work.Sink(job, line)
    connect(line, subscriber=subscriber)
    for sample in samples(subscriber, listener):
        last = sink.take(memory.from_address(sample.payload_ptr))
        sample.delete()
        if last:
            break
    sink.done()


def clean() -> None:
    for path in Path("/dev/shm").glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)
    shutil.rmtree("iox2", ignore_errors=True)


PEER = work.Peer("iceoryx2", "iceoryx2", {"sender": send, "hop": forward, "receiver": receive}, rounds=lambda job: 3, clean=clean)

if __name__ == "__main__":
    work.main(__file__, PEER)
