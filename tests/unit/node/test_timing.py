"""What a process counts of time: which durations, which packets begin a trace, and what their spans say."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from streamcore import limits
from streamcore.node.lease import Record
from streamcore.node.timing import OFF, Timing, Tracer
from streamcore.shm import segment
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import StatusReader, StatusWriter, format_status, status_bytes
from streamcore.wire import messages

MS = 1_000_000
NOW = 10_000 * MS


@pytest.fixture
def page():
    fd = segment.create("status", status_bytes([(4, 8)]))
    format_status(fd, [(4, 8)])
    yield SimpleNamespace(writer=StatusWriter(fd), reader=StatusReader(fd))
    os.close(fd)


def record(sent_ns: int, outcome: int = messages.OK) -> Record:
    inlet = SimpleNamespace(plan=SimpleNamespace(id=4))
    made = Record(inlet, 12, 0, lambda mine: None, lambda mine: None)
    made.sent_ns, made.outcome, made.derived = sent_ns, outcome, 2
    return made


def test_a_call_is_on_the_page_at_once_and_a_successor_counts_on(page):
    for count in (1, 2):
        Timing(page.writer).work(5 * MS)
        seen = page.reader.read(distributions=True)
        assert (seen.work.count, seen.work.sum_ns, seen.end_to_end.count) == (count, count * 5 * MS, 0)


@pytest.mark.parametrize(("outcome", "failed"), [(messages.OK, 0), (messages.DROPPED, 0), (messages.REFUSED, 1), (messages.FAILED, 1)])
def test_of_a_packet_its_waiting_its_age_and_its_span_are_kept(page, outcome, failed):
    timing, waits = Timing(page.writer), page.writer.waits(4)
    trace = [("camera", NOW - 9 * MS), ("motion", NOW - 5 * MS)]
    timing.packet(record(NOW - 4 * MS, outcome), waits, NOW - 10 * MS, trace, NOW, NOW + 3 * MS, 2 * MS)
    seen = page.reader.read(distributions=True)
    assert (seen.waits[4].sum_ns, seen.end_to_end.sum_ns) == (4 * MS, 13 * MS)
    (span,) = page.reader.spans()
    times = (span.origin_ns, span.capture_ns, span.sent_ns, span.began_ns, span.ended_ns, span.blocked_ns)
    assert times == (NOW - 9 * MS, NOW - 10 * MS, NOW - 4 * MS, NOW, NOW + 3 * MS, 2 * MS)
    assert (span.edge, span.sequence, span.failed, span.outputs) == (4, 12, failed, 2)


@pytest.mark.parametrize("trace", [None, [], [("camera", -5)], [("camera", NOW + 1)]])
def test_no_span_of_what_is_no_trace(page, trace):
    timing = Timing(page.writer)
    timing.packet(record(NOW - 1), page.writer.waits(4), NOW - 2, trace, NOW, NOW + 5, 0)
    assert page.reader.spans() == []


@pytest.mark.parametrize("capture_ns", [-(2**70), -1, 0, 2**70])
def test_a_capture_time_of_no_clock_is_no_age(page, capture_ns):
    timing, waits = Timing(page.writer), page.writer.waits(4)
    timing.packet(record(NOW), waits, capture_ns, [("camera", NOW - 9)], NOW, NOW + 5, 0)
    assert page.reader.read(distributions=True).end_to_end.count == 0 and len(page.reader.spans()) == 1


def test_the_last_spans_are_kept_over_a_restart_and_the_oldest_replaced(page):
    def some(count: int) -> None:
        timing = Timing(page.writer)
        for number in range(count):
            timing.span(number, 4, number, 0, (0, 0, 0, 0), 0, 0)

    some(limits.SPANS_MAX - 1)
    some(3)
    spans = page.reader.spans()
    assert len(spans) == limits.SPANS_MAX
    assert sorted(span.sequence for span in spans)[:4] == [0, 1, 2, 2]


def test_every_packet_of_a_slow_stream_begins_a_trace_and_few_of_a_fast_one():
    tracer, begun = Tracer(None), {}
    for name, step_ns in (("slow", 40 * MS), ("fast", 10_000)):
        times = range(NOW, NOW + 5_000 * MS, step_ns) if name == "slow" else range(NOW + 9_000 * MS, NOW + 11_000 * MS, step_ns)
        count = 0
        for now_ns in times:
            if now_ns >= tracer.next_ns:
                tracer.begin(0, 0, now_ns, 0)
                count += 1
        begun[name] = count
    assert begun["slow"] == 125
    assert 100 <= begun["fast"] <= 2 * 50 + limits.TRACE_BURST_NS // limits.TRACE_EVERY_NS + 1


@pytest.mark.parametrize(("is_source", "waited"), [(True, 0), (False, 7 * MS)])
def test_where_a_trace_begins_a_source_has_worked_and_a_store_has_waited(page, is_source, waited):
    timing = Timing(page.writer)
    timing.is_source = is_source
    Tracer(timing).begin(3, NOW - 7 * MS, NOW, MS)
    (span,) = page.reader.spans()
    assert (span.edge, span.origin_ns, span.began_ns - span.sent_ns) == (NO_EDGE, NOW, waited)


def test_it_can_be_switched_off(page, monkeypatch):
    assert Timing(page.writer).on
    monkeypatch.setenv(OFF, "0")
    assert not Timing(page.writer).on
