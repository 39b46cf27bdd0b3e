"""What a histogram says of the durations that were noted: how many, how long together, and how long a share of them took at most."""

from __future__ import annotations

import math
from itertools import compress

import msgspec

from streamcore.shm.histogram import BUCKETS, COUNTS, HIGH, LOW, SUM, lower_ns


class Distribution(msgspec.Struct, frozen=True):
    """Durations at one moment. `buckets`: (bucket of shm/histogram.py, count) of those in use, in order."""

    sum_ns: int = 0
    buckets: tuple[tuple[int, int], ...] = ()

    @property
    def count(self) -> int:
        return sum(count for _, count in self.buckets)

    @property
    def mean_ns(self) -> float:
        """0 of none."""
        count = self.count
        return self.sum_ns / count if count else 0.0

    def quantile_ns(self, share: float) -> float | None:
        """The duration that `share` of all do not exceed, off by at most 3.2 % of itself (half a microsecond below one); None of none."""
        left = math.ceil(share * self.count)
        for bucket, count in self.buckets:
            left -= count
            if left <= 0:
                return (lower_ns(bucket) + lower_ns(bucket + 1)) / 2
        return None

    def since(self, earlier: Distribution) -> Distribution:
        """What came between two readings of one histogram."""
        before = dict(earlier.buckets)
        new = ((bucket, count - before.get(bucket, 0)) for bucket, count in self.buckets)
        return Distribution(max(0, self.sum_ns - earlier.sum_ns), tuple((bucket, count) for bucket, count in new if count > 0))

    def __add__(self, other: Distribution) -> Distribution:
        counts = dict(self.buckets)
        for bucket, count in other.buckets:
            counts[bucket] = counts.get(bucket, 0) + count
        return Distribution(self.sum_ns + other.sum_ns, tuple(sorted(counts.items())))


NOTHING = Distribution()


def read(words: memoryview, at: int) -> Distribution:
    """From a block of a status page. Nonsense there gives nonsense here, but no error."""
    low, high = words[at + LOW], words[at + HIGH]
    if not 1 <= low <= high <= BUCKETS:
        return NOTHING
    counts = words[at + COUNTS + low - 1 : at + COUNTS + high].tolist()
    return Distribution(words[at + SUM], tuple(zip(compress(range(low - 1, high), counts), filter(None, counts), strict=True)))
