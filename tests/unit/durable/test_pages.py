"""Pages of the data file: each has one use, and a free list that says otherwise is found before LMDB writes by it."""

from __future__ import annotations

import ctypes
import random
import struct

import pytest

from streamcore.durable import files, pages, upkeep, verify
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore

OPTIONS = Options(max_bytes=64 << 20, retain_bytes=1 << 20, dedup_max=200)


@pytest.fixture
def path(tmp_path):
    """A store through which much has passed, small and large."""
    chance, number = random.Random(7), 0
    with DurableStore(tmp_path / "queue", OPTIONS) as store:
        for _ in range(150):
            entries = []
            for _ in range(chance.randint(1, 20)):
                number += 1
                payload = chance.randbytes(chance.choice([10, 1000, 3000, 9000, 60_000]))
                entries.append(Entry(number.to_bytes(16, "big"), number, Head("event", "s", "bytes"), payload))
            store.append(entries)
            for delivery in store.deliver(chance.randint(5, 20)):
                store.ack(delivery.record.sequence)
    return tmp_path / "queue"


def address_of(view) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def free_numbers(path) -> list[tuple[int, int]]:
    """(offset in the file, page number) of every page that the free list of the newest snapshot names."""
    raw = memoryview(bytearray((path / files.DATA).read_bytes()))
    with open(path / files.DATA, "rb") as file:
        meta = max(files.metas(file.fileno()))
    found = []
    for _, value in pages.Pages(raw, meta.page_bytes, meta.last_page).items(pages.table_of(pages.FREE, meta.free_table)):
        numbers, at = value.cast("Q"), address_of(value) - address_of(raw)
        found += [(at + 8 * n, numbers[n]) for n in range(1, numbers[0] + 1)]
    return found


def put(path, offset: int, number: int) -> None:
    with open(path / files.DATA, "r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<Q", number))


def test_a_sound_file_is_sound_and_has_free_pages(path):
    assert len(free_numbers(path)) > 10
    assert verify.verify(path) == ("", [])
    upkeep.compact(path)
    assert verify.verify(path) == ("", [])


@pytest.mark.parametrize("kind", ["of a record", "named twice", "beyond the end", "a meta page"])
def test_a_free_list_that_names_a_page_with_another_use_is_found(path, kind):
    numbers = free_numbers(path)
    (offset, number), (_, other) = numbers[0], numbers[-1]
    free = {named for _, named in numbers}
    used = next(page for page in range(2, 9999) if page not in free)
    put(path, offset, {"of a record": used, "named twice": other, "beyond the end": 1 << 40, "a meta page": 1}[kind])
    why, _ = verify.verify(path)
    assert "table (free pages): found page " in why
    put(path, offset, number)
    assert verify.verify(path) == ("", [])


def test_a_flipped_bit_of_any_page_number_in_the_free_list_is_found_at_the_start_and_what_waits_is_kept(path):
    with DurableStore(path, OPTIONS) as store:
        waiting = store.waiting
    numbers, chance = free_numbers(path), random.Random(3)
    for _ in range(40):
        offset, number = chance.choice(numbers)
        put(path, offset, number ^ 1 << chance.randrange(64))
        assert verify.verify(path)[0], (offset, number)
        put(path, offset, number)
    put(path, numbers[0][0], numbers[0][1] ^ 2)
    with DurableStore(path, OPTIONS) as store:
        assert "moved to" in store.findings[0] and store.waiting >= waiting


def test_a_table_of_a_wrong_length_is_damage_and_no_failure_of_the_check(path):
    data = path / files.DATA
    node = struct.Struct("<HHHH")  # size, high half of it, flags, bytes of the key
    data.write_bytes(data.read_bytes().replace(node.pack(48, 0, 2, 3) + b"ids", node.pack(49, 0, 2, 3) + b"ids"))
    assert verify.verify(path) == ("table ids: found 49 bytes, expected 48", [])
