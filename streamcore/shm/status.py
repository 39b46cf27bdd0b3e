"""The status page of a node, version 2: one small segment, written by the node alone, readable from outside even when it hangs.

 word   type field            meaning (one word is 8 bytes; every field is stored by one 8-byte store, so it never tears)
 0      u64  magic            stored last by the coordinator
 1      u64  version
 2      u64  edge_count       rows below
 3      u64  pid              of the process
 4      u64  incarnation      n-th process of this node in this run, from 1
 5      u64  state            index into STATES
 6      u64  loop_count       turns of the main loop
 7      u64  busy_since_ns    monotonic time at which the running process() began; 0: it waits
 8      u64  heartbeat_ns     monotonic time of the last turn
 9      u64  consumed         packets taken by process(), over all inputs
 10     u64  produced         packets emitted, over all outputs
 11     u64  emitted          the same, of a source
 12     u64  failed           packets that failed here: process() raised, a payload was refused, or on_completed() raised over one
 13     u64  refused          messages that were no messages of ours
 14     u64  work_ns          time inside node code
 15     u64  wait_ns          time without anything to do
 16     u64  credit_wait_ns   time waiting for a credit, an entry or a slot
 17     u64  leases           packets that node code holds at this moment
 18     u64  copied           payloads that had to be copied into a slot
 19     u64  position         of a source with an on_completed: the position up to which it was told of everything, plus 1
 20     u64  position_emitted of a source: the highest position emitted, plus 1
 21     u64  current_edge     of the packet in process() while busy_since_ns is set: its edge
 22     u64  current_entry    its entry
 23     u64  current_sequence its sequence
 24     u64  source_ended     1: the source's run() has returned; a successor only delivers what is left
 25     u64  waits_for_credit 1 while the main loop waits for a credit, an entry or a slot: slow consumers, not a hang
 26     u64  alive_ns         monotonic time at which the lifeline's thread last ticked, once a second at most
 32 ..  rows of 16 words, one per edge of the node
  + 0   u64  edge             number of the edge in the plan
  + 1 .. + 9                  EdgeCounters, in the order of its fields
  + 10  u64  marks_word       input edges: the word at which its marks begin; 0: there are none
  + 11  u64  marks_count      one word per entry of the producer's ring
 then   user metrics: USER_METRICS_MAX rows of 8 words: name (56 bytes UTF-8, zero padded), then an f64
 then   blocks of shm/histogram.py: work, end to end, then for each row of an edge how long its packets waited (of output edges: unused)
 then   spans: SPANS_MAX rows of SPAN_WORDS words, each what one traced packet met here, written in turn: the number of the span plus 1
        (stored last; 0 while it is written), then the fields of Span
 then   marks: processed[edge][entry] = 8 x (sequence + 1) + outcome of the input that was processed and let go of, stored after its
        outputs were committed and before it completes, and again when an output of it is not delivered; a successor does not process it

Counters of both ends of an edge exist; the producer's row is the truth for sent, completed, dropped, failed, in_flight and bytes, the
consumer's for taken, redelivered and waiting.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from streamcore import limits
from streamcore.errors import LayoutError
from streamcore.shm import distribution, segment
from streamcore.shm.distribution import NOTHING, Distribution
from streamcore.shm.histogram import BLOCK_WORDS
from streamcore.shm.words import words

MAGIC = 0x3154415453525453  # "STRSTAT1"
VERSION = 2
STATES = ("planned", "starting", "ready", "draining", "done")
FIELDS: tuple[str, ...] = ("magic", "version", "edge_count", "pid", "incarnation", "state", "loop_count", "busy_since_ns")
FIELDS += (
    "heartbeat_ns",
    "consumed",
    "produced",
    "emitted",
    "failed",
    "refused",
    "work_ns",
    "wait_ns",
    "credit_wait_ns",
    "leases",
    "copied",
    "position",
    "position_emitted",
    "current_edge",
    "current_entry",
    "current_sequence",
    "source_ended",
    "waits_for_credit",
    "alive_ns",
)
WORD = {name: index for index, name in enumerate(FIELDS)}
ROWS_WORD, ROW_WORDS = 32, 16
MARKS_WORD, MARKS_COUNT = 10, 11
METRIC_WORDS, METRIC_NAME_BYTES = 8, 56
SPAN_WORDS = 11

assert len(FIELDS) <= ROWS_WORD


class EdgeCounters(msgspec.Struct, frozen=True):
    """Counts since the run began. `sent` counts every packet offered to the edge: sent = completed + dropped + failed + in_flight."""

    sent: int = 0
    taken: int = 0
    completed: int = 0
    dropped: int = 0
    failed: int = 0
    redelivered: int = 0
    bytes: int = 0
    in_flight: int = 0
    waiting: int = 0


class Span(msgspec.Struct, frozen=True, array_like=True):
    """What one traced packet met at one node; times in monotonic nanoseconds.

    `origin_ns`: when the packet at the beginning of the trace was emitted, which names the trace. `edge`: by which the packet came, NO_EDGE
    where the trace begins. `sent_ns` to `began_ns` it waited, to `ended_ns` the node had it, of that `blocked_ns` without credit for an
    output. `failed`: 1 if it failed here. `outputs`: packets that were made of it.
    """

    origin_ns: int
    edge: int
    sequence: int
    capture_ns: int
    sent_ns: int
    began_ns: int
    ended_ns: int
    blocked_ns: int
    failed: int = 0
    outputs: int = 0


class NodeStatus(msgspec.Struct, frozen=True):
    """A status page as read at one moment. Times in monotonic nanoseconds, `state` one of STATES. Distributions only if asked for.

    `work`: in node code per packet or batch; `end_to_end`: from capture to the end of the node's work on it; `waits`: by input edge, from
    sending to taking.
    """

    pid: int
    incarnation: int
    state: str
    loop_count: int
    busy_since_ns: int
    heartbeat_ns: int
    consumed: int
    produced: int
    emitted: int
    failed: int
    refused: int
    work_ns: int
    wait_ns: int
    credit_wait_ns: int
    leases: int
    copied: int
    position: int
    position_emitted: int
    current_edge: int
    current_entry: int
    current_sequence: int
    source_ended: int
    waits_for_credit: int
    alive_ns: int
    edges: dict[int, EdgeCounters]
    metrics: dict[str, float]
    work: Distribution = NOTHING
    end_to_end: Distribution = NOTHING
    waits: dict[int, Distribution] = {}


EDGE_FIELDS = EdgeCounters.__struct_fields__
EDGE_WORD = {name: index + 1 for index, name in enumerate(EDGE_FIELDS)}
WORK, END_TO_END, FIRST_WAIT = 0, 1, 2  # blocks, in their order
_COPIED_FIELDS = tuple(name for name in NodeStatus.__struct_fields__ if name in WORD and name != "state")

assert len(EDGE_FIELDS) + 1 == MARKS_WORD


Edges = Sequence[tuple[int, int]]  # (edge, marks): marks is entry_count of the producer's ring for input edges, 0 for output edges


def _blocks_word(edge_count: int) -> int:
    return ROWS_WORD + edge_count * ROW_WORDS + limits.USER_METRICS_MAX * METRIC_WORDS


def _spans_word(edge_count: int) -> int:
    return _blocks_word(edge_count) + (FIRST_WAIT + edge_count) * BLOCK_WORDS


def _marks_word(edge_count: int) -> int:
    return _spans_word(edge_count) + limits.SPANS_MAX * SPAN_WORDS


def status_bytes(edges: Edges) -> int:
    return (_marks_word(len(edges)) + sum(marks for _, marks in edges)) * 8


def format_status(fd: int, edges: Edges) -> None:
    """Prepare a fresh page for a node with these edges; the magic is stored last."""
    with segment.attach(fd, status_bytes(edges), writable=True, what="status page") as memory:
        words = memoryview(memory).cast("Q")
        marks_word = _marks_word(len(edges))
        for row, (edge, marks) in enumerate(edges):
            start = ROWS_WORD + row * ROW_WORDS
            words[start] = edge
            words[start + MARKS_WORD], words[start + MARKS_COUNT] = (marks_word if marks else 0), marks
            marks_word += marks
        words[WORD["edge_count"]], words[WORD["version"]] = len(edges), VERSION
        words[WORD["magic"]] = MAGIC
        words.release()


def _page_bytes(memory: mmap.mmap, edge_count: int, size: int) -> int:
    """How long a page with these rows is; its rows are only looked at if they lie inside."""
    nbytes = _marks_word(edge_count) * 8
    if nbytes <= size:
        for row in range(edge_count):
            nbytes += 8 * struct.unpack_from("<Q", memory, (ROWS_WORD + row * ROW_WORDS + MARKS_COUNT) * 8)[0]
    return nbytes


def _attach(fd: int, *, writable: bool) -> tuple[mmap.mmap, int]:
    size = os.fstat(fd).st_size
    if size < _marks_word(0) * 8:
        raise LayoutError(f"status page: found {size} bytes, expected at least {_marks_word(0) * 8}")
    memory = segment.attach(fd, size, writable=writable, what="status page")
    magic, version, edge_count = struct.unpack_from("<QQQ", memory)
    if (magic, version) != (MAGIC, VERSION) or _page_bytes(memory, edge_count, size) != size:
        memory.close()
        found = f"magic {magic:#x}, version {version}, {edge_count} edges in {size} bytes"
        raise LayoutError(f"status page: found {found}, expected magic {MAGIC:#x}, version {VERSION}")
    return memory, edge_count


class StatusReader:
    """Reads a page without asking its node. Works on the page of a dead process as well."""

    def __init__(self, fd: int):
        self._memory, self._edge_count = _attach(fd, writable=False)
        self._words = memoryview(self._memory).cast("Q")

    def read(self, distributions: bool = False) -> NodeStatus:
        words = self._words
        edges = {}
        for start in range(ROWS_WORD, ROWS_WORD + self._edge_count * ROW_WORDS, ROW_WORDS):
            edges[words[start]] = EdgeCounters(*words[start + 1 : start + 1 + len(EDGE_FIELDS)])
        plain: dict[str, Any] = {name: words[WORD[name]] for name in _COPIED_FIELDS}
        state = STATES[min(words[WORD["state"]], len(STATES) - 1)]
        found = NodeStatus(state=state, edges=edges, metrics=self._metrics(), **plain)
        return self._with_distributions(found) if distributions else found

    def _with_distributions(self, page: NodeStatus) -> NodeStatus:
        first = _blocks_word(self._edge_count)
        blocks = [distribution.read(self._words, first + block * BLOCK_WORDS) for block in range(FIRST_WAIT + self._edge_count)]
        waits = dict(zip(page.edges, blocks[FIRST_WAIT:], strict=False))
        return msgspec.structs.replace(page, work=blocks[WORK], end_to_end=blocks[END_TO_END], waits=waits)

    def spans(self, count: int = limits.SPANS_MAX) -> list[Span]:
        """Of the packets that were traced here last, the latest first, `count` at most. One that is being written is left out."""
        latest = self._latest_span()
        return self._spans(range(latest, max(0, latest - min(count, limits.SPANS_MAX)), -1))

    def spans_after(self, number: int) -> tuple[int, list[Span]]:
        """The number of the latest span, and those after `number` that are still kept, in their order."""
        latest = self._latest_span()
        return latest, self._spans(range(max(number, latest - limits.SPANS_MAX) + 1, latest + 1))

    def _latest_span(self) -> int:
        first = _spans_word(self._edge_count)
        return max(self._words[first : first + limits.SPANS_MAX * SPAN_WORDS : SPAN_WORDS].tolist())

    def _spans(self, numbers: range) -> list[Span]:
        words, first, found = self._words, _spans_word(self._edge_count), []
        for number in numbers:
            at = first + (number - 1) % limits.SPANS_MAX * SPAN_WORDS
            stamp, *fields = words[at : at + SPAN_WORDS].tolist()
            if stamp == number == words[at]:
                found.append(Span(*fields))
        return found

    def marks(self, edge: int) -> list[int]:
        """One word per entry of an input edge's producer; see the table. Raises KeyError for an edge of other nodes."""
        words = self._words
        for start in range(ROWS_WORD, ROWS_WORD + self._edge_count * ROW_WORDS, ROW_WORDS):
            if words[start] == edge:
                first = words[start + MARKS_WORD]
                return words[first : first + words[start + MARKS_COUNT]].tolist() if first else []
        raise KeyError(edge)

    def _metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        start = (ROWS_WORD + self._edge_count * ROW_WORDS) * 8
        for offset in range(start, start + limits.USER_METRICS_MAX * METRIC_WORDS * 8, METRIC_WORDS * 8):
            if not self._memory[offset]:
                break  # they are given out in order
            name, value = struct.unpack_from(f"<{METRIC_NAME_BYTES}sd", self._memory, offset)
            found[name.rstrip(b"\0").decode("utf-8", "replace")] = value
        return found

    def close(self) -> None:
        self._words.release()
        self._memory.close()


