"""Who asks for an export, and what the exporter is given: ids that stay, a queue with an end, no secret in what is said."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from streamcore.telemetry.otel import Asked, asked, unfit
from streamcore.telemetry.traces import Hop, Trace

MISSING = "the packages of the extra `otel` are not installed"
HOP = Hop("blur", "camera.out->blur.in", 9, 4, 5, 3, 1)
TRACE = Trace("camera", 7, 1_000, 13, False, True, (HOP,))
SPANS = 4  # of TRACE
WAIT_S = 20.0


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/"}, Asked("http://a:4318/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT")),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"},
            Asked("http://b/x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            Asked("http://a/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT", "grpc"),
        ),
    ],
)
def test_the_environment_asks_as_the_standard_says(environ, found):
    assert asked(None, environ) == found


@pytest.mark.parametrize("base", ["http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"])
def test_the_option_comes_first_and_insists(base):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b", "OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert asked(base, environ) == Asked("http://a:4318/v1/traces", "--otel", insisted=True)


@pytest.mark.parametrize("url", ["", "a:4318", "ftp://a", "http://", "http://a:port", "http://[a", "http://a:0"])
def test_what_is_no_address_of_a_collector_is_refused(url):
    assert "http://127.0.0.1:4318" in unfit(url)


def test_addresses_of_collectors_are_not():
    assert not any(map(unfit, ["http://a", "https://a.b:4318", "http://[::1]:4318/otlp"]))


class Exporter:
    """Keeps what it is given, once it is let. `answer`: what it says."""

    def __init__(self) -> None:
        self.spans, self.answers, self.let, self.gave_up = [], [], threading.Event(), False
        self.let.set()

    def export(self, spans: Sequence) -> object:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.gave_up = not self.let.wait(WAIT_S)
        fine = self.answers.pop(0) if self.answers else True
        self.spans += spans if fine else []
        return SpanExportResult.SUCCESS if fine else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


@pytest.fixture
def sink_of(monkeypatch):
    """Makes a sink that exports to an Exporter; it is closed afterwards."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason=MISSING)
    from streamcore.telemetry.otel_sink import Reason, Sink

    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_BSP_MAX_QUEUE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def make(exporter: Exporter, run_id: str = "1f", **environ: str) -> Sink:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        made.append((Sink(exporter, Reason(), "gate", "door", run_id), exporter))
        return made[-1][0]

    yield make
    for sink, exporter in made:
        exporter.let.set()
        sink.close(WAIT_S)


def exported(sink_of, trace: Trace = TRACE, origin_ns: int = 5, run_id: str = "1f", **environ: str) -> list:
    exporter = Exporter()
    sink = sink_of(exporter, run_id, **environ)
    assert sink.send(trace, origin_ns, 10**18)
    sink.close(WAIT_S)
    assert sink.lost == (0, len(exporter.spans))
    return exporter.spans


def test_spans_of_a_packet_hang_together_and_are_in_wall_clock_time(sink_of):
    packet, node, wait, work = exported(sink_of)
    assert [span.name for span in (packet, node, wait, work)] == ["packet", "blur", "wait", "work"]
    assert packet.parent is None and node.parent == packet.context and wait.parent == work.parent == node.context
    assert len({span.context.trace_id for span in (packet, node, wait, work)}) == 1
    assert len({span.context.span_id for span in (packet, node, wait, work)}) == SPANS
    assert (packet.start_time, packet.end_time) == (10**18 + 1_000, 10**18 + 1_013)
    assert [(each.start_time - packet.start_time, each.end_time - packet.start_time) for each in (wait, work)] == [(0, 5), (5, 12)]
    about = {"source": "camera", "sequence": 7, "failed": False, "run": "gate", "graph": "door"}
    assert dict(packet.attributes) == {f"streamcore.{name}": value for name, value in about.items()}
    assert {span.status.status_code.name for span in (packet, node, wait, work)} == {"UNSET"}


def test_a_packet_that_failed_is_an_error(sink_of):
    spans = exported(sink_of, Trace("camera", 7, 1_000, 13, True, True, (HOP,)))
    assert [span.status.status_code.name for span in spans] == ["ERROR", "ERROR", "UNSET", "ERROR"]


def test_ids_are_those_of_the_packet_and_of_no_other(sink_of):
    # Who looks twice sees the same trace; what comes from another run, source or moment is another one.
    def ids(spans: list) -> list:
        return [(span.context.trace_id, span.context.span_id) for span in spans]

    once = ids(exported(sink_of))
    assert ids(exported(sink_of)) == once
    other_source = Trace("door", 7, 1_000, 13, False, True, (HOP,))
    others = [exported(sink_of, origin_ns=6), exported(sink_of, run_id="20"), exported(sink_of, other_source)]
    assert len({ids(spans)[0][0] for spans in others} | {once[0][0]}) == 4


def test_the_service_is_named_by_us_unless_the_environment_does(sink_of):
    resource = exported(sink_of)[0].resource.attributes
    assert (resource["service.name"], resource["streamcore.run"], resource["streamcore.graph"]) == ("streamcore", "gate", "door")
    named = exported(sink_of, OTEL_SERVICE_NAME="gates", OTEL_RESOURCE_ATTRIBUTES="site=west")[0].resource.attributes
    assert (named["service.name"], named["site"], named["streamcore.run"]) == ("gates", "west", "gate")


def test_what_has_no_room_is_refused_as_a_whole_and_no_later_than_that(sink_of):
    # A trace of which a part is missing would say that a packet went another way.
    exporter = Exporter()
    exporter.let.clear()
    sink = sink_of(exporter, OTEL_BSP_MAX_QUEUE_SIZE=str(3 * SPANS + 1), OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
    assert [sink.send(TRACE, number, 0) for number in range(5)] == [True, True, True, False, False]
    exporter.let.set()
    sink.close(WAIT_S)
    assert sink.lost == (0, 3 * SPANS) and len(exporter.spans) == 3 * SPANS


def test_an_exporter_that_hangs_is_left_alone_at_the_end(sink_of):
    exporter = Exporter()
    exporter.let.clear()
    sink = sink_of(exporter)
    sink.send(TRACE, 1, 0)
    sink.close(0.05)
    assert sink.lost == (SPANS, SPANS) and not exporter.gave_up  # who waits for it waits WAIT_S


def test_a_failure_is_known_by_its_kind_and_its_text_is_told_nobody(sink_of, caplog):
    from streamcore.telemetry.otel_sink import Counting, Reason

    class Refused(Exporter):
        def export(self, spans: Sequence) -> object:
            logging.getLogger("opentelemetry.exporter").error("code: %s, reason: %s", 401, "sesame is no token")
            return super().export(spans)

    exporter = Refused()
    exporter.answers = [False]
    counting = Counting(exporter, Reason())
    counting.export([])
    assert (counting.failing, counting.why) == (True, "status 401")
    logging.getLogger("opentelemetry.exporter").warning("Transient error %s, retrying in %.2fs", ConnectionError("sesame"), 2.0)
    assert counting.why == "ConnectionError"
    counting.export([])
    assert not counting.failing
    assert "sesame" not in caplog.text


def test_asking_imports_nothing_of_it():
    code = "import sys, streamcore.coordinator.coordinator; print([name for name in sys.modules if name.split('.')[0] == 'opentelemetry'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout == "[]\n"
