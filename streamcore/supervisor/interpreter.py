"""How a node's interpreter is started, and a process of it by exec."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from streamcore.interpreter import command_of

COMMAND = command_of("streamcore.node")


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
