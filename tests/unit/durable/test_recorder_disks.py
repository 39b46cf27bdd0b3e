"""A recorder on a disk that is full, gets room again, or fails: the policy is obeyed, and nothing completed is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from failing_disk import run_on_it
from small_file_system import SMALL_BYTES, small_file_system

from streamcore import StreamPacket
from streamcore.durable.record import Entry, Head
from streamcore.durable.recorder import Recorder
from streamcore.durable.recording import Recording
from streamcore.node.api import attach
from streamcore.testing import Bench, check_config
from streamcore_nodes.durable_record import Record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")


def options(full: str) -> Recorder.Options:
    return Recorder.Options(segment_bytes=256 << 10, max_bytes=64 << 20, full=full)


def entry(number: int, nbytes: int = 20_000) -> Entry:
    return Entry(number.to_bytes(16, "big"), number, Head("event", "source", "bytes"), b"%08d" % number + bytes(nbytes))


def numbers(path: Path) -> list[int]:
    recording = Recording(path)
    found = [int(item.payload[:8]) for item in recording.read()]
    assert recording.damaged == 0
    assert all(part.nbytes == part.index.end for part in recording.parts)  # nothing is left behind the last record
    return found


@pytest.fixture
def small_disk(tmp_path):
    with small_file_system(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def other(small_disk):
    """Something else that fills the disk; gone when it is removed."""
    made = small_disk / "other"

    def fill(leave_bytes: int) -> Path:
        disk = os.statvfs(small_disk)
        made.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - leave_bytes)))
        return made

    return fill


def fill(recorder: Recorder) -> int:
    count = 0
    while recorder.append([entry(count)]) and not recorder.dropped and not recorder.deleted:
        count += 1
        assert count < 1000
    return count


def test_block_stores_what_fits_and_goes_on_when_there_is_room(small_disk, other):
    with Recorder(small_disk / "r", options("block")) as recorder:
        other(500_000)
        batch = [entry(n) for n in range(60)]
        stored = recorder.append(batch)
        assert 0 < stored < 60 and recorder.full == "disk"
        assert numbers(small_disk / "r") == [*range(stored)]
        assert recorder.append(batch[stored:]) == 0
        (small_disk / "other").unlink()
        assert recorder.append(batch[stored:]) == 60 - stored and recorder.full == ""
    assert numbers(small_disk / "r") == [*range(60)]


def test_drop_oldest_makes_room_and_keeps_the_newest(small_disk):
    with Recorder(small_disk / "r", options("drop_oldest")) as recorder:
        fill(recorder)
        for number in range(1000, 1400):
            assert recorder.append([entry(number)]) == 1
        found = numbers(small_disk / "r")
        assert found[-1] == 1399 and found == [*range(found[0], 1400)] and len(found) * 20_000 > SMALL_BYTES // 2


def test_drop_oldest_never_deletes_what_it_is_writing(small_disk, other):
    with Recorder(small_disk / "r", options("drop_oldest")) as recorder:
        assert recorder.append([entry(1)]) == 1
        other(0)
        assert recorder.append([entry(2)]) == 0 and recorder.full == "disk"
        assert numbers(small_disk / "r") == [1]


def test_drop_new_counts(small_disk, other):
    with Recorder(small_disk / "r", options("drop_new")) as recorder:
        other(100_000)
        assert recorder.append([entry(n) for n in range(20)]) == 20
        assert numbers(small_disk / "r") == [*range(20 - recorder.dropped)] and 10 < recorder.dropped < 20
        (small_disk / "other").unlink()
        recorder.append([entry(99)])
        assert numbers(small_disk / "r")[-1] == 99


@pytest.mark.parametrize("before", [True, False])
def test_opening_reading_and_closing_work_on_a_full_disk(small_disk, other, before):
    if before:
        with Recorder(small_disk / "r", options("block"), run="one") as recorder:
            recorder.append([entry(0)])
    else:
        (small_disk / "r").mkdir()
        (small_disk / "r" / "owner").touch()
    other(0)
    with Recorder(small_disk / "r", options("block"), run="two") as recorder:
        assert recorder.append([entry(1)]) == 0 and recorder.full == "disk"
        (small_disk / "other").unlink()
        assert recorder.append([entry(1)]) == 1
    assert numbers(small_disk / "r") == ([0, 1] if before else [1])


def test_the_node_takes_nothing_more_and_goes_on_by_itself(small_disk, other):
    node = Record()
    config = {"path": str(small_disk / "r"), "full": "block", "segment_bytes": 256 << 10, "max_bytes": 64 << 20}
    attach(node, "recorder", check_config(Record, config), Bench(node, "recorder", None))
    node.setup()
    other(300_000)
    node.process_batch([StreamPacket.new(kind="frame", source_id="cam", payload=np.full((200, 200), n, "uint8")) for n in range(20)])
    assert not node.taking and node.pending and node.pull_at_ns is not None
    kept = len(node.untaken)
    assert 5 < kept < 20
    (small_disk / "other").unlink()
    node.pull_at_ns = 0
    assert node.pull() is None
    assert node.taking and not node.pending
    node.close()
    assert [int(found.payload[0]) for found in Recording(small_disk / "r").read()] == [*range(20)]


FAILING = """
import sys
from streamcore.durable.recorder import Recorder
from streamcore.errors import StoreError
from test_recorder_disks import entry, options
recorder = Recorder(sys.argv[1], options("block"))
recorder.append([entry(1)])
open(sys.argv[2], "w").close()
try:
    recorder.append([entry(2)])
except StoreError as error:
    sys.stdout.write(f"{error}\\n")
"""


def test_a_disk_that_fails_is_an_error_and_what_it_may_have_forgotten_is_not_there_later(tmp_path):
    done = run_on_it(FAILING, tmp_path / "r", tmp_path / "broken", Path(__file__).parent)
    assert (done.stdout, done.stderr) == (f"recording {tmp_path / 'r'}: Input/output error\n", "")
    assert numbers(tmp_path / "r") == [1]
