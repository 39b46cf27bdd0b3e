"""The first and the last line of `streamctl`, and what SIGINT, SIGTERM and SIGHUP do in between.

From the first line on a signal ends the process with 128 + its number, at once and without a word: nothing was made that would have to be
taken back, but for a child that reads plugins, which is killed first. `up` puts handlers of its own in their place (supervisor/loop.py)
before it makes anything; from then on a signal ends the run in order. When that has ended, or a command has done its work, nothing is left
to be ended: signals do nothing any more.

The process is left from within the handler. Rejected: an exception. Python drops it where it cannot be passed on, the callbacks of the
import system among such places, and a plugin that is being imported may catch it; then a run would start although it was told to end.
Rejected: blocking. A mask belongs to a thread, libraries bring threads of their own that would get the signal, and children inherit it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# TERM last: Python catches INT itself but never TERM, so whoever finds that one caught (/proc/PID/status) knows that all are.
CAUGHT = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
BY_SIGNAL = 128  # plus its number: the exit status, as a shell reports a command that a signal ended

_over = False
_at_leave: Callable[[], None] | None = None


def main() -> None:
    """Entry point of the console script and of `python -m streamcore`. It imports nothing heavy before signals are caught."""
    for number in CAUGHT:
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup`
            signal.signal(number, _leave)
    from streamcore.cli.root import run

    status = run()
    over()
    sys.exit(status)


def over() -> None:
    """From now on signals do nothing. Python puts back the default action of those that it handles when it ends, not of ignored ones."""
    global _over
    _over = True
    for number in CAUGHT:
        if signal.getsignal(number) == _leave:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt: for a command of which it is the orderly end."""
    before = signal.getsignal(signal.SIGINT)
    if before == _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if before == _leave:
            signal.signal(signal.SIGINT, _leave)


def first_call(close: Callable[[], None] | None) -> None:
    """Have a signal call `close` before it ends the process: of what was started and is no run yet. None: there is nothing any more."""
    global _at_leave
    _at_leave = close


def _leave(number: int, frame: FrameType | None) -> None:
    if not _over:
        reading = sys.modules.get("streamcore.plugins.reading")
        if reading is not None and hasattr(reading, "abandon"):  # not while it is being imported
            reading.abandon()
        if _at_leave is not None:
            _at_leave()
        os._exit(BY_SIGNAL + number)
