"""Fresh interpreters that run a module of streamcore, and that die with whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DROP_CWD = "import sys; del sys.path[0]; import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys=True)"


def command_of(module: str) -> tuple[str, ...]:
    """The words that run a module. All start with the same path of modules, so a node finds what was read of its plugin.

    Not `-m` alone: it puts the working directory first, where a file named numpy.py would take the place of the real one.
    """
    return (sys.executable, *(("-P", "-m", module) if sys.version_info >= (3, 11) else ("-c", _DROP_CWD.format(module))))


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent is gone, and look whether that has happened already.

    The parent's main thread is what counts. A fork forgets it.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
