"""The one thing the standard library has no call for: to be the process that orphaned grandchildren are handed to."""

from __future__ import annotations

import ctypes
import os

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def set_subreaper(on: bool) -> bool:
    """Become (or cease to be) the new parent of descendants whose own parent dies. Returns what was set before."""
    libc, before = _libc(), ctypes.c_int(0)
    for call in ((PR_GET_CHILD_SUBREAPER, ctypes.byref(before)), (PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on))):
        if libc.prctl(*call, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"prctl({call[0]}): {os.strerror(error)}")
    return bool(before.value)
