"""Exports the traces of a run: reads from the status pages what nodes have traced since the last look, and hands on what is complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamcore import limits
from streamcore.clock import Clock
from streamcore.coordinator.observer import Observer
from streamcore.errors import RunError
from streamcore.graph.model import Plan
from streamcore.shm.status import Span, StatusReader
from streamcore.supervisor.masking import mask_text
from streamcore.telemetry.otel import EXTRA, PROTOCOL, Asked, unfit

if TYPE_CHECKING:
    from streamcore.telemetry.otel_sink import Sink
    from streamcore.telemetry.traces import Trace

SETTLED_NS = 1_000_000_000  # so long nothing new of a packet: then its longest way is known, if it went to several nodes
TRACES_MAX = 200  # in one look: four cameras; each takes the loop 0.25 ms if it has three hops
CLOSE_S = 2.0  # for what is not sent yet when the run has ended


class TraceWatch:
    """`open` before anything is started, `look` once per round, `last_look` when no node works any more, `close`. Nothing if not asked for.

    `warnings` is given what is said, for the report.
    """

    def __init__(self, asked: Asked | None, clock: Clock, observer: Observer, warnings: list[str]):
        self._asked, self._clock, self._observer, self._warnings = asked, clock, observer, warnings
        self._sink: Sink | None = None
        self._shown = mask_text(asked.url) if asked else ""
        self._gathering: Gathering
        self._failing = self._said_left_out = False
        self._left_out = 0

    def open(self, plan: Plan, run_id: str) -> None:
        """Raises RunError if an option asks for what cannot be; of a variable a warning says it."""
        if self._asked is None:
            return
        try:
            self._sink = self._open(self._asked, plan, run_id)
        except RunError as error:
            if self._asked.insisted:
                raise
            self._warn(f"{error}; no trace is exported, the run goes on")

    def _open(self, asked: Asked, plan: Plan, run_id: str) -> Sink:
        wrong = unfit(asked.url)
        if wrong:
            raise RunError(f"{asked.by}: found {self._shown!r}, {wrong}")
        if asked.protocol != PROTOCOL:
            raise RunError(f"{asked.by}: the protocol is set to {asked.protocol!r}, expected {PROTOCOL!r}")
        try:
            from streamcore.telemetry.otel_sink import open_sink

            return open_sink(asked.url, plan.run, plan.graph, run_id)
        except ImportError as error:
            raise RunError(f"{asked.by}: to export traces takes packages that are not installed ({error.name}): {EXTRA}") from error
        except ValueError as error:
            raise RunError(f"{asked.by}: a variable OTEL_... cannot be used: {mask_text(str(error))}") from error

    def watch(self, plan: Plan, readers: Mapping[str, StatusReader]) -> bool:
        """Whether there is anything to look at."""
        if self._sink is not None:
            edges = {edge.id: (edge.name, edge.from_node) for edge in plan.edges}
            self._gathering = Gathering(readers, edges)
        return self._sink is not None

    def look(self) -> None:
        if self._sink is not None:
            self._export(self._sink, self._gathering.complete(self._clock.monotonic_ns(), SETTLED_NS), TRACES_MAX)
            self._tell_of_failure(self._sink)

    def last_look(self) -> None:
        if self._sink is not None:
            self._export(self._sink, self._gathering.complete(self._clock.monotonic_ns(), 0), self._sink.room)

    def _export(self, sink: Sink, found: list[tuple[int, Trace]], most: int) -> None:
        """Of too many, some from the whole time."""
        offset_ns = self._clock.wall_ns() - self._clock.monotonic_ns()
        chosen = found if len(found) <= most else [found[place * len(found) // most] for place in range(most)]
        sent = sum(sink.send(trace, origin_ns, offset_ns) for origin_ns, trace in chosen)
        self._left_out += len(found) - sent
        if len(chosen) < len(found) and not self._said_left_out:
            self._said_left_out = True
            self._warn(f"otel: {len(found)} traces in one look, at most {most} are exported; others are left out from now on, and counted")

    def _tell_of_failure(self, sink: Sink) -> None:
        """Once when it begins, and once when it is over."""
        if sink.failing and not self._failing:
            why = f" ({sink.why})" if sink.why else ""
            self._warn(f"otel: {self._shown} does not take the traces{why}; the run goes on")
        elif self._failing and not sink.failing:
            self._warn(f"otel: {self._shown} takes the traces again")
        self._failing = sink.failing

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._observer.warning(text)

    def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        sink.close(CLOSE_S)
        lost, handed = sink.lost
        if lost or self._left_out:
            why = f" ({sink.why})" if lost and sink.why else ""
            parts = [f"{lost} of {handed} spans did not reach {self._shown}{why}"] if lost else []
            parts += [f"{self._left_out} traces were left out"] if self._left_out else []
            self._observer.warning(f"otel: {', and '.join(parts)}")


class Gathering:
    """Spans of packets that are still on their way, by the beginning of their trace. Each span is read once, so each trace is told once."""

    def __init__(self, readers: Mapping[str, StatusReader], edges: Mapping[int, tuple[str, str]]):
        self._readers, self._edges = readers, edges
        self._read = dict.fromkeys(readers, 0)
        self._groups: dict[int, dict[str, list[Span]]] = {}
        self._changed: dict[int, int] = {}  # when something new came of it, of those that may be complete
        self._kept = 0

    def complete(self, now_ns: int, settled_ns: int) -> list[tuple[int, Trace]]:
        """(beginning, trace) of packets of which nothing new has come for so long, and whose way has ended."""
        from streamcore.telemetry.traces import join

        self._look(now_ns)
        found = []
        for origin_ns in sorted(origin_ns for origin_ns, changed_ns in self._changed.items() if now_ns - changed_ns >= settled_ns):
            del self._changed[origin_ns]
            ended = [(origin_ns, trace) for trace in join(self._groups[origin_ns], self._edges) if trace.finished]
            if ended:
                self._forget(origin_ns)
            found += ended
        return found

    def _look(self, now_ns: int) -> None:
        for node, reader in self._readers.items():
            self._read[node], spans = reader.spans_after(self._read[node])
            for span in spans:
                self._groups.setdefault(span.origin_ns, {}).setdefault(node, []).append(span)
                self._changed[span.origin_ns] = now_ns
                self._kept += 1
        while self._kept > limits.TRACED_SPANS_MAX:  # the oldest were dropped by an edge, or are kept by a node for long
            self._forget(next(iter(self._groups)))

    def _forget(self, origin_ns: int) -> None:
        self._changed.pop(origin_ns, None)
        self._kept -= sum(map(len, self._groups.pop(origin_ns).values()))
