"""How long packets wait and are worked on, as one process counts it: histograms and the spans of traced packets, on its status page."""

from __future__ import annotations

import os
from typing import Any, Final

from streamcore import limits
from streamcore.node.lease import Record
from streamcore.shm.histogram import Histogram
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import END_TO_END, SPAN_WORDS, WORK, StatusWriter
from streamcore.wire import messages

_SPANS_MAX: Final = limits.SPANS_MAX
_SPAN_WORDS: Final = SPAN_WORDS
_TIMINGS_NS: Final = limits.TIMINGS_NS
_REFUSED: Final = messages.REFUSED
OFF: Final = "STREAMCORE_TIMINGS"  # environment variable; 0: nothing is counted, to measure what counting costs


class Timing:
    """Of one process. What is noted reaches the page when the node waits, and at most every TIMINGS_NS while it is busy."""

    def __init__(self, status: StatusWriter):
        self.on = os.environ.get(OFF) != "0"
        self.is_source = False
        self.work, self.end_to_end = status.histogram(WORK), status.histogram(END_TO_END)
        self._all: list[Histogram] = [self.work, self.end_to_end]
        self._words, self._spans_word = status.words, status.spans_word
        stamps = status.words[self._spans_word : self._spans_word + _SPANS_MAX * _SPAN_WORDS : _SPAN_WORDS]
        self._next_span = max(stamps)
        self._published_ns = 0

    def add(self, histogram: Histogram) -> None:
        self._all.append(histogram)

    def publish(self, now_ns: int) -> int:
        """Bring the page up to date, unless that was done just now. After how many ms it must be done; 0: nothing is left to do.

        That is one TIMINGS_NS after it may be done: a node that has packets now and then need not wake for this besides.
        """
        left_ns = self._published_ns + _TIMINGS_NS - now_ns
        if left_ns > 0:
            for histogram in self._all:
                if histogram.changed:
                    return 1 + (left_ns + _TIMINGS_NS) // 1_000_000
            return 0
        self._published_ns = now_ns
        for histogram in self._all:
            histogram.publish()
        return 0

    def publish_all(self) -> None:
        """Before the process ends."""
        for histogram in self._all:
            histogram.publish()

    def packet(self, record: Record, waits: Histogram, capture_ns: int, trace: Any, began_ns: int, ended_ns: int, blocked_ns: int) -> None:
        """An input is done with: how long it waited, and how old it is."""
        waits.note(began_ns - record.sent_ns)
        if capture_ns > 0:
            self.end_to_end.note(ended_ns - capture_ns)
        if trace and 0 < trace[0][1] <= began_ns:
            edge, failed = record.inlet.plan.id, int(record.outcome >= _REFUSED)
            times = record.sent_ns, began_ns, ended_ns, blocked_ns
            self.span(trace[0][1], edge, record.sequence, capture_ns, times, failed, record.derived)

    def span(
        self, origin_ns: int, edge: int, sequence: int, capture_ns: int, times: tuple[int, int, int, int], failed: int, outputs: int
    ) -> None:
        """See status.Span; `times`: sent, began, ended and blocked."""
        words, number = self._words, self._next_span
        at = self._spans_word + number % _SPANS_MAX * _SPAN_WORDS
        self._next_span = number + 1
        words[at] = 0
        words[at + 1], words[at + 2], words[at + 3], words[at + 4] = origin_ns, edge, sequence, max(0, min(capture_ns, times[2]))
        words[at + 5], words[at + 6], words[at + 7], words[at + 8] = times
        words[at + 9], words[at + 10] = failed, outputs
        words[at] = number + 1


class Tracer:
    """Decides which packets of one port begin a trace: those that come by no edge, at most one every TRACE_EVERY_NS in the long run."""

    def __init__(self, timing: Timing | None):
        self.next_ns = 0  # a packet from then on may begin one
        self._timing = timing

    def begin(self, sequence: int, capture_ns: int, now_ns: int, blocked_ns: int) -> None:
        """A source worked at the packet since its capture; elsewhere it has waited until now."""
        self.next_ns = max(self.next_ns, now_ns - limits.TRACE_BURST_NS) + limits.TRACE_EVERY_NS
        timing = self._timing
        if timing is not None:
            sent_ns = max(0, min(capture_ns, now_ns))
            times = sent_ns, sent_ns if timing.is_source else now_ns, now_ns, blocked_ns
            timing.span(now_ns, NO_EDGE, sequence, capture_ns, times, 0, 1)
