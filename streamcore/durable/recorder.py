"""The writer of a recording: appends records to segment after segment, and deletes the oldest ones. One process owns a recording.

PATH/N.seg and N.idx are the segments, see segment.py. PATH/owner is locked by the process that may write.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from streamcore.clock import Clock
from streamcore.durable import files, record, segment
from streamcore.durable.options import RecorderOptions
from streamcore.durable.segment import HEADER, Index
from streamcore.errors import PayloadError, StoreError

IDS_REMEMBERED = 65536  # more than the windows of all edges of a port: so many packets may come again after a crash
RUN_BYTES = 16
WRITES_MAX = 512  # buffers of one pwritev(): two a record; the kernel takes 1,024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class _Closed:
    """A segment that is written no more."""

    first_sequence: int
    next_sequence: int
    nbytes: int  # its index included
    stored_ns: int


class Recorder:
    """Open the recording at `path`, which is made if need be, and own it until close().

    One thread at a time; never used after a fork.

    Args:
      run: what names whose packets are stored, cut to 16 bytes. Ids are told apart by it: a source gives the same ids again in another run.
    Attributes:
      findings: what was wrong with the files and what was done about it, a sentence each.
      full: why the last append() stored less than it was given: "" if it did not, max_bytes or disk.
      next_sequence: of the next record. nbytes: what all segments take.
      dropped, deleted: records that drop_new refused, and that were deleted with their segment, since this was made.

    Raises:
      StoreLocked: another process owns it.
      StoreError: it cannot be written at all.
    """

    Options = RecorderOptions
    Entry = record.Entry
    Head = record.Head
    pack_json = staticmethod(record.pack_json)

    def __init__(self, path: Path | str, options: RecorderOptions | None = None, run: str = "", clock: Clock | None = None):
        self.path, self.options, self._run = Path(path), options or RecorderOptions(), run.encode()[:RUN_BYTES].ljust(RUN_BYTES, b"\0")
        self._clock = clock or Clock()
        self.findings: list[str] = []
        self.full, self.dropped, self.deleted, self.nbytes = "", 0, 0, 0
        self._closed: list[_Closed] = []
        self._ids: OrderedDict[bytes, None] = OrderedDict()
        self._fd = -1  # of the segment that is written; -1: the disk has no room to begin one
        self._first = 1  # its first sequence
        self._first_stored_ns = 0
        self._index = Index(1)
        self._owner = files.lock(self.path, "recording", "streamctl recording")
        try:
            self._open()
        except OSError as error:
            self._let_go()
            raise StoreError(f"recording {self.path}: {error.strerror}") from None
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write the index of the last segment, so that nobody has to read it through, and let go of the files."""
        try:
            if self._index.blocks:
                self._save_index(segment.path_of(self.path, self._first), self._index)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for descriptor in (self._fd, self._owner):
            if descriptor >= 0:
                os.close(descriptor)

    # --- in

    @property
    def next_sequence(self) -> int:
        return self._index.next_sequence

    def knows(self, id16: bytes) -> bool:
        """Was a packet of this id stored lately, in this run?"""
        return id16 in self._ids

    def append(self, entries: Sequence[record.Entry]) -> int:
        """Store entries in order. When it returns they are on the disk.

        Returns:
          How many are settled, from the first on: stored, or dropped by policy. Fewer than all: `full` says why; give the rest again later.
        Raises:
          PayloadError: an entry that would not fit an empty recording; nothing was stored.
          StoreError: the disk fails.
        """
        now_ns = self._clock.wall_ns()
        fronts = []
        for number, entry in enumerate(entries):
            self.refuse_too_large(entry)
            fronts.append(record.encode_front(entry, self.next_sequence + number, now_ns))
        self.tend()
        done = 0
        while done < len(entries):
            stored = self._append_some(entries[done:], fronts[done:], now_ns)
            done += stored
            if stored:
                self.full = ""
            elif self.options.full != "drop_oldest" or not self._delete_oldest():
                break
        if done < len(entries) and self.options.full == "drop_new":
            self.dropped += len(entries) - done
            return len(entries)
        return done

    def refuse_too_large(self, entry: record.Entry) -> None:
        """Raises PayloadError for an entry that would not fit an empty recording."""
        allowed = self.options.max_bytes // 2
        if len(entry.payload) > allowed:
            raise PayloadError(
                f"recording {self.path}: a payload of {len(entry.payload)} bytes, expected at most half of max_bytes, {allowed}"
            )

    def tend(self) -> None:
        """Close the segment if it is old enough, and delete those that are too old."""
        now_ns = self._clock.wall_ns()
        if self._index.blocks and now_ns - self._first_stored_ns >= self.options.segment_s * 1e9:
            self._roll()
        while self.options.max_age_s and self._closed and now_ns - self._closed[0].stored_ns >= self.options.max_age_s * 1e9:
            self._delete_oldest()

    @property
    def due_s(self) -> float | None:
        """In how many seconds tend() has something to do; None: not before the next append()."""
        now_ns, dues = self._clock.wall_ns(), []
        if self._index.blocks:
            dues.append(self._first_stored_ns + self.options.segment_s * 1e9)
        if self.options.max_age_s and self._closed:
            dues.append(self._closed[0].stored_ns + self.options.max_age_s * 1e9)
        return max(0.0, (min(dues) - now_ns) / 1e9) if dues else None

    def _append_some(self, entries: Sequence[record.Entry], fronts: Sequence[bytes], now_ns: int) -> int:
        """Store those that fit this segment, or begin the next one; how many. `full` says why it were none."""
        if self._fd < 0 and not self._begin(self.next_sequence):
            return 0
        room = self.options.segment_bytes - self._index.end
        allowed = self.options.max_bytes - self.nbytes
        sizes: list[int] = []
        total = 0
        for entry, front in zip(entries, fronts, strict=True):
            total += len(front) + len(entry.payload)
            if len(sizes) == WRITES_MAX // 2 or total > min(room, allowed):
                break
            sizes.append(len(front) + len(entry.payload))
        if not sizes:
            first = len(fronts[0]) + len(entries[0].payload)
            if first > room and self._index.blocks:
                return self._append_some(entries, fronts, now_ns) if self._roll() else 0
            if first > allowed:
                self.full = "max_bytes"
                return 0
            sizes.append(first)  # larger than a segment should be: it has one of its own
        stored = self._write(sizes, [part for pair in zip(fronts, entries, strict=True) for part in (pair[0], pair[1].payload)])
        if stored and not self._index.blocks:
            self._first_stored_ns = now_ns
        for entry, nbytes in zip(entries[:stored], sizes, strict=False):
            self._index.add(self.next_sequence, nbytes, entry.wall_ns, now_ns)
            self._remember(entry.id16)
            self.nbytes += nbytes
        return stored

    def _write(self, sizes: Sequence[int], parts: Sequence[bytes | memoryview]) -> int:
        """Append whole records and make them durable; how many. Nothing of another one is left behind them."""
        start, total = self._index.end, sum(sizes)
        buffers = [memoryview(part).cast("B") for part in parts[: 2 * len(sizes)]]
        done = 0
        try:
            while done < total:
                count = os.pwritev(self._fd, buffers, start + done)
                done += count
                while buffers and count >= len(buffers[0]):
                    count -= len(buffers.pop(0))
                if count:
                    buffers[0] = buffers[0][count:]
        except OSError as error:
            while sizes and (sum(sizes) > done or error.errno not in _NO_ROOM):
                sizes = sizes[:-1]
            self._cut(start + sum(sizes))
            self._note_full(error)
        if sizes:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._cut(start)  # what the kernel could not write it may forget: it must not be found here later
                self._note_full(error)
                return 0
        return len(sizes)

    def _note_full(self, error: OSError) -> None:
        if error.errno not in _NO_ROOM:
            raise StoreError(f"recording {self.path}: {error.strerror}") from None
        self.full = "disk"

    def _cut(self, end: int) -> None:
        try:
            os.ftruncate(self._fd, end)
        except OSError as error:
            raise StoreError(f"recording {self.path}: {error.strerror}") from None

    # --- segments

    def _open(self) -> None:
        """Take stock; go on in the last segment if it is of this run and was not closed."""
        firsts = segment.first_sequences(self.path)
        for first in firsts[:-1]:
            self._take_closed(first, segment.read_index(segment.path_of(self.path, first)))
        last = firsts[-1] if firsts else 0
        index = segment.read_index(segment.path_of(self.path, last)) if firsts else None
        if index is not None or not firsts:
            next_sequence = index.next_sequence if index is not None else 1
            if index is not None:
                self._take_closed(last, index)
            self._index = Index(next_sequence)
            self._begin(next_sequence)
        else:
            self._go_on(last)
        self._recall()

    def _go_on(self, first: int) -> None:
        """With a segment that a crash has left: what is torn at its end was completed by nobody, and is cut off."""
        path = segment.path_of(self.path, first)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        size = os.fstat(self._fd).st_size
        header = segment.decode_header(os.pread(self._fd, HEADER.size, 0), first)
        self._first, self._index = first, segment.scan(self._fd, first, check=True)
        if size > self._index.end and size > HEADER.size:
            self.findings.append(f"{path.name}: cut off {size - max(self._index.end, HEADER.size)} bytes of a torn end")
            os.ftruncate(self._fd, self._index.end)
        os.fdatasync(self._fd)  # what was written before a kill is not on the disk for that
        self.nbytes += self._index.end
        if not self._index.blocks:  # nothing in it: it is begun again
            os.close(self._fd)
            self._fd = -1
            self.nbytes -= self._index.end
            self._index = Index(first)
            path.unlink()
            self._begin(first)
            return
        self._first_stored_ns = self._index.blocks[0].stored_ns
        if header is None:
            self.findings.append(f"{path.name}: its header is damaged; its records are not")
        if header is None or header[1] != self._run:
            self._roll()

    def _take_closed(self, first: int, index: Index | None) -> None:
        path = segment.path_of(self.path, first)
        if index is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                index = segment.scan(fd, first, check=True)
            finally:
                os.close(fd)
            self._save_index(path, index)
        nbytes = path.stat().st_size + segment.INDEX_HEADER.size + len(index.blocks) * segment.BLOCK.size
        stored_ns = max((block.stored_ns for block in index.blocks), default=0)
        self._closed.append(_Closed(first, index.next_sequence, nbytes, stored_ns))
        self.nbytes += nbytes

    def _begin(self, first: int) -> bool:
        """A new segment. False, and `full` says so, if the disk has no room for it."""
        path, fd = segment.path_of(self.path, first), -1
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            if os.pwrite(fd, segment.encode_header(first, self._clock.wall_ns(), self._run), 0) != HEADER.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)
            files.sync_folder(self.path)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                path.unlink(missing_ok=True)
            if error.errno not in _NO_ROOM:
                raise
            self.full = "disk"
            return False
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._first, self._index = fd, first, Index(first)
        self.nbytes += HEADER.size
        return True

    def _roll(self) -> bool:
        """Close the segment and begin the next. False if there is no room for that: this one is written on."""
        first, before = self._first, self._index
        if not self._begin(before.next_sequence):
            return False
        self.nbytes -= before.end
        self._save_index(segment.path_of(self.path, first), before)
        self._take_closed(first, before)
        return True

    def _save_index(self, path: Path, index: Index) -> None:
        """It only saves time: a disk without room for it is no failure."""
        new = path.with_suffix(segment.INDEX_SUFFIX + ".new")
        try:
            new.unlink(missing_ok=True)
            with open(new, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(index.encode())
            os.replace(new, path.with_suffix(segment.INDEX_SUFFIX))
        except OSError:
            new.unlink(missing_ok=True)

    def _delete_oldest(self) -> bool:
        if not self._closed:
            return False
        gone = self._closed.pop(0)
        path = segment.path_of(self.path, gone.first_sequence)
        path.unlink(missing_ok=True)
        path.with_suffix(segment.INDEX_SUFFIX).unlink(missing_ok=True)
        self.nbytes -= gone.nbytes
        self.deleted += gone.next_sequence - gone.first_sequence
        return True

    # --- ids

    def _recall(self) -> None:
        """The ids of this run's last records, from the files."""
        found: list[list[bytes]] = []
        for first in reversed(segment.first_sequences(self.path)):
            fd = os.open(segment.path_of(self.path, first), os.O_RDONLY | os.O_CLOEXEC)
            try:
                header = segment.decode_header(os.pread(fd, HEADER.size, 0), first)
                if header is None or header[1] != self._run or sum(map(len, found)) >= IDS_REMEMBERED:
                    break
                found.append([place.id16 for place in segment.Walk(fd, HEADER.size, os.fstat(fd).st_size, first)])
            finally:
                os.close(fd)
        for ids in reversed(found):
            for id16 in ids:
                self._remember(id16)

    def _remember(self, id16: bytes) -> None:
        self._ids[id16] = None
        self._ids.move_to_end(id16)
        if len(self._ids) > IDS_REMEMBERED:
            self._ids.popitem(last=False)
