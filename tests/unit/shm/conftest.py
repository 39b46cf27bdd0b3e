"""Rings and status pages to test with: on real segments where descriptors matter, on plain memory elsewhere."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from streamcore.shm import segment
from streamcore.shm.ring import RingReader, RingWriter, clear_table, format_ring, geometry, ring_bytes
from streamcore.shm.status import format_status, status_bytes

RUN_ID = "0123456789abcdef" * 2


@dataclass(frozen=True)
class Shape:
    """A ring as a plan describes it, small enough to see through."""

    id: int = 7
    port: str = "camera.out"
    entry_count: int = 4
    meta_bytes: int = 256
    slot_count: int = 3
    slot_bytes: int = 8192

    def but(self, **changes: object) -> Shape:
        return replace(self, **changes)  # type: ignore[arg-type]


@pytest.fixture
def shape() -> Shape:
    return Shape()


@pytest.fixture
def open_fds() -> Iterator[list[int]]:
    """Descriptors put in here are closed after the test."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def make_segment(open_fds: list[int]) -> Callable[[int], int]:
    def make(nbytes: int) -> int:
        fd = segment.create("test", nbytes)
        open_fds.append(fd)
        return fd

    return make


@pytest.fixture
def make_ring(make_segment: Callable[[int], int]) -> Callable[[Shape], int]:
    """A formatted ring as the coordinator makes it; gives the read-write descriptor."""

    def make(shape: Shape) -> int:
        fd = make_segment(ring_bytes(shape))
        format_ring(fd, shape, RUN_ID)
        return fd

    return make


@pytest.fixture
def make_page(make_segment: Callable[[int], int]) -> Callable[..., int]:
    def make(*edges: int) -> int:
        rows = [(edge, 0) for edge in edges]
        fd = make_segment(status_bytes(rows))
        format_status(fd, rows)
        return fd

    return make


@pytest.fixture
def plain(shape: Shape) -> mmap.mmap:
    """Memory of a ring in this process alone."""
    memory = mmap.mmap(-1, ring_bytes(shape))
    clear_table(memory, geometry(shape))
    return memory


@pytest.fixture
def writer(plain: mmap.mmap, shape: Shape) -> RingWriter:
    return RingWriter(plain, shape)


@pytest.fixture
def reader(plain: mmap.mmap, shape: Shape) -> RingReader:
    return RingReader(plain, shape)
