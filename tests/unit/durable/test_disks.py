"""Disks that are full, may not be written, or fail: the policy is obeyed, nothing stored is lost, and it goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from failing_disk import run_on_it
from small_file_system import SMALL_BYTES, small_file_system

from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore
from streamcore.errors import StoreError

OPTIONS = Options(max_bytes=64 << 20)  # more than the small file system has


def entry(number: int, nbytes: int = 20_000) -> Entry:
    return Entry(number.to_bytes(16, "big"), number, Head("event", "source", "bytes"), b"%d" % number + bytes(nbytes))


@pytest.fixture
def small_disk(tmp_path):
    with small_file_system(tmp_path / "disk") as folder:
        yield folder


def fill(store: DurableStore) -> int:
    """Append until nothing more goes in; how many did."""
    count = refused = 0
    while refused < 5:  # what was freed by the transaction that failed may be room for one more
        stored = store.append([entry(count + 1)])
        count, refused = count + stored, 0 if stored else refused + 1
    return count


def test_a_full_disk_blocks_and_lets_go_when_records_are_acknowledged(small_disk):
    with DurableStore(small_disk / "queue", OPTIONS) as store:
        count = fill(store)
        assert count > 50 and store.full == "disk"
        found = store.deliver(40)
        assert [item.record.wall_ns for item in found] == [*range(1, 41)]
        for item in found:
            store.ack(item.record.sequence)
        store.commit()
        assert store.waiting == count - 40
        store.append([entry(count + 1)])  # may find no room yet: LMDB uses freed pages again from the second transaction on
        assert [store.append([entry(number)]) for number in range(count + 1, count + 21)] == [1] * 20
    with DurableStore(small_disk / "queue", OPTIONS) as store:
        assert store.findings == []
        assert [item.record.wall_ns for item in store.deliver(9999)] == [*range(41, count + 21)]


def test_a_disk_that_something_else_fills_blocks_until_that_is_gone(small_disk):
    with DurableStore(small_disk / "queue", OPTIONS) as store:
        assert store.append([entry(1)]) == 1
        free_bytes = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        if free_bytes > SMALL_BYTES:
            pytest.skip("needs a small file system, which only root may mount")
        other = small_disk / "other"
        other.write_bytes(bytes(free_bytes - 100_000))
        assert fill(store) < 10 and store.full == "disk"
        other.unlink()
        assert store.append([entry(777)]) == 1 and store.full == ""


def test_opening_and_reading_works_on_a_full_disk(small_disk):
    with DurableStore(small_disk / "queue", OPTIONS) as store:
        count = fill(store)
    with DurableStore(small_disk / "queue", OPTIONS) as store:
        assert store.findings == [] and store.waiting == count
        assert len(store.deliver(5)) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_disk_that_may_not_be_written_is_an_error_that_says_so(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sc-test", folder], check=True)
    try:
        with DurableStore(folder / "queue", OPTIONS) as store:
            store.append([entry(1)])
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(StoreError, match="Read-only file system"):
            DurableStore(folder / "queue", OPTIONS)
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        with DurableStore(folder / "queue", OPTIONS) as store:
            assert store.waiting == 1
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_may_not_be_written_is_an_error_that_says_so(tmp_path):
    (tmp_path / "queue").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        DurableStore(tmp_path / "queue", OPTIONS)


FAILING = """
import lmdb, sys
from streamcore.durable.store import DurableStore
from streamcore.errors import StoreError
from test_disks import OPTIONS, entry
store = DurableStore(sys.argv[1], OPTIONS)
store.append([entry(1)])
sys.stdout.write("stored\\n")
open(sys.argv[2], "w").close()
try:
    store.append([entry(2)])
except StoreError as error:
    sys.stdout.write(f"{error}\\n")
"""


def test_a_disk_that_fails_is_an_error_and_keeps_what_it_had(tmp_path):
    done = run_on_it(FAILING, tmp_path / "queue", tmp_path / "broken", Path(__file__).parent)
    assert (done.stdout, done.stderr) == (f"stored\nstore {tmp_path / 'queue'}: mdb_txn_commit: Input/output error\n", "")
    with DurableStore(tmp_path / "queue", OPTIONS) as store:
        assert store.findings == []
        assert [item.record.wall_ns for item in store.deliver(9)] == [1]
