"""Does every page of a data file have one use only? Reads the file, not a map of it. SYNC: mdb.c of LMDB 0.9, on a 64-bit box.

LMDB writes over the pages that its free list names. A list with a wrong number lets it write over records that are still wanted, and nobody
notices before they are read. So the list is held against all that the trees lead to. Leaves are read only where a tree has overflow pages.

 page       number u64 | pad u16 | flags u16 | lower u16, upper u16 (an overflow page: count u32) | offsets of its nodes u16 ...
 node       lo u16, hi u16, flags u16, key bytes u16 | key | data; of a branch lo, hi and flags are the page below, else lo and hi the size
 tree       pad u32 | flags u16 | depth u16 | branch, leaf, overflow pages u64 | entries u64 | root u64
 free list  a tree from transaction to count u64, then so many page numbers u64
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streamcore.errors import StoreError

PAGE = struct.Struct("<QHHHH")
NODE = struct.Struct("<HHHH")
TREE = struct.Struct("<IHHQQQQQ")
ENDS = struct.Struct("<QQ")  # of a meta page, behind its trees: last page, transaction
META_TREES_AT = 16 + 24  # in a meta page: behind its header, magic, version, address and map size
BRANCH, LEAF = 1, 2  # flags of a page
BIG, SUBTREE = 1, 2  # flags of a node: the data is in overflow pages, or is a tree
NO_PAGE = (1 << 64) - 1
DEPTH_MAX = 32  # as LMDB's cursors


class Tree(NamedTuple):
    depth: int
    overflow: int
    root: int


def check(path: Path, page_bytes: int, transaction: int) -> None:
    """Raises StoreError, saying which page is wrong. The caller keeps this snapshot from being written over by a read transaction.

    Beside an owner that has committed twice since that began, there is nothing left to begin with, and nothing is checked.
    """
    with open(path, "rb") as file:
        for number in (0, 1):
            meta = os.pread(file.fileno(), page_bytes, number * page_bytes)
            last_page, found = ENDS.unpack_from(meta, META_TREES_AT + 2 * TREE.size)
            if found == transaction:
                _Pages(file.fileno(), page_bytes, last_page).check(meta)
                return


class _Pages:
    """Which pages of a snapshot have a use."""

    def __init__(self, descriptor: int, page_bytes: int, last_page: int):
        self._descriptor, self._page_bytes, self._last = descriptor, page_bytes, last_page
        self._used = bytearray(last_page + 1)
        self._used[0:2] = b"\1\1"  # the meta pages

    def check(self, meta: bytes) -> None:
        free, main = _tree_at(meta, META_TREES_AT), _tree_at(meta, META_TREES_AT + TREE.size)
        for table in [
            _tree_at(data, 0) for flags, data in self._leaf_nodes(self._leaves(main)) if flags & SUBTREE and len(data) == TREE.size
        ]:
            leaves = self._leaves(table)
            if table.overflow:
                for _ in self._leaf_nodes(leaves):
                    pass
        for _, data in [*self._leaf_nodes(self._leaves(free), whole=True)]:  # its own pages are taken before those that it names
            count = int.from_bytes(data[:8], "little")
            if len(data) < 8 * (count + 1):
                raise StoreError(f"free list: found {len(data)} bytes, expected {count} page numbers")
            for (number,) in struct.iter_unpack("<Q", data[8 : 8 * (count + 1)]):
                self._take(number, 1, "the free list")

    def _take(self, number: int, count: int, what: str) -> None:
        if not 1 < number <= number + count - 1 <= self._last:
            raise StoreError(f"page {number}: {what} leads to {count} from it, expected 2 to {self._last}")
        if any(self._used[number : number + count]):
            raise StoreError(f"page {number}: {what} leads to it, and it has another use")
        self._used[number : number + count] = b"\1" * count

    def _leaves(self, tree: Tree) -> list[int]:
        """The leaf pages of a tree. All of its own pages are taken."""
        if tree.root == NO_PAGE:
            return []
        if not 0 < tree.depth <= DEPTH_MAX:
            raise StoreError(f"page {tree.root}: found a tree of depth {tree.depth}, expected 1 to {DEPTH_MAX}")
        level = [tree.root]
        for depth in range(tree.depth, 0, -1):
            for number in level:
                self._take(number, 1, "a tree")
            if depth > 1:
                level = [below for number in level for below in self._below(number)]
        return level

    def _below(self, number: int) -> list[int]:
        raw, places = self._read(number, BRANCH)
        return [low | high << 16 | flags << 32 for low, high, flags, _ in (NODE.unpack_from(raw, place) for place in places)]

    def _leaf_nodes(self, leaves: list[int], *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
        """(flags, data) of each node. The pages of a large value are taken; it is read only if the `whole` data is wanted."""
        for leaf in leaves:
            raw, places = self._read(leaf, LEAF)
            for place in places:
                low, high, flags, key_bytes = NODE.unpack_from(raw, place)
                nbytes, at = low | high << 16, place + NODE.size + key_bytes
                if not flags & BIG:
                    yield flags, raw[at : at + nbytes]
                    continue
                first = int.from_bytes(raw[at : at + 8], "little")
                self._take(first, (PAGE.size - 1 + nbytes) // self._page_bytes + 1, "a large value")
                yield flags, os.pread(self._descriptor, nbytes, first * self._page_bytes + PAGE.size) if whole else b""

    def _read(self, number: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
        """A page, and where its nodes begin."""
        raw = os.pread(self._descriptor, self._page_bytes, number * self._page_bytes)
        found, _, flags, lower, _ = PAGE.unpack_from(raw) if len(raw) == self._page_bytes else (NO_PAGE, 0, 0, 0, 0)
        if found != number or not flags & kind or not PAGE.size <= lower <= self._page_bytes:
            raise StoreError(f"page {number}: found number {found}, flags {flags:#x}, {lower} bytes of places; expected one of kind {kind}")
        places = struct.unpack_from(f"<{(lower - PAGE.size) // 2}H", raw, PAGE.size)
        if places and max(places) + NODE.size > self._page_bytes:
            raise StoreError(f"page {number}: found a node beyond its end")
        return raw, places


def _tree_at(raw: bytes, offset: int) -> Tree:
    _, _, depth, _, _, overflow, _, root = TREE.unpack_from(raw, offset)
    return Tree(depth, overflow, root)
