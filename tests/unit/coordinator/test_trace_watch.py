"""Traces read from status pages and handed on: each once, whole, and no more at a time than the loop can bear."""

from __future__ import annotations

import os
import sys

import pytest
from fake_runs import Watcher, chain

from streamcore import limits
from streamcore.clock import ManualClock
from streamcore.coordinator.trace_watch import SETTLED_NS, TRACES_MAX, Gathering, TraceWatch
from streamcore.errors import RunError
from streamcore.node.timing import Timing
from streamcore.shm import segment
from streamcore.shm.layout import NO_EDGE
from streamcore.shm.status import StatusReader, StatusWriter, format_status, status_bytes
from streamcore.telemetry.otel import Asked

EDGES = {0: ("a.out->b.in", "a"), 1: ("b.out->c.in", "b"), 2: ("a.out->d.in", "a")}
URL = "http://127.0.0.1:4318/v1/traces"
BY_OPTION = Asked(URL, "--otel", insisted=True)
NOW = 10**12


class Pages:
    """Real status pages of the nodes a to d, and what their nodes write there."""

    def __init__(self) -> None:
        self.readers, self._timings, self._writers = {}, {}, []
        for node in "abcd":
            fd = segment.create("page", status_bytes(()))
            format_status(fd, ())
            self._writers.append(StatusWriter(fd))
            self.readers[node], self._timings[node] = StatusReader(fd), Timing(self._writers[-1])
            os.close(fd)

    def begin(self, origin_ns: int) -> None:
        self._timings["a"].span(origin_ns, NO_EDGE, origin_ns, origin_ns, (origin_ns, origin_ns, origin_ns, 0), 0, 1)

    def pass_on(self, node: str, edge: int, origin_ns: int, outputs: int, at: int = 1) -> None:
        times = (origin_ns + at, origin_ns + at, origin_ns + at + 1, 0)
        self._timings[node].span(origin_ns, edge, 0, origin_ns, times, 0, outputs)

    def whole(self, origin_ns: int) -> None:
        self.begin(origin_ns)
        self.pass_on("b", 0, origin_ns, 1)
        self.pass_on("c", 1, origin_ns, 0, at=2)


class FakeSink:
    """In the place of the exporter, which is another program's."""

    def __init__(self) -> None:
        self.sent, self.room, self.failing, self.why, self.lost = [], 10_000, False, "", (0, 0)

    def send(self, trace: object, origin_ns: int, offset_ns: int) -> bool:
        self.sent.append((origin_ns, trace, offset_ns))
        return True

    def close(self, within_s: float) -> None:
        pass


@pytest.fixture
def pages():
    return Pages()


@pytest.fixture
def gathering(pages):
    return Gathering(pages.readers, EDGES)


def origins(found: list) -> list[int]:
    return [origin_ns for origin_ns, _ in found]


def test_a_trace_is_told_once_when_nothing_more_comes_of_it(pages, gathering):
    pages.whole(NOW)
    assert gathering.complete(NOW, SETTLED_NS) == []
    ((origin_ns, trace),) = gathering.complete(NOW + SETTLED_NS, SETTLED_NS)
    assert (origin_ns, [hop.node for hop in trace.hops]) == (NOW, ["a", "b", "c"])
    assert gathering.complete(NOW + 9 * SETTLED_NS, 0) == []


def test_what_is_on_its_way_is_told_when_it_has_arrived(pages, gathering):
    pages.begin(NOW)
    pages.pass_on("b", 0, NOW, 1)
    assert gathering.complete(NOW, 0) == [] == gathering.complete(NOW + 60 * SETTLED_NS, 0)
    pages.pass_on("c", 1, NOW, 0, at=2)
    assert origins(gathering.complete(NOW + 61 * SETTLED_NS, 0)) == [NOW]


def test_of_two_ways_the_longer_is_told_and_the_other_never(pages, gathering):
    pages.begin(NOW)
    pages.pass_on("d", 2, NOW, 0)
    assert gathering.complete(NOW, SETTLED_NS) == []
    pages.pass_on("b", 0, NOW, 1)
    pages.pass_on("c", 1, NOW, 0, at=2)
    ((_, trace),) = gathering.complete(NOW + 1, 0)
    assert trace.last == "c"
    pages.pass_on("d", 2, NOW, 0, at=9)  # delivered again, after a crash
    assert gathering.complete(NOW + 2, 0) == []


def test_a_page_that_is_written_over_between_two_looks_gives_what_is_left_of_it(pages, gathering):
    for number in range(limits.SPANS_MAX + 10):
        pages.whole(NOW + 10 * number)
    found = origins(gathering.complete(NOW, 0))
    assert found == [NOW + 10 * number for number in range(10, limits.SPANS_MAX + 10)]
    pages.whole(NOW - 1)
    assert origins(gathering.complete(NOW, 0)) == [NOW - 1]


