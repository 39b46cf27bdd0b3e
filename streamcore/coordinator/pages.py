"""What a run says over HTTP. The loop's thread only takes a snapshot; it is judged and written down in the thread of the web server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from streamcore import __version__
from streamcore.clock import Clock
from streamcore.control.web import Address, Page, WebServer, listen, plain, url_of
from streamcore.coordinator.asking import Asking
from streamcore.coordinator.course import READY, STARTING
from streamcore.coordinator.observer import Observer
from streamcore.graph.model import Plan
from streamcore.supervisor.loop import Loop
from streamcore.supervisor.vitals import vitals
from streamcore.telemetry import metrics
from streamcore.telemetry.health import LATELY_S, Health, Moment, judge

if TYPE_CHECKING:
    from streamcore.coordinator.coordinator import Coordinator

FRESH_NS = 100_000_000  # who asks more often gets the same again: a flood of requests costs the loop ten looks a second
NO_ANSWER = "the coordinator does not answer\n"
_LINKS = {
    "/metrics": "for Prometheus",
    "/health": "a verdict for each node",
    "/readyz": "200 when every node is ready",
    "/healthz": "200 when the coordinator answers",
}


class Glance(msgspec.Struct, frozen=True):
    """A run at one moment. `started_s`: since 1970."""

    plan: Plan
    phase: str
    started_s: float
    moment: Moment


class Pages:
    """`page` by path. `ask`: the run now, or None if its loop does not answer."""

    def __init__(self, ask: Callable[[], Glance | None], clock: Clock):
        self._ask, self._clock = ask, clock
        self._last: tuple[int, Glance] | None = None
        self._pages: dict[str, Callable[[Glance], Page]] = {
            "/metrics": _metrics,
            "/health": _health,
            "/readyz": _readyz,
            "/healthz": lambda glance: plain(200, "ok\n"),
            "/": _index,
        }

    def page(self, path: str) -> Page:
        make = self._pages.get(path)
        if make is None:
            return plain(404, f"found {path[:100]!r}, expected one of: {', '.join(self._pages)}\n")
        now_ns = self._clock.monotonic_ns()
        if self._last is None or now_ns - self._last[0] > FRESH_NS:
            glance = self._ask()
            if glance is None:
                self._last = None
                return plain(503, NO_ANSWER)
            self._last = (self._clock.monotonic_ns(), glance)
        return make(self._last[1])


def _metrics(glance: Glance) -> Page:
    moment, plan = glance.moment, glance.plan
    run = metrics.Run(plan.graph, plan.run, plan.graph_version, glance.started_s, (moment.now_ns - moment.started_ns) / 1e9)
    found = {row.id: seen for row in moment.taken.nodes if row.pid is not None and (seen := vitals(row.pid))}
    return Page(200, metrics.CONTENT_TYPE, metrics.exposition(run, moment.taken, found).encode())


def _judged(glance: Glance) -> Health:
    return judge(glance.plan, glance.moment)


def _health(glance: Glance) -> Page:
    health = _judged(glance)
    body = {"run": glance.plan.run, "state": glance.phase, **health.as_json()}
    return Page(200 if health.works else 503, "application/json", msgspec.json.encode(body) + b"\n")


def _readyz(glance: Glance) -> Page:
    if _judged(glance).ready:
        return plain(200, "ready\n")
    waits = [f"{row.id} is {row.state}" for row in glance.moment.taken.nodes if row.state not in ("READY", "DRAINING", "DONE")]
    return plain(503, "\n".join([f"not ready: the run is {glance.phase}", *waits]) + "\n")


def _index(glance: Glance) -> Page:
    links = "".join(f'<li><a href="{path}">{path}</a>: {what}</li>' for path, what in _LINKS.items())
    text = f"<!doctype html><title>{glance.plan.run}</title><h1>{glance.plan.run}</h1><p>streamcore {__version__}</p><ul>{links}</ul>\n"
    return Page(200, "text/html; charset=utf-8", text.encode())


class Door:
    """Where a run can be looked at over HTTP: `url`, "" if nowhere."""

    def __init__(self, address: Address | None):
        self.url = ""
        self._address = address
        self._listener: socket.socket | None = None

    def listen(self, observer: Observer) -> None:
        """Take the port, so that nobody answers yet. Raises RunError if somebody else has it."""
        if self._address is not None:
            self._listener = listen(self._address)
            self.url = url_of(self._listener)
            observer.shown_at(self.url, exposed=self._address.exposed)

    def open(self, loop: Loop, clock: Clock, look: Callable[[], Glance]) -> Callable[[], None]:
        """Answer from now on, until what this returns is called."""
        if self._listener is None:
            return self.close
        asking = Asking(loop, clock, look)
        server = WebServer(self._listener, Pages(asking.ask, clock).page, clock)
        server.start()

        def close() -> None:
            asking.close()  # first: who waits for an answer is let go
            server.close()

        return close

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()


def look(run: Coordinator) -> Glance:
    """In the loop's thread."""
    now_ns = run.clock.monotonic_ns()
    moment = Moment(
        taken=run.view.snapshot(cpu=False),
        earlier=run.view.before(LATELY_S),
        now_ns=now_ns,
        started_ns=run.started_ns,
        is_ready=run.phase == READY,
        is_ending=run.phase not in (STARTING, READY),
    )
    return Glance(run.plan, run.phase, run.started_wall_ns / 1e9, moment)
