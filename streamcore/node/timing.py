"""How long packets wait and are worked on, as one process counts it: histograms and the spans of traced packets, on its status page."""

from __future__ import annotations

import os
from typing import Any, Final

from streamcore import limits
from streamcore.node.lease import Record
from streamcore.shm.histogram import note
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import END_TO_END, SPAN_WORDS, WORK, StatusWriter
from streamcore.shm.words import put_span
from streamcore.wire import messages

_SPANS_MAX: Final = limits.SPANS_MAX
_SPAN_WORDS: Final = SPAN_WORDS
_TRACE_BURST_NS: Final = limits.TRACE_BURST_NS
_TRACE_EVERY_NS: Final = limits.TRACE_EVERY_NS
_REFUSED: Final = messages.REFUSED
OFF: Final = "STREAMCORE_TIMINGS"  # environment variable; 0: nothing is counted, to measure what counting costs


class Timing:
    """Of one process: every duration and span is on the page at once."""

    def __init__(self, status: StatusWriter):
        self.on = os.environ.get(OFF) != "0"
        self.is_source = False
        self._words, self._spans_word = status.words, status.spans_word
        # As objects, and here they cost no look-up, per packet.
        self._work: Any = status.histogram(WORK)
        self._end_to_end: Any = status.histogram(END_TO_END)
        self._note, self._put_span = note, put_span
        stamps = status.words[self._spans_word : self._spans_word + _SPANS_MAX * _SPAN_WORDS : _SPAN_WORDS]
        self._next_span = max(stamps)

    def work(self, ns: int) -> None:
        """One call of node code."""
        self._note(self._words, self._work, ns)

    def packet(self, record: Record, waits: Any, capture_ns: int, trace: Any, began_ns: int, ended_ns: int, blocked_ns: int) -> None:
        """An input is done with: how long it waited, counted at the word `waits`, and how old it is."""
        self._note(self._words, waits, began_ns - record.sent_ns)
        if capture_ns > 0:
            self._note(self._words, self._end_to_end, ended_ns - capture_ns)
        if trace and 0 < trace[0][1] <= began_ns:
            edge, failed = record.inlet.plan.id, int(record.outcome >= _REFUSED)
            times = record.sent_ns, began_ns, ended_ns, blocked_ns
            self.span(trace[0][1], edge, record.sequence, capture_ns, times, failed, record.derived)

    def span(
        self, origin_ns: int, edge: int, sequence: int, capture_ns: int, times: tuple[int, int, int, int], failed: int, outputs: int
    ) -> None:
        """See status.Span; `times`: sent, began, ended and blocked."""
        number = self._next_span
        at = self._spans_word + number % _SPANS_MAX * _SPAN_WORDS
        self._next_span = number + 1
        sent_ns, began_ns, ended_ns, blocked_ns = times
        begun_ns = max(0, min(capture_ns, ended_ns))
        self._put_span(
            self._words, at, number, origin_ns, edge, sequence, begun_ns, sent_ns, began_ns, ended_ns, blocked_ns, failed, outputs
        )


class Tracer:
    """Decides which packets of one port begin a trace: those that come by no edge, at most one every TRACE_EVERY_NS in the long run."""

    def __init__(self, timing: Timing | None):
        self.next_ns = 0  # a packet from then on may begin one
        self._timing = timing

    def begin(self, sequence: int, capture_ns: int, now_ns: int, blocked_ns: int) -> None:
        """A source worked at the packet since its capture; elsewhere it has waited until now."""
        self.next_ns = max(self.next_ns, now_ns - _TRACE_BURST_NS) + _TRACE_EVERY_NS
        timing = self._timing
        if timing is not None:
            sent_ns = max(0, min(capture_ns, now_ns))
            times = sent_ns, sent_ns if timing.is_source else now_ns, now_ns, blocked_ns
            timing.span(now_ns, NO_EDGE, sequence, capture_ns, times, 0, 1)
