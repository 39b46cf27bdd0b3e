"""Damaged files: whatever was changed in them is noticed, put aside, never handed out, and never ends the process that opens them."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import lmdb
import pytest

from streamcore.durable import files, opening, pages, upkeep
from streamcore.durable.options import Options
from streamcore.durable.record import MAGIC_BYTES, BadRecord, Entry, Head, decode, encode
from streamcore.durable.selection import Selection, walk
from streamcore.durable.store import DurableStore
from streamcore.errors import StoreError

OPTIONS = Options(max_bytes=16 << 20, retain_bytes=1 << 20)
COUNT = 300


def content(number: int) -> bytes:
    return random.Random(number).randbytes(100 if number % 10 else 9000)


def entry(number: int) -> Entry:
    return Entry(number.to_bytes(16, "big"), number, Head("event", "source", "bytes"), content(number))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A store of COUNT records, of which the first 100 are acknowledged and retained."""
    path = tmp_path_factory.mktemp("sound") / "queue"
    with DurableStore(path, OPTIONS) as store:
        for first in range(1, COUNT + 1, 20):
            store.append([entry(number) for number in range(first, first + 20)])
        for delivery in store.deliver(100):
            store.ack(delivery.record.sequence)
    return path


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "queue"))


def delivered(store: DurableStore) -> dict[int, bytes]:
    return {item.record.sequence: item.record.payload for item in store.deliver(10_000)}


def flip(data: Path, offset: int, bit: int = 0) -> None:
    with open(data, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def test_a_flipped_bit_of_a_record_is_reported_and_the_rest_is_delivered(copy):
    data = copy / files.DATA
    flip(data, data.read_bytes().rindex(content(200)) + 5)
    with DurableStore(copy, OPTIONS) as store:
        assert len(store.findings) == 1 and "record 200: found checksum" in store.findings[0]
        assert delivered(store) == {number: content(number) for number in range(101, COUNT + 1) if number != 200}
        assert (store.counters.quarantined, store.waiting) == (1, COUNT - 101)
    assert len((copy / "quarantine" / "200.record").read_bytes()) > 100
    with DurableStore(copy, OPTIONS) as store:
        assert store.findings == []


def test_a_record_that_goes_bad_under_the_open_store_is_not_handed_out(copy):
    with DurableStore(copy, OPTIONS) as store:
        data = copy / files.DATA
        flip(data, data.read_bytes().rindex(content(250)) + 50)
        assert set(delivered(store)) == {*range(101, COUNT + 1)} - {250}
        assert "record 250" in store.findings[0]


@pytest.mark.parametrize("left", [0.999, 0.5, 0.1, 0.0])
def test_a_truncated_file_is_moved_aside_and_what_is_whole_in_it_imported(copy, left):
    data = copy / files.DATA
    size = data.stat().st_size
    os.truncate(data, int(size * left))
    with DurableStore(copy, OPTIONS) as store:
        assert len(store.findings) == 1 and f"moved to {copy / 'damaged-1'}" in store.findings[0]
        found = delivered(store)
        assert all(payload == content(number) for number, payload in found.items())
        assert len(found) >= {0.999: 190, 0.5: 20}.get(left, 0)
        assert store.append([entry(COUNT + 1)]) == 1
    assert (copy / "damaged-1" / files.DATA).stat().st_size == int(size * left)


def test_a_file_whose_trees_are_gone_still_gives_every_record_that_waited(copy):
    data = copy / files.DATA
    for page in (0, 1):  # both meta pages
        flip(data, page * 4096 + 16)
    with DurableStore(copy, OPTIONS) as store:
        assert "no meta page" in store.findings[0] and "200 records from 101 to 300 were imported" in store.findings[0]
        assert delivered(store) == {number: content(number) for number in range(101, COUNT + 1)}
        assert all(item.redelivered for item in store.deliver(1)) and store.counters.next_sequence == COUNT + 1
        assert store.append([entry(150)]) == 1 and store.counters.duplicates == 1


def test_dead_letters_of_a_file_whose_trees_are_gone_come_back_as_dead_letters(copy):
    with DurableStore(copy, OPTIONS) as store:
        for delivery in store.deliver(150):
            number = delivery.record.sequence
            store.nack(number, reason=f"HTTP 400 for {number}", permanent=number % 10 == 0)
        for delivery in store.deliver(200):
            if delivery.record.sequence < 260:
                store.ack(delivery.record.sequence)
    data = copy / files.DATA
    for page in (0, 1):
        with open(data, "r+b") as file:
            file.seek(4096 * page)
            file.write(bytes(4096))
    with DurableStore(copy, OPTIONS) as store:
        assert "dead letters were imported" in store.findings[0]
    seen = {item.sequence: item for item in walk(copy, "dead", Selection())}
    assert seen.keys() >= {*range(110, 251, 10)} and all(number % 10 == 0 for number in seen)
    assert seen[150].reason == "HTTP 400 for 150" and seen[150].record.payload == content(150)
    assert upkeep.examine(copy) == ("", [])


def test_a_second_damaged_file_does_not_replace_the_first(copy):
    for _ in range(2):
        os.truncate(copy / files.DATA, 5000)
        DurableStore(copy, OPTIONS).close()
    assert sorted(path.name for path in copy.glob("damaged-*")) == ["damaged-1", "damaged-2"]


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_never_silent(copy, seed):
    chance = random.Random(seed)
    data = copy / files.DATA
    size = data.stat().st_size
    for _ in range(1 + seed % 3 * 40):
        flip(data, chance.randrange(size), chance.randrange(8))
    with DurableStore(copy, OPTIONS) as store:
        found = delivered(store)
        assert all(payload == content(number) for number, payload in found.items()), "a damaged record was handed out"
        assert len(found) >= COUNT - 100 or store.findings, "records are missing, and nobody was told"
        assert store.append([entry(COUNT + 1)]) == 1


def test_a_record_is_refused_wherever_a_bit_of_it_is_wrong():
    raw = encode(entry(7), 7, 1)
    assert decode(raw, 7).payload == content(7)
    for at in range(len(raw)):
        for bit in range(8):
            with pytest.raises(BadRecord):
                decode(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :], 7)
    with pytest.raises(BadRecord, match="found that of 7 in its place"):
        decode(raw, 8)
    with pytest.raises(BadRecord, match="expected at least"):
        decode(raw[:20], 7)


