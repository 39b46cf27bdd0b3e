"""How a node's interpreter is started, and a process of it by exec."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

# Not `-m` alone: it puts the working directory first, where a file named numpy.py would take the place of the real one.
_DROP_CWD = "import sys; del sys.path[0]; import runpy; runpy.run_module('streamcore.node', run_name='__main__', alter_sys=True)"
COMMAND = (sys.executable, *(("-P", "-m", "streamcore.node") if sys.version_info >= (3, 11) else ("-c", _DROP_CWD)))


def execute(words: Sequence[str], fds: Sequence[int], output_fd: int, environ: Mapping[str, str]) -> tuple[int, int]:
    """Start a process in a session of its own that inherits `fds` under their numbers. It is the caller's to reap, by its group.

    Returns:
      (pid, pidfd)
    Raises:
      OSError: the box refused (EAGAIN, ENOMEM, EMFILE), or there is no such program.
    """
    popen = subprocess.Popen(
        list(words), pass_fds=fds, stdin=subprocess.DEVNULL, stdout=output_fd, stderr=output_fd, start_new_session=True, env=environ
    )
    try:
        pidfd = os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
    popen.returncode = 0  # from here on it belongs to the caller, not to this object
    return popen.pid, pidfd
