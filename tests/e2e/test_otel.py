"""Real runs whose traces go to a collector: one that takes them, one that is not there, one that never answers."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from answering import Answering, reply
from boxes import Box

SPEC = """
version: 2
name: told
nodes:
  - {id: camera, plugin: synthetic.frames, config: {payload: json, count: %(count)d, rate: 40}}
  - {id: pass, plugin: flow.forward}
  - {id: sink, plugin: debug.slow, config: {work_ms: 2}}
edges:
  - {from: camera, to: pass}
  - {from: pass, to: sink}
"""
NODES = ("camera", "pass", "sink")
COUNT = 100
WAIT_S = 120.0
SECRET = "sesame-open-the-door"


@pytest.fixture
def exporting(box: Box) -> Box:
    """A box in which no variable of the machine asks for an export."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the packages of the extra `otel` are not installed")
    for name in [name for name in box.env if name.startswith("OTEL_")]:
        del box.env[name]
    return box


def up(box: Box, *words: str, count: int = COUNT) -> tuple[str, dict[str, Any]]:
    """Runs to its end, which has to be a good one. What it printed, and its report."""
    done = box.run("up", box.write_spec(SPEC % {"count": count}), "--report", "report.json", *words, timeout_s=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((box.folder / "report.json").read_text())
    assert report["account"]["balanced"]
    return done.stdout + done.stderr, report


def exported(collector: Answering) -> list[tuple[dict[str, Any], Any]]:
    """(attributes of the resource, span) of everything that has arrived."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    assert all(asked.line == "POST /v1/traces HTTP/1.1" for asked in collector.asked)
    requests = [ExportTraceServiceRequest.FromString(asked.body) for asked in collector.asked]
    found = [
        (of_resource.resource, of_scope.spans)
        for each in requests
        for of_resource in each.resource_spans
        for of_scope in of_resource.scope_spans
    ]
    return [(values(resource), span) for resource, spans in found for span in spans]


def values(holder: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_every_packet_of_a_slow_stream_arrives_as_one_trace_of_all_its_nodes(exporting):
    with Answering(last=reply(200)) as collector:
        said, _ = up(exporting, "--otel", f"http://127.0.0.1:{collector.port}")
    assert "otel" not in said
    found = exported(collector)
    resource = found[0][0]
    assert (resource["service.name"], resource["streamcore.run"], resource["streamcore.graph"]) == ("streamcore", "told", "told")
    traces: dict[bytes, list[Any]] = {}
    for _, span in found:
        traces.setdefault(span.trace_id, []).append(span)
    assert len({span.span_id for _, span in found}) == len(found)
    packets = []
    for spans in traces.values():
        by_id = {span.span_id: span for span in spans}
        (packet,) = (span for span in spans if not span.parent_span_id)
        nodes = [span for span in spans if span.parent_span_id == packet.span_id]
        assert tuple(node.name for node in nodes) == NODES
        assert len(spans) == 1 + 3 * len(NODES)
        for span in spans:
            parent = by_id.get(span.parent_span_id, span)
            assert parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= parent.end_time_unix_nano
        lengths = [values(node)["streamcore.wait_ns"] + values(node)["streamcore.work_ns"] for node in nodes]
        assert sum(lengths) == packet.end_time_unix_nano - packet.start_time_unix_nano
        assert values(nodes[-1])["streamcore.work_ns"] >= 2_000_000  # it is slow
        packets.append(values(packet)["streamcore.sequence"])
    assert sorted(packets) == [*range(COUNT)]


def test_the_variable_asks_for_it_as_well_and_its_headers_reach_the_collector_alone(exporting):
    exporting.env["OTEL_EXPORTER_OTLP_HEADERS"] = f"x-team={SECRET},{SECRET}"  # what is no header is not told: it may be a secret
    exporting.env["OTEL_SERVICE_NAME"] = "gates"
    with Answering([reply(400, SECRET.encode())], last=reply(200)) as collector:
        exporting.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.port}/"
        said, report = up(exporting, "--debug", count=300)
    assert {asked.headers["x-team"] for asked in collector.asked} == {SECRET}
    assert {resource["service.name"] for resource, _ in exported(collector)} == {"gates"}
    assert said.count("does not take the traces (status 400)") == 1 and said.count("takes the traces again") == 1
    assert any("status 400" in text for text in report["warnings"])
    written = [path.read_bytes() for path in exporting.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in raw for raw in [*written, said.encode()])


def test_a_collector_that_is_not_there_changes_nothing_but_one_line(exporting):
    said, _ = up(exporting, "--otel", f"http://127.0.0.1:{closed_port()}")
    assert said.count("otel") == 1
    assert f"{COUNT * 10} of {COUNT * 10} spans did not reach http://127.0.0.1" in said


def test_a_collector_that_never_answers_holds_up_no_end(exporting):
    exporting.env["OTEL_EXPORTER_OTLP_TIMEOUT"] = str(10 * WAIT_S)  # nothing but the run's own bound ends it in time
    with Answering(last=lambda _: collector.over.wait(10 * WAIT_S)) as collector:
        said, _ = up(exporting, "--otel", f"http://127.0.0.1:{collector.port}")
        assert collector.connections and not collector.over.is_set()
    assert f"{COUNT * 10} of {COUNT * 10} spans did not reach" in said


def without_packages(box: Box) -> None:
    (box.folder / "opentelemetry.py").write_text("raise ModuleNotFoundError('No module named opentelemetry', name='opentelemetry')\n")
    box.env["PYTHONPATH"] = str(box.folder)


def test_without_the_packages_the_option_starts_nothing(box):
    without_packages(box)
    done = box.run("up", box.write_spec(SPEC % {"count": 1}), "--otel", "http://127.0.0.1:4318")
    assert done.returncode == 2
    assert "pip install 'streamcore[otel]'" in done.stderr and "nothing was started" in done.stderr
    assert "starting" not in done.stdout


def test_without_the_packages_the_variable_is_a_warning(box):
    without_packages(box)
    box.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
    said, report = up(box, count=1)
    assert said.count("pip install 'streamcore[otel]'") == 1
    assert len(report["warnings"]) == 1


@pytest.mark.parametrize(
    ("address", "said"), [("127.0.0.1:4318", "expected http://HOST:PORT"), (f"http://me:{SECRET}@a", "OTEL_EXPORTER_OTLP_HEADERS")]
)
def test_what_is_no_address_is_refused(box, address, said):
    done = box.run("up", box.write_spec(SPEC % {"count": 1}), "--otel", address)
    assert (done.returncode, said in done.stderr, SECRET in done.stderr) == (2, True, False)