def test_a_payload_that_looks_like_records_is_no_record_of_its_own(tmp_path):
    # A scan of a damaged file must not find what somebody has put into a packet.
    inner = encode(Entry(bytes(16), 1, Head("x", "y"), b"forged"), 2, 1)
    with DurableStore(tmp_path / "queue", OPTIONS) as store:
        store.append([Entry(b"a" * 16, 1, Head("x", "y", "bytes"), MAGIC_BYTES * 3 + inner), entry(2)])
    os.truncate(tmp_path / "queue" / files.DATA, (tmp_path / "queue" / files.DATA).stat().st_size - 1)
    with DurableStore(tmp_path / "queue", OPTIONS) as store:
        assert delivered(store).get(2, content(2)) == content(2)


def test_a_check_that_cannot_be_made_is_an_error_and_changes_nothing(copy, monkeypatch):
    before = (copy / files.DATA).read_bytes()
    monkeypatch.setattr("sys.executable", "/bin/true")
    with pytest.raises(StoreError, match="the process that checks it failed: no output"):
        DurableStore(copy, OPTIONS)
    assert (copy / files.DATA).read_bytes() == before


def newest_meta(data: Path) -> files.Meta:
    with open(data, "rb") as file:
        return max(files.metas(file.fileno()))


def test_a_live_page_that_is_listed_as_free_is_found(copy):
    # LMDB would write over it, and say nothing.
    data = copy / files.DATA
    raw, meta = bytearray(data.read_bytes()), newest_meta(data)
    free, main = pages.table_of("", meta.free_table), pages.table_of("", meta.main_table)
    begin = free.root * meta.page_bytes
    node = begin + int.from_bytes(raw[begin + 16 : begin + 18], "little")
    first = node + 8 + 8 + 8  # behind the node's head, its key, and the number of pages in the list
    raw[first : first + 8] = main.root.to_bytes(8, "little")
    data.write_bytes(raw)
    why, _ = opening.examine(copy)
    assert why == f"table (free pages): found page {main.root}, but it is reached twice"
    with DurableStore(copy, OPTIONS) as store:
        assert set(delivered(store)) >= set(range(101, COUNT + 1))


def test_the_older_meta_page_in_the_place_of_the_newer_is_found(copy):
    # One flipped bit of its number, and a store goes back to a transaction whose pages may be used again.
    data = copy / files.DATA
    older = min((meta.transaction, page) for page, meta in enumerate(_metas_in_order(data)))
    flip(data, older[1] * 4096 + 16 + 128, 6)
    assert "its meta pages are of the transactions" in opening.examine(copy)[0]


def _metas_in_order(data: Path) -> list[files.Meta]:
    with open(data, "rb") as file:
        return files.metas(file.fileno())


def test_damage_that_only_a_write_finds_has_the_next_start_move_the_file_aside(copy, monkeypatch):
    with DurableStore(copy, OPTIONS) as store:

        def damaged(entries) -> int:
            raise lmdb.CorruptedError("mdb_put: MDB_CORRUPTED")

        with monkeypatch.context() as broken:
            broken.setattr(store, "_transact", damaged)
            with pytest.raises(StoreError, match="MDB_CORRUPTED; the next start moves the file aside"):
                store.append([entry(COUNT + 1)])
    for again in (False, True):
        with DurableStore(copy, OPTIONS) as store:
            assert bool(store.findings) is not again
            assert again or f"MDB_CORRUPTED; moved to {copy / 'damaged-1'}; 200 records" in store.findings[0]
            assert store.waiting == COUNT - 100
