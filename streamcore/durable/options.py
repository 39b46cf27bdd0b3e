"""How a store and a recording are bounded and what they promise: the settings of their nodes, with the room that a record takes."""

from __future__ import annotations

import msgspec

from streamcore import limits
from streamcore.errors import ConfigError

FULL = ("block", "drop_oldest_acked", "drop_new")
SYNC = ("commit", "pipelined")
RECORDER_FULL = ("block", "drop_oldest", "drop_new")

BYTES_MIN = 4 * limits.MIB  # below it the pages that a transaction copies leave no room for records
RECORDS_SHARE = 0.75  # of max_bytes; the rest is for what LMDB copies before it can free, and for room too small for a large record
PAGE_BYTES = 4096
PAGE_HEADER_BYTES = 16
NODE_BYTES = 16  # LMDB's header of a record in a page, and the key
INLINE_BYTES_MAX = 2022  # a longer value has pages of its own
SEGMENT_BYTES_MIN = 64 * limits.KIB  # of a recording; below it most of the time goes into making files
INDEX_BYTES = 160  # of one record in the other tables


class Options(msgspec.Struct, frozen=True):
    """Raises ConfigError for values that contradict each other.

    Attributes:
      max_bytes: most room of the data file.
      full: what append() does when there is no room: `block` stores nothing more; `drop_oldest_acked` gives up retained records, then
        blocks; `drop_new` drops and counts.
      sync: `commit`, durable when append() returns; `pipelined`, durable one commit later, at twice the rate.
      retain_bytes, retain_s: acknowledged records stay while they take no more room than that, and, unless 0, are no older.
      dedup_window_s, dedup_max: an id that is appended again within that time, and among the last so many, is stored once.
      dead_max_bytes, dead_max_s: dead letters stay while they take no more room than that and are no older; 0: no such bound.
      max_age_s: from when on after it was stored a record that fails becomes a dead letter; 0: never.
      max_attempts: deliveries after which a record that failed each time becomes a dead letter; 0: never.
    """

    max_bytes: int = 1 * limits.GIB
    full: str = "block"
    sync: str = "commit"
    retain_bytes: int = 0
    retain_s: float = 0.0
    dedup_window_s: float = 3600.0
    dedup_max: int = 100_000
    dead_max_bytes: int = 0
    dead_max_s: float = 0.0
    max_attempts: int = 0
    max_age_s: float = 0.0

    def __post_init__(self) -> None:
        if self.max_bytes < BYTES_MIN:
            raise ConfigError(f"max_bytes: found {self.max_bytes}, expected at least {BYTES_MIN}")
        if self.full not in FULL:
            raise ConfigError(f"full: found {self.full!r}, expected one of: {', '.join(FULL)}")
        if self.sync not in SYNC:
            raise ConfigError(f"sync: found {self.sync!r}, expected one of: {', '.join(SYNC)}")
        if self.retain_bytes > self.max_bytes // 2:
            raise ConfigError(f"retain_bytes: found {self.retain_bytes}, expected at most half of max_bytes, {self.max_bytes // 2}")

    @property
    def records_bytes_max(self) -> int:
        return int(self.max_bytes * RECORDS_SHARE)


class RecorderOptions(msgspec.Struct, frozen=True):
    """Raises ConfigError for values that contradict each other.

    Attributes:
      segment_bytes, segment_s: a segment is closed when it has so many bytes, or its first record is so old.
      max_bytes: most room of all segments. max_age_s: a segment whose last record is older is deleted; 0: none is.
      full: what append() does at max_bytes, or on a full disk: `drop_oldest` deletes the oldest segment, `block` stores nothing more,
        `drop_new` drops and counts. The segment that is being written is never deleted.
    """

    segment_bytes: int = 64 * limits.MIB
    segment_s: float = 600.0
    max_bytes: int = 10 * limits.GIB
    max_age_s: float = 0.0
    full: str = "drop_oldest"

    def __post_init__(self) -> None:
        if self.full not in RECORDER_FULL:
            raise ConfigError(f"full: found {self.full!r}, expected one of: {', '.join(RECORDER_FULL)}")
        if self.segment_bytes < SEGMENT_BYTES_MIN:
            raise ConfigError(f"segment_bytes: found {self.segment_bytes}, expected at least {SEGMENT_BYTES_MIN}")
        if self.segment_bytes > self.max_bytes // 2:
            raise ConfigError(f"segment_bytes: found {self.segment_bytes}, expected at most half of max_bytes, {self.max_bytes // 2}")


def room_of(nbytes: int) -> int:
    """What a record of so many bytes takes in the file, its share of the indexes included."""
    if nbytes > INLINE_BYTES_MAX:
        return -(-(nbytes + PAGE_HEADER_BYTES) // PAGE_BYTES) * PAGE_BYTES + INDEX_BYTES
    per_page = (PAGE_BYTES - PAGE_HEADER_BYTES) // (nbytes + NODE_BYTES)
    return PAGE_BYTES // per_page + INDEX_BYTES