class StatusWriter:
    """The node's side: `words[WORD[name]] = value`, rows by `row(edge)`, user metrics by `metric(name)`."""

    def __init__(self, fd: int):
        self._memory, self._edge_count = _attach(fd, writable=True)
        self.words = words(memoryview(self._memory).cast("Q"))
        self._doubles = memoryview(self._memory).cast("d")
        self._rows = {self.words[w]: w for w in range(ROWS_WORD, ROWS_WORD + self._edge_count * ROW_WORDS, ROW_WORDS)}
        self._metric_places = self._known_metrics()

    def _known_metrics(self) -> dict[str, int]:
        """Metrics of a predecessor go on."""
        start, found = ROWS_WORD + self._edge_count * ROW_WORDS, {}
        for word in range(start, start + limits.USER_METRICS_MAX * METRIC_WORDS, METRIC_WORDS):
            name = self._memory[word * 8 : word * 8 + METRIC_NAME_BYTES].rstrip(b"\0")
            if name:
                found[name.decode("utf-8", "replace")] = word + METRIC_WORDS - 1
        return found

    def set(self, name: str, value: int) -> None:
        self.words[WORD[name]] = value

    def get(self, name: str) -> int:
        return self.words[WORD[name]]

    def counters(self, edge: int) -> EdgeCounters:
        """What this page says of an edge: after a restart, what the predecessor has counted."""
        start = self._rows[edge] + 1
        return EdgeCounters(*self.words[start : start + len(EDGE_FIELDS)])

    def marks(self, edge: int) -> memoryview:
        """One word per entry of an input edge's producer; see the table."""
        start = self.words[self._rows[edge] + MARKS_WORD]
        return words(self.words[start : start + self.words[self._rows[edge] + MARKS_COUNT]])

    def row(self, edge: int) -> int:
        """The word at which an edge's row begins; add EDGE_WORD[name]. Raises KeyError for an edge of other nodes."""
        return self._rows[edge]

    def histogram(self, block: int) -> int:
        """The word at which that of WORK or END_TO_END begins; histogram.note counts there."""
        return _blocks_word(self._edge_count) + block * BLOCK_WORDS

    def waits(self, edge: int) -> int:
        """The same for an input edge. Raises KeyError for an edge of other nodes."""
        return self.histogram(FIRST_WAIT + (self._rows[edge] - ROWS_WORD) // ROW_WORDS)

    @property
    def spans_word(self) -> int:
        """The word at which the spans begin."""
        return _spans_word(self._edge_count)

    def metric(self, name: str) -> UserMetric:
        """A named number on the page. Raises ValueError for a name too long, or one more than USER_METRICS_MAX."""
        raw = name.encode()
        if name not in self._metric_places:
            if not 0 < len(raw) <= METRIC_NAME_BYTES or b"\0" in raw:
                raise ValueError(f"metric name {name!r}: 1 to {METRIC_NAME_BYTES} bytes, no NUL")
            if len(self._metric_places) >= limits.USER_METRICS_MAX:
                raise ValueError(f"metric {name!r}: a node has at most {limits.USER_METRICS_MAX} of its own")
            start = ROWS_WORD + self._edge_count * ROW_WORDS + len(self._metric_places) * METRIC_WORDS
            self._memory[start * 8 : start * 8 + METRIC_NAME_BYTES] = raw.ljust(METRIC_NAME_BYTES, b"\0")
            self._metric_places[name] = start + METRIC_WORDS - 1
        return UserMetric(self._doubles, self._metric_places[name])


class UserMetric:
    """One number that node code publishes; each change is one 8-byte store."""

    def __init__(self, doubles: memoryview[float], place: int):
        self._doubles, self._place = doubles, place

    def add(self, amount: float = 1) -> None:
        self._doubles[self._place] += amount

    def set(self, value: float) -> None:
        self._doubles[self._place] = value
