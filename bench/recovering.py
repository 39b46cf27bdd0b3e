"""The case `recovery`: a run starts on a durable queue with a backlog. How long until the first packet, and how much memory?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamcore import DurableStore
from streamcore_bench import proc
from streamcore_bench.lives import DEADLINE_S, nodes_of, write
from streamcore_bench.points import Found, Options, Point
from streamcore_bench.programs import Failed, Stop, folder, streamctl
from streamcore_bench.results import OURS
from streamcore_bench.storing import EVENT_BYTES, contents_of, disk_parent

NODES = "streamcore_bench.storing_nodes"
BACKLOGS = (1000, 100_000, 1_000_000)
READ = 5000  # packets delivered before memory is looked at
GROUP = 1024
CHECK_S = 600.0  # for reading a file of some GB on a slow disk


def points(options: Options) -> list[Point]:
    measures = ("first_ms", "ready_s", "anon_mib")
    return [Point(f"{count:,} records of 1 KiB", measures, ours=_of_backlog(count)) for count in BACKLOGS]


def _of_backlog(count: int) -> Callable[[Stop, Options], Found]:
    """A backlog is used again until runs have taken half of it."""
    read = min(count, READ)
    kept: list[Any] = []
    taken = count

    def take(stop: Stop, options: Options) -> Found:
        nonlocal taken
        if taken > count // 2:
            kept[:] = [tempfile.TemporaryDirectory(prefix="sb-", dir=disk_parent())]
            taken = 0
            fill(stop, Path(kept[0].name, "queue"), count)
        taken += read
        return recover(stop, Path(kept[0].name, "queue"), read)

    return take


def fill(stop: Stop, queue: Path, count: int) -> None:
    contents, head = contents_of(EVENT_BYTES), DurableStore.Head("event", "source")
    with DurableStore(queue, DurableStore.Options(max_bytes=4 << 30, sync="pipelined")) as store:
        for first in range(0, count, GROUP):
            stop.check()
            numbers = range(first, min(first + GROUP, count))
            store.append([DurableStore.Entry(number.to_bytes(16, "big"), 0, head, contents(number)) for number in numbers])


def recover(stop: Stop, queue: Path, read: int) -> Found:
    """`ready_s`: from the command until the queue is ready, `first_ms` from then until its first packet is at the sink."""
    with folder() as place, streamctl(stop, place, "up", write(place, graph(place, queue, read))) as program:
        ready_ns = int(program.wait_for(place / "ready", CHECK_S))
        first_ns = int(program.wait_for(place / "first", DEADLINE_S))
        program.wait_for(place / "taken", CHECK_S)
        pid = nodes_of(program).get("queue")
        if pid is None:
            raise Failed(f"the queue has ended\n{program.tail()}")
        found = {
            "first_ms": (first_ns - ready_ns) / 1e6,
            "ready_s": (ready_ns - program.began_ns) / 1e9,
            "anon_mib": proc.anonymous_mib(pid),
        }
    return {OURS: found}


def graph(place: Path, queue: Path, read: int) -> dict[str, Any]:
    """The source is silent: what flows is the backlog."""
    return {
        "version": 2,
        "name": "bench",
        "allow": ["streamcore_bench"],
        "drain_s": 0.1,
        "nodes": [
            {"id": "source", "plugin": "streamcore_bench.life_nodes:Silent"},
            {
                "id": "queue",
                "plugin": f"{NODES}:TimedQueue",
                "config": {"path": str(queue), "max_bytes": 4 << 30, "folder": str(place)},
                "startup_s": CHECK_S,
            },
            {"id": "sink", "plugin": f"{NODES}:Take", "config": {"count": max(2, read), "folder": str(place)}},
        ],
        "edges": [{"from": "source", "to": "queue"}, {"from": "queue", "to": "sink", "depth": 256}],
    }
