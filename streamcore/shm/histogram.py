"""Durations as counts per bucket, whose width is a sixteenth of the power of two that it lies in: no count is off by more than 3.2 %.

bucket 0                          below FIRST_NS
bucket 1 + 16 x k + i             from FIRST_NS x 2^k x (16 + i) / 16 to the next, k from 0 to OCTAVES - 1
bucket BUCKETS - 1                the same, and everything above it
"""

from __future__ import annotations

from typing import Final

from streamcore import native

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


def note(words: memoryview, at: int, ns: int) -> None:
    """Count a duration in the block that begins at word `at` of a status page, where whoever looks finds it at once.

    Each word is stored whole; who reads meanwhile sees the last duration in one of them and not yet in another. Below 0 is a duration of
    a clock of another boot, and not counted.
    """
    if ns < 0:
        return
    place = at + COUNTS + bucket_of(ns)
    count = words[place]
    if not count:  # before it is counted: a kill in between leaves a bucket too many to look at, and never one too few
        used = place - at - COUNTS + 1
        if not words[at + HIGH] or used < words[at + LOW]:
            words[at + LOW] = used
        if used > words[at + HIGH]:
            words[at + HIGH] = used
    words[place] = count + 1 & U64_MAX
    words[at + SUM] = words[at + SUM] + ns & U64_MAX


native.take_over(globals(), "note")
