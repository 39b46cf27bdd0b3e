"""Hands traces to the exporter of OpenTelemetry, whose thread sends them. Importing this needs the extra `otel`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from hashlib import blake2b

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from streamcore import __version__
from streamcore.telemetry.stretches import count, stretches
from streamcore.telemetry.traces import Trace

QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
QUEUE_SPANS = 8192  # unless the variable says otherwise: four seconds of 200 traces of three hops, 20 MB if nobody takes them
_SCOPE = InstrumentationScope("streamcore", __version__)
_FINE, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Sink:
    """`send` from one thread; it never waits. Headers, timeout, certificates and the name of the service are those of the environment.

    `room`: spans that may wait, those being sent included.
    """

    def __init__(self, exporter: SpanExporter, heard: Reason, run: str, graph: str, run_id: str):
        self.room = int(os.environ.get(QUEUE) or QUEUE_SPANS)
        self._run_id, self._about = run_id, {"run": run, "graph": graph}
        ours = {"service.name": "streamcore", "service.version": __version__, "service.instance.id": run_id, **_named(self._about)}
        self._resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._exporter = Counting(exporter, heard)
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=self.room)
        self._handed = 0

    @property
    def failing(self) -> bool:
        """The last attempt has failed."""
        return self._exporter.failing

    @property
    def why(self) -> str:
        return self._exporter.why

    @property
    def lost(self) -> tuple[int, int]:
        """Spans that have not arrived, and those that were handed over; for sure only after `close`."""
        return self._handed - self._exporter.taken, self._handed

    def send(self, trace: Trace, origin_ns: int, offset_ns: int) -> bool:
        """False, and nothing of it is sent, if there is no room. `origin_ns` names the trace; `offset_ns`: wall clock minus monotonic."""
        if self._handed - self._exporter.done + count(trace) > self.room:
            return False
        for span in self._spans(trace, origin_ns, offset_ns):
            self._handed += 1
            self._processor.on_end(span)
        return True

    def _spans(self, trace: Trace, origin_ns: int, offset_ns: int) -> list[ReadableSpan]:
        """Made as they are, not by a tracer: ids and times are known, and it would take three times as long."""
        trace_id = blake2b(f"{self._run_id} {trace.source} {origin_ns}".encode(), digest_size=16).digest()
        contexts: list[SpanContext] = []
        found = []
        for place, stretch in enumerate(stretches(trace)):
            span_id = blake2b(trace_id + place.to_bytes(4, "big"), digest_size=8).digest()
            context = SpanContext(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), is_remote=False, trace_flags=_SAMPLED)
            contexts.append(context)
            span = ReadableSpan(
                stretch.name,
                context,
                None if stretch.parent < 0 else contexts[stretch.parent],
                self._resource,
                _named({**self._about, **stretch.attributes} if stretch.parent < 0 else stretch.attributes),
                status=_FAILED if stretch.failed else _FINE,
                start_time=stretch.start_ns + offset_ns,
                end_time=stretch.end_ns + offset_ns,
                instrumentation_scope=_SCOPE,
            )
            found.append(span)
        return found

    def close(self, within_s: float) -> None:
        """Send what waits, for so long at most. A thread that still waits for an answer then is left; it ends with the process."""
        closing = threading.Thread(target=self._processor.shutdown, name="otel-close", daemon=True)
        closing.start()
        closing.join(within_s)
        self._exporter.shutdown()  # it tries nothing again


def open_sink(url: str, run: str, graph: str, run_id: str) -> Sink:
    """Raises ValueError if one of the standard variables holds what cannot be used."""
    heard = Reason()  # first: what is wrong with a header would be said together with it
    return Sink(OTLPSpanExporter(endpoint=url), heard, run, graph, run_id)


class Counting(SpanExporter):
    """Written by the exporting thread alone, read by others. `done`: spans that were tried, `taken`: those that arrived."""

    def __init__(self, inner: SpanExporter, heard: Reason):
        self.done = self.taken = 0
        self.failing = False
        self._inner, self._heard, self._closed = inner, heard, False

    @property
    def why(self) -> str:
        return self._heard.text

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            fine = result is SpanExportResult.SUCCESS
            self.failing = not fine
            self.taken += len(spans) if fine else 0
            self.done += len(spans)
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.shutdown()


class Reason(logging.Handler):
    """Why the last attempt failed: a status or the class of an exception. Never a text, which may hold what was sent, secrets included.

    It takes over what the SDK logs, which says each failure over and over: what has to be said of it, the run says once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        logger = logging.getLogger("opentelemetry")
        logger.propagate, logger.handlers = False, [self]

    def emit(self, record: logging.LogRecord) -> None:
        for value in record.args if isinstance(record.args, tuple) else ():
            if isinstance(value, BaseException):
                self.text = type(value).__name__
            elif isinstance(value, int) and 100 <= value < 600:
                self.text = f"status {value}"


def _named(values: dict[str, str] | dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {f"streamcore.{key}": value for key, value in values.items()}
