"""`--detach`: a run in the background. The starter waits until the run is up or has failed, and learns which over a pipe.

The background process is the same command executed afresh in a new session; nothing is forked, so nothing half-initialised lives on.
A signal to the starter while it waits is passed on: who interrupts `up --detach` does not want the run, and does not get it.
SYNC: spawn_detached() reads what announce() writes: one JSON list [status, text].
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence

import msgspec

from streamcore.supervisor.logtail import last_lines
from streamcore.supervisor.loop import STOP_SIGNALS, Signals

VARIABLE = "STREAMCORE_ANNOUNCE_FD"
ANNOUNCEMENT_BYTES_MAX = 1 << 20  # every problem of a spec may be in it
LOG_LINES = 20

_decoder = msgspec.json.Decoder(tuple[int, str])


def spawn_detached(argv: Sequence[str], log_path: str) -> tuple[int, str]:
    """Run `argv` in a session of its own with its output in `log_path`, and wait until it announces something or ends.

    Main thread only: it watches for signals meanwhile.

    Returns:
      (status, text) as announced; if it ended without a word, its exit code (1 for a signal) and the end of its log; if a signal came
      to this process, 128 + its number, once the background process has ended.
    Raises:
      OSError: the log cannot be opened, or the box has no process left.
    """
    signals = Signals(STOP_SIGNALS)  # before there is a process that would be left behind
    try:
        reader, writer = os.pipe()
        try:
            process = _spawn(argv, log_path, writer)
            raw, interrupted_by = _hear(reader, signals, process)
        finally:
            os.close(reader)
    finally:
        signals.close()
    if interrupted_by:
        process.wait()
        return 128 + interrupted_by, f"interrupted by {signal.Signals(interrupted_by).name}; the run in the background has ended"
    if raw:
        process.returncode = 0  # from here on it belongs to init, not to this object
        return _decoder.decode(raw)
    status = process.wait()
    return (status if status > 0 else 1), "\n".join(last_lines(log_path, LOG_LINES)) or f"{argv[0]} ended with {status} and said nothing"


def _spawn(argv: Sequence[str], log_path: str, writer: int) -> subprocess.Popen[bytes]:
    """Closes `writer`."""
    try:
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(writer,),
                start_new_session=True,
                env={**os.environ, VARIABLE: str(writer)},
            )
        finally:
            os.close(log_fd)
    finally:
        os.close(writer)


def _hear(reader: int, signals: Signals, process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    """What it announced, b"" if it ended without; and the signal that came meanwhile, 0 if none did. Each one is passed on."""
    raw, interrupted_by = b"", 0
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(signals.fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == signals.fd:
                for number in signals.read():
                    interrupted_by = interrupted_by or number
                    process.terminate()
            else:
                news = os.read(reader, ANNOUNCEMENT_BYTES_MAX)
                raw += news
                if not news or len(raw) > ANNOUNCEMENT_BYTES_MAX:
                    return raw, interrupted_by


class Announcer:
    """The background side. Make it first thing: it takes the descriptor out of the environment, so that no child inherits it."""

    def __init__(self) -> None:
        self._fd = int(os.environ.pop(VARIABLE, "-1"))
        if self._fd >= 0:
            os.set_inheritable(self._fd, False)

    @property
    def detached(self) -> bool:
        return self._fd >= 0

    def announce(self, status: int, text: str) -> None:
        """Tell the starter; the first call counts. Nothing happens in a process that was not detached, or whose starter was killed."""
        if self._fd < 0:
            return
        try:
            with open(self._fd, "wb") as pipe:
                pipe.write(msgspec.json.encode((status, text)))
        except BrokenPipeError:
            pass
        self._fd = -1
