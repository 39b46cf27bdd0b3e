"""Logs are kept within their bound whatever they grow by, at a cost that is bounded too."""

from __future__ import annotations

import errno
import os

import pytest

from streamcore import limits
from streamcore.clock import ManualClock
from streamcore.control.rundir import RunDir
from streamcore.coordinator import log_watch
from streamcore.coordinator.log_watch import LogWatch
from streamcore.coordinator.observer import Observer
from streamcore.supervisor import log_space

MIB = limits.MIB


class Loop:
    """Writes down what is to be called, and after how long."""

    def __init__(self):
        self.timers = []

    def after(self, seconds, call):
        self.timers.append((seconds, call))


class Heard(Observer):
    def __init__(self):
        self.texts = []

    def warning(self, text):
        self.texts.append(text)


class Case:
    def __init__(self):
        self.run_dir, self.loop, self.clock, self.heard, self.warnings = RunDir.take("logs"), Loop(), ManualClock(), Heard(), []
        self.fd = self.run_dir.open_log("a")
        self.watch = LogWatch(self.run_dir, ["a", "b"], self.loop, self.clock, self.heard, self.warnings)

    def grow(self, nbytes, seconds=1.0):
        for _ in range(nbytes // MIB):
            os.write(self.fd, (b"%07d\n" % (self.size // MIB)) * (MIB // 8))
        self.clock.advance(seconds)
        self.watch.look()

    @property
    def size(self):
        return os.fstat(self.fd).st_size

    @property
    def occupied(self):
        return os.fstat(self.fd).st_blocks * 512


@pytest.fixture
def case(runtime_dir):
    made = Case()
    yield made
    os.close(made.fd)
    made.run_dir.close()


def test_a_log_keeps_its_end_and_its_offsets(case):
    case.grow(40 * MIB)
    assert case.occupied == limits.LOG_KEPT_BYTES
    assert case.size == 40 * MIB
    with open(case.run_dir.log_path("a"), "rb") as log:
        assert log.read(32 * MIB) == b"\0" * (32 * MIB)
        assert log.read(8) == b"0000032\n"


def test_a_log_that_has_room_is_left_alone(case):
    case.grow(12 * MIB)
    assert case.occupied == 12 * MIB


def test_a_log_that_grows_fast_is_looked_at_sooner_and_one_that_does_not_is_not(case):
    # An idle run must not wake for its logs.
    case.grow(0)
    assert case.loop.timers == []
    case.grow(16 * MIB)
    assert [seconds for seconds, _ in case.loop.timers] == [0.25], "the time in which a quarter of the bound is written"
    case.grow(2 * MIB)
    assert len(case.loop.timers) == 1, "one look to come is enough"
    case.clock.advance(10)
    case.loop.timers.pop()[1]()
    assert case.loop.timers == []


def test_one_look_gives_back_no_more_than_its_share(case, monkeypatch):
    monkeypatch.setattr(log_watch, "DROPPED_BYTES_MAX", 16 * MIB)
    case.grow(40 * MIB)
    assert case.occupied == 24 * MIB
    assert [seconds for seconds, _ in case.loop.timers] == [log_watch.SOON_S]
    case.loop.timers.pop()[1]()
    assert case.occupied == limits.LOG_KEPT_BYTES


def test_where_there_are_no_holes_a_log_is_begun_anew_with_its_end(case, monkeypatch):
    monkeypatch.setattr(log_space, "drop_front", lambda fd, first, end: False)
    case.grow(40 * MIB)
    assert case.size == log_watch.STEP_BYTES - 8, "the first line may be a half one"
    os.write(case.fd, b"more\n")
    with open(case.run_dir.log_path("a"), "rb") as log:
        log.seek(-13, os.SEEK_END)
        assert log.read() == b"0000039\nmore\n"
    case.grow(13 * MIB)
    assert case.size == log_watch.STEP_BYTES - 8


def test_a_log_that_somebody_has_emptied_is_kept_within_its_bound_again(case):
    case.grow(40 * MIB)
    os.truncate(case.fd, 0)
    case.grow(20 * MIB)
    assert case.occupied == limits.LOG_KEPT_BYTES


def test_a_log_that_cannot_be_trimmed_is_told_once(case, monkeypatch):
    def broken(fd, first, end):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(log_space, "drop_front", broken)
    case.grow(20 * MIB)
    case.grow(1 * MIB)
    assert len(case.heard.texts) == 1
    assert "Input/output error" in case.heard.texts[0]
    assert case.warnings == case.heard.texts


def test_a_disk_that_is_full_is_told_once_whichever_node_says_it(case):
    case.watch.lost("a", "No space left on device")
    case.watch.lost("b", "No space left on device")
    assert case.warnings == case.heard.texts
    assert len(case.warnings) == 1
    assert "'a'" in case.warnings[0]


def test_a_run_directory_that_is_gone_stops_nothing(case):
    os.unlink(case.run_dir.log_path("a"))
    case.grow(20 * MIB)
    assert case.heard.texts == []
