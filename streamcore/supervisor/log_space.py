"""A log file loses its oldest part while others append to it.

The part becomes a hole: the blocks go back to the file system, offsets stay what they were, so that no reader has to learn of it, no byte
that a writer appends meanwhile is lost, and no writer, a child of a node say, has to open anything anew. Readers begin where the data begin
(SEEK_DATA). Rejected: renaming, which writers do not notice, for they have inherited their descriptors; and copying before truncating,
which loses what is written in between. That is left for file systems without holes (NFS before 4.2, FAT), and for a file near the largest
size.
"""

from __future__ import annotations

import ctypes
import errno
import os

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
BLOCK_BYTES = 4096  # a hole of whole blocks leaves nothing of them; larger ones are cleared in part, which costs room and nothing else
SPAN_BYTES_MAX = 1 << 40  # of a file with its hole; ext4 ends at 16 TiB, which 100 MB/s reach in two days

_NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM)


def drop_front(fd: int, first: int, end: int) -> bool:
    """Give back the bytes from `first` up to `end`. False if this file system cannot. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    if libc.fallocate(fd, mode, ctypes.c_int64(first), ctypes.c_int64(end - first)) == 0:
        return True
    error = ctypes.get_errno()
    if error in _NO_HOLES:
        return False
    raise OSError(error, os.strerror(error))


def begin_anew(fd: int, kept_bytes: int) -> None:
    """Empty a file that is only appended to, and put the end of it back, from the beginning of a line. `fd` appends, and reads.

    What others append between the reading and the emptying is lost, what they append before the end is back stands above it.
    Raises OSError.
    """
    size = os.fstat(fd).st_size
    end = os.pread(fd, kept_bytes, max(0, size - kept_bytes))
    end = end[end.find(b"\n") + 1 :]
    os.ftruncate(fd, 0)
    while end:
        end = end[os.write(fd, end) :]
