"""What /proc shows of a process after it has taken other words and another environment."""

from __future__ import annotations

import os
import subprocess
import sys

ROOM = " " * 400
BEGIN = """
import os, sys
from pathlib import Path
from streamcore.node import arguments
def shown(name):
    return Path("/proc/self", name).read_bytes().rstrip(bytes(1)).split(bytes(1))
"""


def run(code: str, *words: str) -> str:
    environ = {"PATH": os.environ["PATH"], "SECRET": "s3cret", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ROOM": ROOM}
    done = subprocess.run([sys.executable, "-c", BEGIN + code, *words], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_and_environment_read_as_if_it_had_been_started_with_them():
    code = """
arguments.replace(("run/a", "7"), {b"SECRET": b"other", b"EMPTY": b"", b"\\xff": b"\\xfe"})
assert sys.argv == ["-c", "run/a", "7"], sys.argv
assert shown("cmdline") == [os.fsencode(word) for word in sys.orig_argv] and sys.orig_argv[-2:] == ["run/a", "7"]
assert shown("environ") == [b"SECRET=other", b"EMPTY=", b"\\xff=\\xfe"]
assert os.environb == {b"SECRET": b"other", b"EMPTY": b"", b"\\xff": b"\\xfe"}
import ctypes
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
assert (libc.getenv(b"SECRET"), libc.getenv(b"PATH")) == (b"other", None)
"""
    run(code, "first", ROOM)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    code = """
for words, environ in ((("x" * 1000,), {}), ((), {b"X": b"x" * 10_000})):
    before = [sys.argv[:], dict(os.environ), shown("cmdline"), shown("environ")]
    try:
        arguments.replace(words, environ)
    except OSError as error:
        print(error.strerror.split(" has ")[0])
    assert before == [sys.argv[:], dict(os.environ), shown("cmdline"), shown("environ")]
"""
    assert run(code, "first", ROOM).splitlines() == ["the command line", "the environment"]


def test_the_command_line_never_shows_the_environment():
    # Everybody may read the one, only the owner the other; the kernel tells them apart by the last byte of the words.
    code = """
environ = {name: value for name, value in os.environb.items() if name != b"ROOM"}
for length in (300, 3):
    arguments.replace(("x" * length,), environ)
    assert shown("cmdline")[-1] == b"x" * length
    assert shown("environ") == [name + b"=" + value for name, value in environ.items()]
"""
    run(code, "y" * 300)
