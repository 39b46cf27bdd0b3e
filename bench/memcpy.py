"""The limit: one thread copies a frame into two rotating slots of shared memory. No transport that writes each frame can beat it."""

from __future__ import annotations

import mmap
import os
import time

import numpy as np

from streamcore_bench.programs import Stop

CHECK_EVERY = 64


class Limit:
    """Two slots, touched once, and a picture."""

    def __init__(self, nbytes: int) -> None:
        self._picture = np.random.default_rng(1).integers(0, 256, nbytes, np.uint8)
        self._slots = [np.frombuffer(_shared(nbytes), np.uint8) for _ in range(2)]
        for slot in self._slots:
            np.copyto(slot, self._picture)

    def rate(self, stop: Stop, seconds: float) -> float:
        """Copies per second."""
        count, began_ns = 0, time.monotonic_ns()
        end_ns = began_ns + round(seconds * 1e9)
        while (now_ns := time.monotonic_ns()) < end_ns:
            if not count % CHECK_EVERY:
                stop.check()
            np.copyto(self._slots[count % 2], self._picture)
            count += 1
        return count / ((now_ns - began_ns) / 1e9)


def _shared(nbytes: int) -> mmap.mmap:
    fd = os.memfd_create("streamcore-bench")
    try:
        os.ftruncate(fd, nbytes)
        return mmap.mmap(fd, nbytes)
    finally:
        os.close(fd)
