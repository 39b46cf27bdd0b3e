"""How full the file systems are that a run writes to: told at 80, 90 and 95 %, once each time that a level is reached.

What asks the kernel is a thread of its own: the answer of a network file system whose server is away does not come, and the run must not
wait for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from streamcore.clock import Clock
from streamcore.coordinator.observer import Observer
from streamcore.graph.model import NodePlan
from streamcore.supervisor.budget import human

LEVELS = (80, 90, 95)
BACK_PERCENT = 2  # so far below a level it counts as left: a file that comes and goes makes no news
LOOK_S, IDLE_LOOK_S = 10.0, 60.0  # while packets flow; while none do
SILENT_S = 60.0  # a kernel that has not answered by then waits for a server
SOURCE = "source"


class Room(NamedTuple):
    """One file system, known by `device`; `path` is the first that led to it."""

    device: int
    path: str
    total_bytes: int
    free_bytes: int
    percent: float


Measure = Callable[[], list[Room]]


def folders_of(nodes: Iterable[NodePlan], run_dir: str) -> list[str]:
    """What a run writes to, as far as its plan says: its own directory, and the `path` in the config of whatever has inputs."""
    found = [run_dir]
    for node in nodes:
        path = node.config.get("path")
        if node.role != SOURCE and isinstance(path, str) and path:
            found.append(os.path.abspath(os.path.expanduser(path)))
    return list(dict.fromkeys(found))


def measure(paths: Iterable[str], statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> list[Room]:
    """As `df` counts: what only root may use counts as used."""
    found: dict[int, Room] = {}
    for path in paths:
        here = _existing(path)
        try:
            device, said = os.stat(here).st_dev, statvfs(here)
        except OSError:  # gone meanwhile; the next look will see
            continue
        used, free = (said.f_blocks - said.f_bfree) * said.f_frsize, said.f_bavail * said.f_frsize
        if device not in found and used + free > 0:
            found[device] = Room(device, path, used + free, free, 100 * used / (used + free))
    return list(found.values())


def _existing(path: str) -> str:
    """The part of it that is there: a node makes its folder when it starts."""
    while not os.path.exists(path) and path != (above := os.path.dirname(path)):
        path = above
    return path


class Levels:
    """Pure: holds what was measured against what was told."""

    def __init__(self, observer: Observer):
        self._observer = observer
        self._told: dict[int, int] = {}  # device: the level that was told last, 0 below all

    def note(self, room: Room) -> None:
        before = self._told.get(room.device, 0)
        level = max((level for level in LEVELS if room.percent >= level), default=0)
        if level < before:  # it stays at the highest that it has not left by BACK_PERCENT
            level = max((each for each in LEVELS if each <= before and room.percent > each - BACK_PERCENT), default=0)
        if level == before:
            return
        self._told[room.device] = level
        detail = f"{room.percent:.1f} % of {human(room.total_bytes)} is used, {human(room.free_bytes)} are free"
        if level > before:
            self._observer.disk_filling(room.path, level, detail)
        else:
            self._observer.disk_freed(room.path, min(each for each in LEVELS if each > level), detail)


class DiskWatch:
    """`look` in every round: it begins a measurement when one is due, and tells what the last one has found."""

    def __init__(self, take: Measure, observer: Observer, clock: Clock):
        self._take, self._levels, self._clock = take, Levels(observer), clock
        self._began_ns: int | None = None
        self.thread: threading.Thread | None = None
        self._observer, self._is_said = observer, False
        self._found: list[Room] | None = None

    def look(self, *, busy: bool) -> None:
        if self.thread is not None:
            if self.thread.is_alive():
                self._look_at_silence()
                return
            self.thread, found, self._found = None, self._found or [], None
            for room in found:
                self._levels.note(room)
        now_ns = self._clock.monotonic_ns()
        if self._began_ns is None or now_ns - self._began_ns >= (LOOK_S if busy else IDLE_LOOK_S) * 1e9:
            self._began_ns = now_ns
            self.thread = threading.Thread(target=self._measure, name="disks", daemon=True)
            self.thread.start()

    def _look_at_silence(self) -> None:
        if not self._is_said and self._began_ns is not None and self._clock.monotonic_ns() - self._began_ns > SILENT_S * 1e9:
            self._is_said = True
            self._observer.warning(f"a file system that the run writes to has not answered for {SILENT_S:g} s: it may be full")

    def _measure(self) -> None:
        self._found = self._take()
