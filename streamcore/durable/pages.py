"""LMDB's pages, read by ourselves: a file is sound if every page that is reached is what it has to be, and none of them is listed as free.

LMDB trusts its file. A number of a page that has changed leads it anywhere: into a live page that it takes for a free one and writes over,
or out of the file. SYNC: mdb.c, format 1 on machines of 64 bits, little-endian; offsets and sizes in bytes.

 page   +0  8 u64 number   +10 2 u16 flags   +12 2 u16 lower, end of the offsets   +14 2 u16 upper   +12 4 u32 pages, of an overflow
        +16 2 u16 each     offsets of the nodes, in order of their keys
 node   +0  4 u32 size     of the value; of a branch the low half of the page's number, with the flags above it
        +4  2 u16 flags    +6 2 u16 key size   +8 key, then the value: 8 bytes with the number of an overflow page if BIG
 table  48 bytes           u32 pad, u16 flags, u16 depth, u64 branch pages, leaf pages, overflow pages, entries, root
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from streamcore.errors import StoreError

HEADER_BYTES, NODE_BYTES = 16, 8
BRANCH, LEAF, OVERFLOW = 1, 2, 4  # a page on the disk has one of these flags and no other
BIG, TABLE = 1, 2  # flags of a node
NOTHING = (1 << 64) - 1  # root of an empty table
DEPTH_MAX = 32  # of LMDB itself
INTEGER_KEYS = 8  # a flag of a table: that of the free pages
TABLE_LAYOUT = struct.Struct("<IHHQQQQQ")
OVERFLOW_LAYOUT = struct.Struct("<Q2xHI")
FREE = "(free pages)"

Item = tuple[bytes, memoryview]


class Table(NamedTuple):
    """Where a tree begins, and what it has to have."""

    name: str
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


def table_of(name: str, raw: bytes | memoryview) -> Table:
    """Raises StoreError unless `raw` has the length of a table."""
    if len(raw) != TABLE_LAYOUT.size:
        raise StoreError(f"table {name}: found {len(raw)} bytes, expected {TABLE_LAYOUT.size}")
    return Table(name, *TABLE_LAYOUT.unpack(raw)[1:])


class Pages:
    """The pages of a file, as one transaction has left them.

    Everything raises StoreError that says what was found where. A table is sound once all its items were taken; when all tables are,
    check_free() tells whether the free pages are.
    """

    def __init__(self, raw: memoryview, page_bytes: int, last_page: int):
        self._raw = raw[: (last_page + 1) * page_bytes]
        self._words, self._page_bytes = self._raw.cast("H"), page_bytes
        self._overflows: dict[str, int] = {}  # pages of large values by table
        self._reached = bytearray(last_page + 1)
        self._reached[:2] = b"\1\1"  # the meta pages

    def tables(self, main: Table) -> dict[str, Table]:
        """The named tables that the main one lists."""
        return {key.decode("utf-8", "replace"): table_of(key.decode("utf-8", "replace"), value) for key, value in self.items(main, TABLE)}

    def items(self, table: Table, flag: int = BIG) -> Iterator[Item]:
        """Keys and values in order. `flag` is the one that nodes of this table may have."""
        expected_flags = INTEGER_KEYS if table.name == FREE else 0
        if table.flags != expected_flags or table.depth > DEPTH_MAX:
            raise StoreError(
                f"table {table.name}: found flags {table.flags:#x} and depth {table.depth}, expected flags {expected_flags:#x}"
            )
        entries, previous = 0, b""
        for page, low, high in self._leaves(table):
            nodes = self._leaf(table, page, flag)
            if low is not None and nodes[0][0] < low:
                raise StoreError(f"table {table.name}, page {page}: found key {nodes[0][0].hex()}, expected none below {low.hex()}")
            for item in nodes:
                if item[0] <= previous:
                    raise StoreError(f"table {table.name}, page {page}: found key {item[0].hex()} after {previous.hex()}")
                previous = item[0]
                yield item
            entries += len(nodes)
            if high is not None and previous >= high:
                raise StoreError(f"table {table.name}, page {page}: found key {previous.hex()}, expected one below {high.hex()}")
        overflows = self._overflows.get(table.name, 0)
        if (entries, overflows) != (table.entries, table.overflows):
            found = f"{entries} entries, {overflows} pages of large ones"
            raise StoreError(f"table {table.name}: found {found}, expected {table.entries} and {table.overflows}")

    def check_free(self, table: Table) -> None:
        """No page that a table has reached is listed, none twice, none that is outside of the file."""
        for _, value in self.items(table):
            numbers = value.cast("Q") if len(value) % 8 == 0 and len(value) else None
            if numbers is None or numbers[0] >= len(numbers):
                raise StoreError(f"table {table.name}: found an entry of {len(value)} bytes that is no list of pages")
            for page in numbers[1 : numbers[0] + 1]:
                self._reach(table, page)

    def _leaves(self, table: Table) -> Iterator[tuple[int, bytes | None, bytes | None]]:
        """Number of each leaf, with the bounds that the branches above it set for its keys: from, and below."""
        branches = leaves = 0
        left: list[tuple[int, int, bytes | None, bytes | None]] = [(table.root, 1, None, None)] if table.root != NOTHING else []
        while left:
            page, depth, low, high = left.pop()
            self._reach(table, page)
            if depth == table.depth:
                leaves += 1
                yield page, low, high
                continue
            branches += 1
            children = self._branch(table, page)
            bounds = [low, *(key for key, _ in children[1:]), high]  # the first key of a branch means nothing
            left += [(child, depth + 1, bounds[at], bounds[at + 1]) for at, (_, child) in reversed([*enumerate(children)])]
        if (branches, leaves) != (table.branches, table.leaves):
            expected = f"{table.branches} and {table.leaves}"
            raise StoreError(f"table {table.name}: found {branches} branches and {leaves} leaves, expected {expected}")

    def _reach(self, table: Table, page: int) -> None:
        if not 0 < page < len(self._reached) or self._reached[page]:
            why = "it is reached twice" if page < len(self._reached) else f"the last one is {len(self._reached) - 1}"
            raise StoreError(f"table {table.name}: found page {page}, but {why}")
        self._reached[page] = 1

    def _offsets(self, table: Table, page: int, kind: int) -> memoryview:
        """Where the nodes of a page are, from the begin of the page."""
        first = page * self._page_bytes >> 1
        words = self._words
        number, flags = words[first : first + 4].tobytes(), words[first + 5]
        lower, upper = words[first + 6], words[first + 7]
        if int.from_bytes(number, "little") != page or flags != kind or not HEADER_BYTES < lower <= upper <= self._page_bytes or lower & 1:
            found = f"number {int.from_bytes(number, 'little')}, flags {flags}, {lower} to {upper}"
            raise StoreError(f"table {table.name}, page {page}: found {found}, expected its number, flags {kind} and nodes")
        return words[first + 8 : first + (lower >> 1)]

    def _branch(self, table: Table, page: int) -> list[tuple[bytes, int]]:
        """Keys and pages."""
        begin, found = page * self._page_bytes, []
        for offset in self._offsets(table, page, BRANCH):
            at = begin + offset >> 1
            if offset & 1 or not HEADER_BYTES <= offset <= self._page_bytes - NODE_BYTES:
                raise StoreError(f"table {table.name}, page {page}: found a node at {offset}")
            low, middle, high, key_bytes = self._words[at : at + 4]
            key = bytes(self._raw[begin + offset + NODE_BYTES : begin + offset + NODE_BYTES + key_bytes])
            found.append((key[::-1] if table.flags else key, low | middle << 16 | high << 32))
        return found

    def _leaf(self, table: Table, page: int, flag: int) -> list[Item]:
        begin, room, found = page * self._page_bytes, self._page_bytes, []
        raw, words, integers = self._raw, self._words, table.flags
        for offset in self._offsets(table, page, LEAF):
            at = begin + offset >> 1
            if offset & 1 or offset > room - NODE_BYTES:
                raise StoreError(f"table {table.name}, page {page}: found a node at {offset}")
            size, flags, key_bytes = words[at] | words[at + 1] << 16, words[at + 2], words[at + 3]
            value_at = offset + NODE_BYTES + key_bytes
            end = value_at + (8 if flags == BIG else size)
            if end > room or (flags and flags != flag) or (flag == TABLE) != (flags == TABLE):
                raise StoreError(f"table {table.name}, page {page}: found a node at {offset} that ends at {end}, flags {flags}")
            key = bytes(raw[begin + offset + NODE_BYTES : begin + value_at])
            value = raw[begin + value_at : begin + end]
            found.append((key[::-1] if integers else key, self._large(table, value, size) if flags == BIG else value))
        return found

    def _large(self, table: Table, number: memoryview, size: int) -> memoryview:
        """A value that has pages of its own."""
        page = int.from_bytes(number, "little")
        count = -(-(HEADER_BYTES + size) // self._page_bytes)
        for each in range(page, page + count):
            self._reach(table, each)
        if len(number) < 8 or not count:
            raise StoreError(f"table {table.name}: found a large value without a page")
        begin = page * self._page_bytes
        own, flags, pages = OVERFLOW_LAYOUT.unpack_from(self._raw, begin)
        if (own, flags, pages) != (page, OVERFLOW, count):
            found = f"number {own}, flags {flags}, {pages} pages"
            raise StoreError(f"table {table.name}, page {page}: found {found}, expected its number, flags {OVERFLOW} and {count} pages")
        self._overflows[table.name] = self._overflows.get(table.name, 0) + count
        return self._raw[begin + HEADER_BYTES : begin + HEADER_BYTES + size]
