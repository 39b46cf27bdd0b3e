"""GStreamer: appsrc to shmsink in the sender, shmsrc to appsink in the receivers, by the system's Python bindings.

Nothing is lost: shmsink waits for memory that all clients have given back, appsink holds up shmsrc.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work

SYSTEM_PACKAGES = "/usr/lib/python3/dist-packages"
MISSING = "GStreamer is not installed: it needs python3-gst-1.0, gstreamer1.0-plugins-base and gstreamer1.0-plugins-bad of this Python"
CAPS = "application/octet-stream"


def load() -> Any:
    """The Gst module with all elements that are needed; an environment of its own does not see the system's packages by itself."""
    if SYSTEM_PACKAGES not in sys.path:
        sys.path.append(SYSTEM_PACKAGES)
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import Gst, GstApp
    except (ImportError, ValueError):
        work.cannot(MISSING)
    del GstApp  # loaded for the methods of appsrc and appsink
    Gst.init(None)
    writable = hasattr(Gst, "MapInfo") and hasattr(Gst.MapInfo, "__enter__")  # of python3-gst-1.0
    if not writable or not all(Gst.ElementFactory.find(name) for name in ("appsrc", "appsink", "shmsrc", "shmsink")):
        work.cannot(MISSING)
    return Gst


class Pipeline:
    """A running pipeline; one that ends in shmsink knows how many clients have come."""

    def __init__(self, gst: Any, text: str) -> None:
        self.gst = gst
        self._pipeline = gst.parse_launch(text)
        self.application = self._pipeline.get_by_name("application")
        self.shmsink = self._pipeline.get_by_name("shmsink")
        self._clients = threading.Semaphore(0)
        if self.shmsink is not None:
            self.shmsink.connect("client-connected", lambda *_: self._clients.release())
        if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            raise RuntimeError(f"cannot start: {text}")

    def await_clients(self, number: int) -> None:
        for _ in range(number):
            self._clients.acquire()

    def end(self) -> None:
        self._pipeline.set_state(self.gst.State.NULL)


def shmsink(job: work.Job, number: int) -> str:
    # Room for what waits before the sink, and behind it in the receivers.
    nbytes = (2 * job.depth + 4) * (job.nbytes + 4096)
    options = "wait-for-connection=false sync=false async=false"
    return f"shmsink name=shmsink socket-path=edge{number}.sock shm-size={nbytes} {options}"


def send(job: work.Job, line: work.Line, index: int) -> None:
    del index
    gst = load()
    source_text = f"appsrc name=application caps={CAPS} format=bytes block=true max-bytes={job.depth * job.nbytes}"
    pipeline = Pipeline(gst, f"{source_text} ! {shmsink(job, 0)}")
    # Buffers in the memory of shmsink, so that it need not copy them; without them, when that is full, it copies and waits.
    query = gst.Query.new_allocation(gst.Caps.from_string(CAPS), True)
    pipeline.shmsink.get_static_pad("sink").query(query)
    allocator, parameters = query.parse_nth_allocation_param(0)
    source = work.Source(job, line)
    for _ in range(job.hops + 1):
        line.ready()
    pipeline.await_clients(1 if job.hops else job.receivers)
    line.ready()
    push = pipeline.application.push_buffer
    for sequence in source:
        buffer = gst.Buffer.new_allocate(allocator, job.nbytes, parameters) or gst.Buffer.new_allocate(None, job.nbytes, None)
        with buffer.map(gst.MapFlags.WRITE) as mapped:
            slot = np.frombuffer(mapped.data, np.uint8)
            source.write(slot, sequence)
            del slot
        push(buffer)
    line.stay()
    pipeline.end()


def forward(job: work.Job, line: work.Line, index: int) -> None:
    """Copies: shmsink takes only memory of its own. No Python in the way."""
    for _ in range(index + 1):
        line.ready()
    pipeline = Pipeline(load(), f"shmsrc socket-path=edge{index}.sock ! {shmsink(job, index + 1)}")
    for _ in range(job.hops - index):
        line.ready()
    pipeline.await_clients(job.receivers if index + 1 == job.hops else 1)
    line.ready()
    line.stay()
    pipeline.end()


def receive(job: work.Job, line: work.Line, index: int) -> None:
    gst = load()
    for _ in range(job.hops + 1):
        line.ready()
    sink_text = f"appsink name=application sync=false drop=false max-buffers={job.depth} enable-last-sample=false"
    pipeline = Pipeline(gst, f"shmsrc socket-path=edge{job.hops}.sock ! {sink_text}")
    sink = work.Sink(job, line)
    line.ready()
    pull = pipeline.application.pull_sample
    last = False
    while not last:
        with pull().get_buffer().map(gst.MapFlags.READ) as mapped:
            last = sink.take(mapped.data)
    sink.done()
    pipeline.end()


def version() -> str:
    major, minor, micro, _ = load().version()
    return f"{major}.{minor}.{micro}"


PEER = work.Peer("gstreamer", version, {"sender": send, "hop": forward, "receiver": receive}, rounds=lambda job: job.hops + 2)

if __name__ == "__main__":
    work.main(__file__, PEER)
