"""The tables in the docstrings of shm/ and wire/ are the contract between processes: here they are held against the code."""

from __future__ import annotations

import ast
import itertools
import re
import struct
from pathlib import Path
from types import ModuleType

import pytest

from streamcore import limits, native
from streamcore.shm import layout, ring, status
from streamcore.wire import messages

ROW = re.compile(r"^ +(?:\+ )?(\d+) +(\d+) +(u8|u16|u32|u64|\d+s) +(\w+)", re.MULTILINE)
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
Field = tuple[int, int, str, str]  # offset, size, type, name


def doc_of(module: ModuleType) -> str:
    """The docstring in a module's source; its compiled form has none."""
    return ast.get_docstring(ast.parse(Path(native.source_of(module.__name__)).read_text("utf-8")), clean=False) or ""


def tables(module: ModuleType) -> list[list[Field]]:
    """The layout tables of a docstring; each begins at offset 0."""
    found: list[list[Field]] = []
    for offset, size, kind, name in ROW.findall(doc_of(module)):
        if offset == "0":
            found.append([])
        found[-1].append((int(offset), int(size), CODES.get(kind, kind), name))
    return found


def offsets_in(packed: struct.Struct, codes: list[str]) -> list[int]:
    """Where each field of a struct really lies: found by packing, one field at a time, a value whose first byte is not zero."""
    nothing = [b"" if code.endswith("s") else 0 for code in codes]
    places = []
    for at, code in enumerate(codes):
        values = [*nothing[:at], b"\xff" if code.endswith("s") else 0xFF, *nothing[at + 1 :]]
        places.append(packed.pack(*values).index(0xFF))
    return places


TABLES = {
    "ring header": (tables(layout)[0], layout.HEADER, None),
    "ring entry": (tables(layout)[1], layout.ENTRY, layout.ENTRY_BYTES),
    "message header": (tables(messages)[0], messages.HEADER, 16),
    "DATA record": (tables(messages)[1], messages.RECORD, 28),
    "RECEIPT record": (tables(messages)[2], messages.COMPLETION, 16),
}


@pytest.mark.parametrize(("table", "packed", "nbytes"), TABLES.values(), ids=TABLES.keys())
def test_the_table_in_the_docstring_is_the_struct_in_the_code(table, packed, nbytes):
    codes = [code for _, _, code, _ in table]
    assert [offset for offset, *_ in table] == offsets_in(packed, codes)
    assert [size for _, size, _, _ in table] == [struct.calcsize("<" + code) for code in codes]
    assert sum(size for _, size, _, _ in table) == packed.size
    if nbytes is not None:
        assert packed.size == nbytes


def test_every_table_of_a_docstring_is_held_against_a_struct():
    assert len(tables(layout)) == 2
    assert len(tables(messages)) == 3


def test_the_names_of_the_header_are_those_that_attach_reports():
    assert [name for *_, name in tables(layout)[0]] == [
        "magic", "version", "ring", "entry_count", "slot_count", "meta_bytes", "slot_bytes", "run_id", "port",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "word", "number"),
    [
        (layout, "FREE", layout.FREE),
        (layout, "WRITING", layout.WRITING),
        (layout, "COMMITTED", layout.COMMITTED),
        (layout, "REDELIVERED", layout.REDELIVERED),
        (layout, "version", layout.VERSION),
        (status, "version", status.VERSION),
        (messages, "DATA", messages.DATA),
        (messages, "RECEIPT", messages.RECEIPT),
        (messages, "END", messages.END),
        (messages, "WAKE", messages.WAKE),
        (messages, "WANT", messages.WANT),
        (messages, "OK", messages.OK),
        (messages, "DROPPED", messages.DROPPED),
        (messages, "FAILED", messages.FAILED),
    ],
)
def test_the_docstring_gives_the_numbers_of_the_code(module, word, number):
    assert re.search(rf"\b{word} {number}\b", doc_of(module))


def test_the_magic_numbers_spell_what_their_comments_say():
    # A hex dump of a segment should say what it is.
    assert layout.MAGIC.to_bytes(8, "little") == b"SSTRRNG1"
    assert status.MAGIC.to_bytes(8, "little") == b"STRSTAT1"


def test_single_fields_of_an_entry_are_found_where_the_table_puts_them():
    places = {name: offset for offset, _, _, name in tables(layout)[1]}
    assert places["state"] == layout.STATE_U32 * 4
    assert places["edges_pending"] == layout.PENDING_U32 * 4
    assert (layout.ENTRY_U32 * 4, layout.ENTRY_U64 * 8) == (layout.ENTRY_BYTES, layout.ENTRY_BYTES)


def test_nothing_in_a_ring_overlaps():
    for entries, meta, slots, nbytes in itertools.product((2, 3, 4096), (1, 64, 8192), (1, 5, 4096), (1, 4096, 1 << 20)):
        g = layout.Geometry.of(entries, meta, slots, nbytes)
        assert layout.HEADER.size <= layout.HEADER_BYTES
        assert g.meta_offset == layout.HEADER_BYTES + entries * layout.ENTRY_BYTES
        assert g.slots_offset >= g.meta_offset + entries * g.meta_bytes
        assert g.slots_offset % limits.PAGE_BYTES == g.slot_bytes % limits.PAGE_BYTES == g.meta_bytes % 64 == 0
        assert g.meta_bytes >= meta
        assert g.slot_bytes >= nbytes
        assert g.segment_bytes == g.slots_offset + slots * g.slot_bytes


@pytest.mark.parametrize(
    "numbers",
    [(1, 64, 1, 1), (4097, 64, 1, 1), (2, 0, 1, 1), (2, 64, 0, 1), (2, 64, 4097, 1), (2, 64, 1, 0), (2, 64, 1, limits.SLOT_BYTES_MAX + 1)],
)
def test_a_ring_outside_its_bounds_is_refused(numbers):
    with pytest.raises(ValueError, match=r"\d"):
        layout.Geometry.of(*numbers)


def test_the_words_of_the_status_page_stand_where_its_docstring_says():
    words = dict(re.findall(r"^ (\d+) +u64  (\w+)", doc_of(status), re.MULTILINE))
    assert {name: int(number) for number, name in words.items()} == status.WORD
    rows, row_words = re.search(r"^ (\d+) \.\.  rows of (\d+) words", doc_of(status), re.MULTILINE).groups()
    assert (int(rows), int(row_words)) == (status.ROWS_WORD, status.ROW_WORDS)
    first, last = re.search(r"\+ (\d+) \.\. \+ (\d+) +EdgeCounters", doc_of(status)).groups()
    assert (int(first), int(last)) == (min(status.EDGE_WORD.values()), max(status.EDGE_WORD.values()))
    metric_words, name_bytes = re.search(r"rows of (\d+) words: name \((\d+) bytes", doc_of(status)).groups()
    assert (int(metric_words), int(name_bytes)) == (status.METRIC_WORDS, status.METRIC_NAME_BYTES)
    assert int(name_bytes) + 8 == int(metric_words) * 8


def test_a_payload_in_the_metadata_names_no_ring():
    assert ring.NO_REF.ring == layout.NO_RING
    assert ring.NO_PARENT[0] == layout.NO_EDGE
