"""The words and the environment of this process as the kernel shows them (/proc/PID/cmdline, environ), written anew in place.

exec lays both out on the stack, back to back. A process may write there, and whoever looks reads what stands there now:

    arg_start  word NUL word NUL ...  arg_end = env_start  NAME=value NUL ...  env_end

Neither can grow, so who is to take longer ones later is started with room for them: a last word and a variable of blanks. What is left
over is filled with NUL. The byte before arg_end is NUL at every moment: were it not, the kernel would take what follows for a part of the
command line, which everybody may read, and there stands the environment, which only the owner may.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_ARG_START = 48  # field of /proc/PID/stat, counted from 1; then arg_end, env_start, env_end


def replace(words: Sequence[str], environ: Mapping[bytes, bytes]) -> None:
    """Take `words` for the last ones of this command line, and `environ` for the environment, also that of os.environ and of libc.

    Single thread only. Raises OSError if there is not the room, and nothing has changed then; or if the kernel shows something else.
    """
    all_words = [*sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])], *words]
    arg_start, arg_end, env_start, env_end = _bounds()
    cmdline = _filled(list(map(os.fsencode, all_words)), arg_end - arg_start, "command line")
    environment = _filled([name + b"=" + value for name, value in environ.items()], env_end - env_start, "environment")

    # libc's own table points into the old text. Set anew, every variable has memory of its own.
    os.environ.clear()
    ctypes.CDLL(None).clearenv()
    os.environb.update(environ)
    ctypes.memmove(arg_start, cmdline, len(cmdline))
    ctypes.memmove(env_start, environment, len(environment))
    sys.argv[1:], sys.orig_argv[:] = words, all_words
    for name, written in (("cmdline", cmdline), ("environ", environment)):
        if Path("/proc/self", name).read_bytes() != written:
            raise OSError(errno.EIO, f"/proc/self/{name} does not show what was written")


def _bounds() -> tuple[int, int, int, int]:
    fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()  # the 2nd, the name, may hold anything
    arg_start, arg_end, env_start, env_end = map(int, fields[_ARG_START - 3 : _ARG_START + 1])
    return arg_start, arg_end, env_start, env_end


def _filled(texts: Sequence[bytes], room: int, what: str) -> bytes:
    raw = b"".join(text + b"\0" for text in texts)
    if len(raw) > room:
        raise OSError(errno.E2BIG, f"the {what} has {len(raw)} bytes, and room for {room}")
    return raw.ljust(room, b"\0")
