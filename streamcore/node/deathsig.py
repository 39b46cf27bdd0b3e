"""To die with the coordinator: the kernel kills this process when its parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(coordinator_pid: int) -> None:
    """Ask for it, and look whether it has happened already. The parent's main thread is what counts. A fork forgets it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != coordinator_pid:
        os._exit(1)
