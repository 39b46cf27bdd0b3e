"""A terminal for tests: a pty with a program on it, and what its screen shows. It knows what `streamctl` sends, and refuses the rest."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 60.0
TOKEN = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|([\r\n\b\x07\x0f])|([^\x00-\x1f\x7f])", re.DOTALL)

WHOLE = re.compile(rb"(?:\x1b\[\??[\d;]*[A-Za-z]|[\x00-\x1a\x1c-\x7f]|[\xc0-\xdf].|[\xe0-\xef]..|[\xf0-\xff]...)*", re.DOTALL)


class Screen:
    """Cells of the alternate screen and of the main one. Without wrapping a line that is too long shows its end in the last column."""

    def __init__(self, columns: int, lines: int):
        self.styles: set[int] = set()  # numbers of all that were asked for
        self.alternate, self.shows_cursor, self.wraps, self.overflows = False, True, True, 0
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self._cells = {kind: [[" "] * columns for _ in range(lines)] for kind in (False, True)}
        self._row = self._column = 0

    @property
    def rows(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells[self.alternate]]

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            token = TOKEN.match(text, at)
            assert token, f"the screen does not know {text[at : at + 20]!r}"
            at = token.end()
            private, numbers, letter, control, character = token.groups()
            if letter:
                self._sequence(private, [int(number or 0) for number in numbers.split(";")], letter)
            elif control:
                self._control(control)
            else:
                self._put(character)

    def _sequence(self, private: str, numbers: list[int], letter: str) -> None:
        if private:
            on, switches = letter == "h", {1049: "alternate", 25: "shows_cursor", 7: "wraps"}
            assert letter in "hl", f"unknown ?{numbers}{letter}"
            for number in numbers:
                if number in switches:
                    setattr(self, switches[number], on)
        elif letter == "H":
            self._row, self._column = (max(1, number) - 1 for number in [*numbers, 1][:2])
        elif letter == "J" and numbers == [2]:
            self._cells[self.alternate] = [[" "] * self.columns for _ in range(self.lines)]
        elif letter in "JK":
            self._cells[self.alternate][self._row][self._column :] = [" "] * (self.columns - self._column)
            if letter == "J":
                for row in self._cells[self.alternate][self._row + 1 :]:
                    row[:] = [" "] * self.columns
        else:
            assert letter == "m", f"the screen does not know {numbers}{letter}"
            self.styles |= set(numbers)

    def _control(self, control: str) -> None:
        if control == "\n" and self._row == self.lines - 1:
            self._cells[self.alternate] = [*self._cells[self.alternate][1:], [" "] * self.columns]
        elif control == "\n":
            self._row += 1
        elif control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(0, self._column - 1)

    def _put(self, character: str) -> None:
        if self._column >= self.columns:
            self.overflows += self.alternate
            if self.wraps:
                self._control("\n")
            self._column = 0 if self.wraps else self.columns - 1
        self._cells[self.alternate][min(self._row, self.lines - 1)][self._column] = character
        self._column += 1


class Tty:
    """A program whose controlling terminal is a pty of this size. Use as a context manager."""

    def __init__(self, command: list[str], env: dict[str, str], columns: int = 80, lines: int = 24):
        self.screen, self._raw = Screen(columns, lines), b""
        self.master, self.slave = pty.openpty()  # the slave stays open: what is left of the terminal can be looked at after the end
        self._set_size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**env, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Tty:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(columns, lines)
        self._set_size(columns, lines)
        os.kill(self.process.pid, signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def until(self, what: str, true: Callable[[list[str]], Any]) -> Any:
        """Show what comes until it is so; fails with the screen."""
        end = time.monotonic() + DEADLINE_S
        while True:
            if value := true(self.screen.rows):
                return value
            assert time.monotonic() < end, f"waited {DEADLINE_S} s for: {what}\n" + "\n".join(self.screen.rows)
            self._read(0.1)

    def until_shown(self, text: str) -> list[str]:
        self.until(f"{text!r} on the screen", lambda rows: any(text in row for row in rows))
        return self.screen.rows

    def end(self) -> int:
        """Wait for the program to end. Its exit status; what it wrote last is on the screen."""
        end = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, "the program did not end\n" + "\n".join(self.screen.rows)
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.returncode

    def is_as_before(self) -> bool:
        """The terminal as the program found it: attributes, main screen, cursor, wrapping."""
        attributes = termios.tcgetattr(self.slave)
        return attributes == self.before and not self.screen.alternate and self.screen.shows_cursor and self.screen.wraps

    def hang_up(self) -> None:
        for fd in (self.slave, self.master):
            os.close(fd)
        self.master = self.slave = -1

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self._raw += os.read(self.master, 65536)
        # What is not whole yet, a sequence or a character of several bytes, waits for the rest.
        whole = re.match(
            rb"(?:\x1b\[\??[\d;]*[A-Za-z]|[\x00-\x1a\x1c-\x7f]|[\xc0-\xdf].|[\xe0-\xef]..|[\xf0-\xff]...)*", self._raw, re.DOTALL
        )
        assert whole
        self.screen.feed(self._raw[: whole.end()].decode())
        self._raw = self._raw[whole.end() :]
        return True
