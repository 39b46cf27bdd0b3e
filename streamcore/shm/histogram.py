"""Durations as counts per bucket, whose width is a sixteenth of the power of two that it lies in: no count is off by more than 3.2 %.

bucket 0                          below FIRST_NS
bucket 1 + 16 x k + i             from FIRST_NS x 2^k x (16 + i) / 16 to the next, k from 0 to OCTAVES - 1
bucket BUCKETS - 1                the same, and everything above it
"""

from __future__ import annotations

from array import array
from typing import Final

SUB_BITS: Final = 4
SUB: Final = 1 << SUB_BITS  # buckets of one power of two
FIRST_BITS: Final = 10
FIRST_NS: Final = 1 << FIRST_BITS  # a microsecond: what is shorter is told from nothing else
OCTAVES: Final = 29  # up to nine minutes
BUCKETS: Final = 1 + OCTAVES * SUB
SUM: Final = 0  # words of a block: the sum in ns
LOW: Final = 1  # first bucket in use, plus 1; 0: none is
HIGH: Final = 2  # the last one, plus 1
COUNTS: Final = 3  # one word per bucket
BLOCK_WORDS: Final = COUNTS + BUCKETS
U64_MAX: Final = 2**64 - 1
FEW: Final = 8  # buckets: to store them one by one takes less than to make an array of them


def bucket_of(ns: int) -> int:
    if ns < FIRST_NS:
        return 0
    bits = ns.bit_length()
    bucket = 1 + ((bits - FIRST_BITS - 1) << SUB_BITS) + ((ns >> (bits - 1 - SUB_BITS)) & (SUB - 1))
    return bucket if bucket < BUCKETS else BUCKETS - 1


def lower_ns(bucket: int) -> int:
    """The shortest duration of a bucket; lower_ns(b + 1) is the first that is none of it."""
    if bucket == 0:
        return 0
    octave, part = divmod(bucket - 1, SUB)
    return FIRST_NS * (SUB + part) * (1 << octave) // SUB


class Histogram:
    """The writer's side: counts in this process, brought to a block of the status page now and then."""

    def __init__(self, words: memoryview, at: int):
        """A predecessor's counts go on."""
        self._words, self._at = words, at
        self._counts: list[int] = list(words[at + COUNTS : at + BLOCK_WORDS])
        self._sum_ns: int = words[at + SUM]
        self._first, self._last = BUCKETS, -1  # of what changed since the last publish

    def note(self, ns: int) -> None:
        if ns < 0:
            return  # a clock of another boot
        bucket = bucket_of(ns)
        self._counts[bucket] += 1
        self._sum_ns += ns
        if bucket < self._first:
            self._first = bucket
        if bucket > self._last:
            self._last = bucket

    @property
    def changed(self) -> bool:
        return self._last >= 0

    def publish(self) -> None:
        """Each word is stored whole; who reads meanwhile sees some durations of the last moment counted and others not yet."""
        first, last, words, at = self._first, self._last, self._words, self._at
        if last < 0:
            return
        self._first, self._last = BUCKETS, -1
        if last - first < FEW:
            for bucket in range(first, last + 1):
                words[at + COUNTS + bucket] = self._counts[bucket]
        else:
            words[at + COUNTS + first : at + COUNTS + last + 1] = memoryview(array("Q", self._counts[first : last + 1]))
        words[at + SUM] = self._sum_ns & U64_MAX
        if not words[at + HIGH]:
            words[at + LOW], words[at + HIGH] = first + 1, last + 1
        else:
            words[at + LOW], words[at + HIGH] = min(words[at + LOW], first + 1), max(words[at + HIGH], last + 1)
