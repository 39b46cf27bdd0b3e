"""Keeps the logs of a run within their bound, and says once that one of them cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterable

from streamcore import limits
from streamcore.clock import Clock
from streamcore.control.rundir import COORDINATOR_LOG, RunDir
from streamcore.coordinator.observer import Observer
from streamcore.coordinator.rounds import IDLE_ROUND_S
from streamcore.supervisor import log_space
from streamcore.supervisor.loop import Loop

STEP_BYTES = limits.LOG_BYTES // 4  # what a log may grow by between two looks; it is trimmed when it has no room for that
SOON_S = 0.05  # the shortest time between two looks: holds the bound up to 80 MB/s
DROPPED_BYTES_MAX = 128 * limits.MIB  # in one look, of all logs: to free 1 MiB takes 0.1 ms on a disk, 0.2 ms in memory


class LogWatch:
    """`look` once per round; it looks again by itself while a log grows fast. Sizes are read, not files.

    `warnings` is given what is said, for the report.
    """

    def __init__(self, run_dir: RunDir, nodes: Iterable[str], loop: Loop, clock: Clock, observer: Observer, warnings: list[str]):
        self._run_dir, self._loop, self._clock, self._observer = run_dir, loop, clock, observer
        self._sizes = dict.fromkeys([*nodes, COORDINATOR_LOG.removesuffix(".log")], 0)
        self._dropped = dict.fromkeys(self._sizes, 0)
        self._looked_ns, self._soon = clock.monotonic_ns(), False
        self._said_lost = self._said_untrimmed = False
        self._warnings = warnings

    def look(self) -> None:
        now_ns, growth, left = self._clock.monotonic_ns(), 0, DROPPED_BYTES_MAX
        for node, before in self._sizes.items():
            size = self._sizes[node] = self._run_dir.log_bytes(node)
            growth = max(growth, size - before)
            if size < self._dropped[node]:  # somebody has emptied it
                self._dropped[node] = 0
            if size - self._dropped[node] > limits.LOG_BYTES - STEP_BYTES and left:
                left -= self._trim(node, size, left)
        passed_s, self._looked_ns = (now_ns - self._looked_ns) / 1e9, now_ns
        soon_s = (STEP_BYTES * passed_s / growth if growth > 0 else IDLE_ROUND_S) if left else SOON_S
        if soon_s < IDLE_ROUND_S and not self._soon:
            self._soon = True
            self._loop.after(max(SOON_S, soon_s), self._look_again)

    def _look_again(self) -> None:
        self._soon = False
        self.look()

    def _trim(self, node: str, size: int, bytes_max: int) -> int:
        """How much was given back."""
        first = self._dropped[node]
        end = min(size - limits.LOG_KEPT_BYTES, first + bytes_max) // log_space.BLOCK_BYTES * log_space.BLOCK_BYTES
        try:
            fd = self._run_dir.open_log(node, os.O_RDWR | os.O_APPEND)
            try:
                if size < log_space.SPAN_BYTES_MAX and log_space.drop_front(fd, first, end):
                    self._dropped[node] = end
                else:
                    log_space.begin_anew(fd, STEP_BYTES)
                    self._dropped[node] = 0
            finally:
                os.close(fd)
        except OSError as error:
            if not self._said_untrimmed:
                self._said_untrimmed = True
                self._warn(f"the log of '{node}' cannot be kept within its bound: {error.strerror}; {self._run_dir.log_path(node)}")
        return end - first

    def lost(self, node: str, why: str) -> None:
        """A node says that its log cannot be written. One warning for all: the disk is the same."""
        if not self._said_lost:
            self._said_lost = True
            self._warn(f"the log of '{node}' cannot be written: {why}; the run goes on, what its nodes print meanwhile is lost")

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._observer.warning(text)
