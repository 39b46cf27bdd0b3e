"""The whole of a terminal, lent to one command: keys as they are pressed, a page drawn in place, and everything as before at the end.

It is given back on every way out: an exception, Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, and for as long as Ctrl-Z stops us. The screen that was
there comes back with it: ours is the alternate one. Signals are noted and wake `wait`; what they mean is for the caller.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

# Alternate screen, no cursor, no wrapping at the right edge.
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J", b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
HOLD, RELEASE = "\x1b[?2026h", "\x1b[?2026l"  # a terminal that knows these shows the changes between them at once
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
NOTED = (*ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
READ_BYTES = 1024
ESC_S = 0.05  # what follows Esc within this time is a key with a name, such as an arrow; over a slow line it takes a moment

_NAMED = {
    **{f"\x1b{middle}{last}": name for middle in "[O" for last, name in zip("ABHF", ("up", "down", "home", "end"), strict=True)},
    **{"\x1b[5~": "pgup", "\x1b[6~": "pgdn", "\x1b[1~": "home", "\x1b[7~": "home", "\x1b[4~": "end", "\x1b[8~": "end"},
    **{"\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"},
}


def keys_of(typed: str, *, complete: bool) -> tuple[list[str], str]:
    """Keys by their characters, or their names; and what is the beginning of one. `complete`: nothing follows, so Esc is a key itself."""
    keys = []
    while typed:
        length = _length(typed, complete)
        if not length:
            break
        key, typed = typed[:length], typed[length:]
        name = _NAMED.get(key, "esc" if key == "\x1b" else key)
        if len(name) == 1 or not name.startswith("\x1b"):  # a key that nobody here knows is none
            keys.append(name)
    return keys, typed


def _length(typed: str, complete: bool) -> int:
    """Of the first key; 0 if more may follow. A sequence is Esc, [ or O, numbers, and a letter or ~."""
    if typed[0] != "\x1b":
        return 1
    if len(typed) == 1:
        return 1 if complete else 0
    if typed[1] == "O":
        return 3 if len(typed) > 2 else 2 if complete else 0
    if typed[1] != "[":
        return 1
    for at, character in enumerate(typed[2:], 3):
        if "@" <= character <= "~":
            return at
    return len(typed) if complete else 0


class Terminal:
    """Use as a context manager, in the main thread. `ended_by`: the signal that asks us to end; SIGHUP also if the terminal is gone."""

    def __init__(self, keys_fd: int, page_fd: int):
        self.ended_by: signal.Signals | None = None
        self._keys_fd, self._page_fd = keys_fd, page_fd
        self._before: list[Any] | None = None  # attributes of the terminal while it is ours
        self._handlers: dict[signal.Signals, Any] = {}
        self._stop = self._continued = self._resized = False
        self._lines: list[str] = []  # as they stand on the screen
        self._typed = ""

    def __enter__(self) -> Terminal:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in NOTED:  # before the terminal is changed, so that no signal can end us in between
            if signal.getsignal(number) != signal.SIG_IGN:  # `nohup`
                self._handlers[number] = signal.signal(number, self._note)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        ends, self._wake_read, self._wake_write = (self._wake_read, self._wake_write), -1, -1  # a late `wake` writes into nothing
        for fd in ends:
            os.close(fd)

    def wake(self) -> None:
        """Let `wait` return. From any thread, also when the terminal has been given back."""
        with suppress(OSError):
            os.write(self._wake_write, b"\0")

    @property
    def is_blank(self) -> bool:
        """Nothing of ours stands on it: it was given back meanwhile, or has another size."""
        return not self._lines

    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 and 24 of a terminal that does not know."""
        try:
            columns, lines = os.get_terminal_size(self._page_fd)
        except OSError:
            columns = lines = 0
        return columns or 80, lines or 24

    def show(self, lines: Sequence[str]) -> None:
        """Draw what has changed since the last time. Lines may have styles; they are as wide as the terminal: none has to be erased."""
        changes = [
            f"\x1b[{number};1H{line}\x1b[0m"
            for number, line in enumerate(lines, 1)
            if number > len(self._lines) or self._lines[number - 1] != line
        ]
        if len(lines) < len(self._lines):
            changes.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        if changes:
            self._write("".join((HOLD, *changes, RELEASE)).encode("utf-8", "replace"))
        self._lines = list(lines)

    def wait(self, seconds: float) -> list[str]:
        """Sleep until a key, a signal, `wake`, or for so long. The keys that were pressed."""
        ready, _, _ = select.select([self._keys_fd, self._wake_read], [], [], max(0.0, seconds))
        if self._wake_read in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, READ_BYTES)
        keys = self._read_keys() if self._keys_fd in ready else []
        if self._stop:
            self._sleep_in_the_background()
        if self._continued:
            self._continued = False
            self._take()
        if self._resized:
            self._resized, self._lines = False, []
            self._write(b"\x1b[2J")
        return keys

    def _read_keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            try:
                raw = os.read(self._keys_fd, READ_BYTES)
            except OSError:
                raw = b""
            if not raw:
                self.ended_by = self.ended_by or signal.SIGHUP
                return keys
            found, self._typed = keys_of(self._typed + raw.decode("utf-8", "ignore"), complete=False)
            keys += found
            if not self._typed or not select.select([self._keys_fd], [], [], ESC_S)[0]:
                found, self._typed = keys_of(self._typed, complete=True)
                return keys + found

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._stop = True
        elif number == signal.SIGCONT:
            self._continued = True
        elif number == signal.SIGWINCH:
            self._resized = True
        else:
            self.ended_by = signal.Signals(number)

    def _sleep_in_the_background(self) -> None:
        self._stop = False
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when somebody lets us go on
        signal.signal(signal.SIGTSTP, handler)
        self._continued = True

    def _take(self) -> None:
        try:
            before = termios.tcgetattr(self._keys_fd) if self._before is None else self._before
            ours = list(before)
            ours[3] &= ~(termios.ICANON | termios.ECHO)
            self._before, self._lines = before, []
            termios.tcsetattr(self._keys_fd, termios.TCSANOW, ours)
        except termios.error:  # the terminal was closed
            self.ended_by = self.ended_by or signal.SIGHUP
        self._write(ENTER)

    def _give_back(self) -> None:
        before, self._before = self._before, None
        if before is None:
            return
        # In the background the terminal is another's, and to change it would stop us.
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._keys_fd) == os.getpgrp():
                os.write(self._page_fd, LEAVE)
                termios.tcsetattr(self._keys_fd, termios.TCSANOW, before)

    def _write(self, raw: bytes) -> None:
        try:
            while raw:
                raw = raw[os.write(self._page_fd, raw) :]
        except OSError:  # the terminal was closed
            self.ended_by = self.ended_by or signal.SIGHUP
