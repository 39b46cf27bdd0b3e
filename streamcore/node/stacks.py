"""Python stacks of a live node, asked for from outside: SIGUSR1 writes those of all threads into a small memory file of the node.

faulthandler writes them inside the C signal handler, so it works while Python code spins and while native code keeps the GIL. The file
has no name: who may read the process' descriptors (the same user) finds it in /proc/PID/fd under FILE_NAME, and it is gone with the
process. The asker empties it, sends the signal and reads; the text is complete when it has stopped growing.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal

SIGNAL = signal.SIGUSR1
FILE_NAME = "streamcore:stacks"


def register() -> None:
    """Answer SIGNAL from now on. Call it early: before, the signal would end the process (an asker looks first whether it is caught)."""
    fd = os.memfd_create(FILE_NAME, os.MFD_CLOEXEC)
    os.fchmod(fd, 0o600)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)  # or a second answer would begin where the first, emptied, had ended
    faulthandler.register(SIGNAL, file=fd, all_threads=True)
