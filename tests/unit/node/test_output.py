"""Printing into a file that takes nothing: it never fails, is told once, and noted in the file when that takes something again."""

from __future__ import annotations

import logging
import os
import resource
import sys
from contextlib import contextmanager

import pytest

from streamcore.node import output


@pytest.fixture
def printing(monkeypatch, tmp_path):
    """The streams of this process on a file, which `bound` keeps from growing; what was told."""

    class Printing:
        def __init__(self, path):
            self.path, self.told, self.files = path, [], []
            for name in ("stdout", "stderr"):
                file = open(path, "a")  # noqa: SIM115 -- closed below
                self.files.append(file)
                monkeypatch.setattr(sys, name, file)
            self.losses = output.keep_printing()

        def text(self):
            return self.path.read_text()

    made = []

    def on(path):
        made.append(Printing(path))
        return made[-1]

    yield on
    for one in made:
        for file in one.files:
            file.close()


@contextmanager
def bounded(nbytes):
    """No file grows beyond so many bytes. Only for a moment: pytest may be writing to one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_is_in_the_file_as_soon_as_it_is_printed(printing, tmp_path):
    on = printing(tmp_path / "log")
    print("one")
    print("two", file=sys.stderr)
    sys.stdout.buffer.write(b"three\n")
    assert on.text() == "one\ntwo\nthree\n"


def test_printing_to_a_full_disk_is_told_once(printing, tmp_path):
    on = printing(tmp_path / "log")
    full = os.open("/dev/full", os.O_WRONLY)
    for file in on.files:
        os.dup2(full, file.fileno())
    os.close(full)
    on.losses.tell(on.told.append)
    logger = logging.Logger("full")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    for number in range(100):
        print("lost", number)
        logger.error("lost %d", number)
        sys.stdout.flush()
    assert on.told == ["No space left on device"]


def test_whoever_listens_later_is_told_too(printing, tmp_path):
    on = printing(tmp_path / "log")
    with bounded(0):
        print("lost")
    on.losses.tell(on.told.append)
    assert on.told == ["File too large"]


def test_the_file_says_how_much_it_lacks_on_a_line_of_its_own(printing, tmp_path):
    on = printing(tmp_path / "log")
    with bounded(6):
        print("1234567890")  # 6 of its 11 bytes are taken
        print("lost")
    print("again")
    lines = on.text().splitlines()
    assert (lines[0], lines[2]) == ("123456", "again")
    assert lines[1].endswith("Z WARNING 10 bytes of this log could not be written: File too large")


def test_no_line_begins_in_its_middle(printing, tmp_path):
    # As where each write() leaves at once: room may come back between a line and its end.
    on = printing(tmp_path / "log")
    with bounded(6):
        sys.stdout.write("12345\n")
        sys.stdout.write("lost")
        sys.stdout.flush()
    sys.stdout.write(", and the rest of it")
    sys.stdout.flush()
    sys.stderr.write("of another stream\n")
    sys.stdout.write(" too\nagain\n")
    sys.stdout.write("and again\n")
    first, note, other, second_note, *rest = on.text().splitlines()
    assert (first, other, rest) == ("12345", "of another stream", ["again", "and again"])
    assert note.endswith("Z WARNING 24 bytes of this log could not be written: File too large")
    assert second_note.endswith("Z WARNING 5 bytes of this log could not be written: File too large")


def test_a_coordinator_that_is_gone_is_no_reason_to_fail(printing, tmp_path):
    def tell(why):
        raise BrokenPipeError

    on = printing(tmp_path / "log")
    on.losses.tell(tell)
    with bounded(0):
        print("lost")
    print("again")
    assert "again" in on.text()
