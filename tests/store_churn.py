"""A durable store as a queue that never stands still: much goes through, little is kept, the file stays as large as it is.

`tools/durable churn --through 20GiB --keep 200MiB` prints the size of the file at each tenth as JSON. Its bound is five times what is
kept, so that it is not the bound that keeps it flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import deque
from pathlib import Path

from store_kills import Broken, fast_folder

from streamcore.durable import files
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore
from streamcore.spec.scalars import parse_size

SIZES_BYTES = (200, 1024, 4000, 20_000, 150_000)  # small ones share pages, large ones have some of their own in a row
GROUP = 32
GROWTH_MAX = 1.15  # of the largest file after the first fifth
NOISE = random.Random(1).randbytes(max(SIZES_BYTES) * 2)


def entry(number: int, chance: random.Random) -> Entry:
    nbytes = chance.choice(SIZES_BYTES)
    first = number % 1000
    return Entry(number.to_bytes(16, "big"), number, Head("event", "source", "bytes"), NOISE[first : first + nbytes])


def churn(path: Path, through_bytes: int, keep_bytes: int, seed: int) -> list[int]:
    """Sizes of the file when each tenth has gone through. Raises Broken unless all comes out in order and whole."""
    chance = random.Random(seed)
    sizes: list[int] = []
    kept: deque[tuple[int, int]] = deque()
    put = kept_bytes = expected = 0
    with DurableStore(path, Options(max_bytes=5 * keep_bytes, dedup_max=1000)) as store:
        while put < through_bytes:
            entries = [entry(store.counters.next_sequence + at, chance) for at in range(GROUP)]
            if store.append(entries) < GROUP:
                raise Broken(f"full ({store.full}) with {kept_bytes} bytes of records, though it may have {5 * keep_bytes}")
            put += (more := sum(len(each.payload) for each in entries))
            kept_bytes += more
            for item in store.deliver(2 * GROUP):
                expected += 1
                content = item.record.payload
                if item.record.sequence != expected or content != NOISE[expected % 1000 : expected % 1000 + len(content)]:
                    raise Broken(f"found record {item.record.sequence}, expected {expected} as it was stored")
                kept.append((expected, len(content)))
            while kept_bytes > keep_bytes:
                sequence, nbytes = kept.popleft()
                store.ack(sequence)
                kept_bytes -= nbytes
            while len(sizes) < put * 10 // through_bytes:
                sizes.append(os.path.getsize(path / files.DATA))
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", type=parse_size, default="20GiB", help="(default: %(default)s)")
    parser.add_argument("--keep", type=parse_size, default="200MiB", help="records that wait (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    memory = Path("/dev/shm")
    parser.add_argument("--folder", type=Path, default=memory, help="five times --keep go there at most (default: %(default)s)")
    given = parser.parse_args()
    folder, began_s = fast_folder("sc-churn-", given.folder), time.monotonic()
    try:
        sizes = churn(folder / "queue", given.through, given.keep, given.seed)
    except Broken as broken:
        sys.stderr.write(f"seed {given.seed}: {broken}; the store is kept in {folder}\n")
        return 1
    shutil.rmtree(folder)
    found = {"through_bytes": given.through, "keep_bytes": given.keep, "file_bytes": sizes}
    sys.stdout.write(json.dumps(found | {"seconds": round(time.monotonic() - began_s, 1)}) + "\n")
    if max(sizes) > GROWTH_MAX * sizes[1]:
        sys.stderr.write(f"the file has grown from {sizes[1]} bytes to {max(sizes)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
