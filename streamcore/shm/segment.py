"""Segments: sealed memfds that the coordinator makes and hands to nodes as descriptors. Nothing has a name, so nothing leaks.

`multiprocessing.shared_memory` is not used: its tracker unlinks segments that others still use.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from streamcore.errors import LayoutError

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(label: str, nbytes: int) -> int:
    """A zeroed segment of exactly `nbytes`, sparse, as a read-write descriptor with CLOEXEC, mode 0600.

    Sealed against shrinking, which would kill its readers by SIGBUS, and against growing. `label` shows in /proc/PID/maps.

    Raises:
      OSError: the box has no descriptors or no memory for it.
    """
    fd = os.memfd_create(f"streamcore:{label}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)  # a memfd is 0777 by default, and other users could open it through /proc
        os.ftruncate(fd, nbytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def reopen_readonly(fd: int) -> int:
    """A second descriptor of the same segment that can only be mapped for reading."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def allocated_bytes(fd: int) -> int:
    """Physical memory behind the segment: pages that were touched, not its size."""
    return os.fstat(fd).st_blocks * 512


def attach(fd: int, nbytes: int, *, writable: bool, what: str) -> mmap.mmap:
    """Map a segment that must be `nbytes` long and sealed against shrinking.

    Raises:
      LayoutError: it has another size, or could be truncated under the mapping.
    """
    found = os.fstat(fd).st_size
    if found != nbytes:
        raise LayoutError(f"segment {what}: found {found} bytes, expected {nbytes}")
    if not _seals(fd) & fcntl.F_SEAL_SHRINK:
        raise LayoutError(f"segment {what}: found no seal against shrinking, expected F_SEAL_SHRINK")
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED, prot=access)


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # EINVAL: no memfd at all
        return 0


def keep_from_children(fds: list[int]) -> None:
    """Set CLOEXEC on inherited descriptors: an ffmpeg child would otherwise keep every ring alive."""
    for fd in fds:
        os.set_inheritable(fd, False)