def test_packets_that_never_arrive_are_forgotten_the_oldest_first(pages, gathering, monkeypatch):
    monkeypatch.setattr(limits, "TRACED_SPANS_MAX", 100)
    for number in range(150):
        pages.begin(NOW + 10 * number)
    assert gathering.complete(NOW, 0) == []
    found = []
    for number in reversed(range(150)):
        pages.pass_on("d", 2, NOW + 10 * number, 0)
        found += origins(gathering.complete(NOW, 0))
    assert 95 <= len(found) <= 100  # one more span is known while it is looked at
    assert found == [NOW + 10 * number for number in reversed(range(150 - len(found), 150))]


# --- what is told


@pytest.fixture
def sink(monkeypatch):
    made = FakeSink()
    monkeypatch.setattr(TraceWatch, "_open", lambda *_: made)
    return made


class Clock(ManualClock):
    """Its wall clock is 77 ns ahead."""

    def wall_ns(self) -> int:
        return self.now_ns + 77


class Watching:
    """A watch of pages, and what it has told."""

    def __init__(self, pages: Pages, asked: Asked = BY_OPTION):
        self.clock, self.told, self.warnings = Clock(NOW), Watcher(), []
        self.watch = TraceWatch(asked, self.clock, self.told, self.warnings)
        self._pages, self._plan = pages, chain([], [], [])

    def open(self) -> Watching:
        self.watch.open(self._plan, "1f")
        self.watch.watch(self._plan, self._pages.readers)
        return self

    def texts(self) -> list[str]:
        return [text for kind, text in self.told.told if kind == "warning"]


def test_a_failure_is_said_once_and_once_when_it_is_over(pages, sink):
    watching = Watching(pages).open()
    sink.failing, sink.why = True, "status 503"
    for _ in range(5):
        watching.watch.look()
    sink.failing = False
    for _ in range(5):
        watching.watch.look()
    assert watching.texts() == [
        f"otel: {URL} does not take the traces (status 503); the run goes on",
        f"otel: {URL} takes the traces again",
    ]
    assert watching.warnings == watching.texts()


def test_of_too_many_in_one_look_some_of_the_whole_time_are_sent_and_the_others_counted(pages, sink):
    watching = Watching(pages).open()
    for number in range(2 * TRACES_MAX):
        pages.whole(NOW + 10 * number)
    watching.watch.look()
    watching.clock.advance(SETTLED_NS / 1e9)
    watching.watch.look()
    assert [origin_ns for origin_ns, _, _ in sink.sent] == [NOW + 10 * number for number in range(0, 2 * TRACES_MAX, 2)]
    watching.watch.close()
    assert len(watching.texts()) == 2 and f"{TRACES_MAX} traces were left out" in watching.texts()[-1]


def test_the_last_look_waits_for_nothing_and_leaves_nothing_out(pages, sink):
    watching = Watching(pages).open()
    for number in range(2 * TRACES_MAX):
        pages.whole(NOW + 10 * number)
    watching.watch.last_look()
    assert len(sink.sent) == 2 * TRACES_MAX
    assert sink.sent[0][2] == 77
    sink.lost = (3, 4_000)
    watching.watch.close()
    assert watching.texts() == [f"otel: 3 of 4000 spans did not reach {URL}"]


@pytest.mark.parametrize(
    ("wrong", "url", "found"),
    [("packages", URL, "pip install 'streamcore[otel]'"), ("address", "collector:4318", "'collector:4318', expected http://HOST:PORT")],
)
def test_what_an_option_asks_for_has_to_work_and_of_a_variable_it_is_a_warning(pages, monkeypatch, wrong, url, found):
    if wrong == "packages":
        monkeypatch.delitem(sys.modules, "streamcore.telemetry.otel_sink", raising=False)
        monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(RunError, match="--otel: ") as caught:
        Watching(pages, Asked(url, "--otel", insisted=True)).open()
    assert found in str(caught.value)
    watching = Watching(pages, Asked(url, "OTEL_EXPORTER_OTLP_ENDPOINT")).open()
    watching.watch.look()
    watching.watch.close()
    (text,) = watching.texts()
    assert found in text and text.endswith("no trace is exported, the run goes on")


def test_who_did_not_ask_has_nothing_to_look_at(pages):
    told = Watcher()
    watch = TraceWatch(None, ManualClock(NOW), told, [])
    watch.open(chain([]), "1f")
    assert not watch.watch(chain([]), pages.readers)
    watch.last_look()
    watch.close()
    assert told.told == []
