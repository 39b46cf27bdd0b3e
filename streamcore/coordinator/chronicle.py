"""What the coordinator tells its observer, written into the journal of the run as well; the main steps also for systemd."""

from __future__ import annotations

from collections.abc import Callable

from streamcore.clock import Clock, iso_utc
from streamcore.coordinator.observer import Failure, Observer
from streamcore.coordinator.service_manager import ServiceManager
from streamcore.graph.model import Plan
from streamcore.secret import secrets_in
from streamcore.supervisor import states
from streamcore.telemetry.journal import ERROR, INFO, WARNING, Journal

_OF_STATE = {
    states.STARTING: "node_up",
    states.READY: "node_ready",
    states.DRAINING: "node_draining",
    states.DONE: "node_done",
}  # the others are on the way to another state, or are told of in better words
LATEST = "latest"
DISK_ERROR_PERCENT = 95


class Chronicle(Observer):
    """Passes everything on to `inner`. `on_event` is called after each event, also for a change that is none: it may concern who waits."""

    def __init__(self, inner: Observer, clock: Clock, journal: Journal, manager: ServiceManager | None = None):
        self.journal, self._inner, self._clock = journal, inner, clock
        self._manager = manager or ServiceManager()
        self.wants_ticks = inner.wants_ticks
        self.on_event: Callable[[], None] = lambda: None
        self._is_ending = False

    def follow(self, plan: Plan) -> None:
        """Hide what is secret in this plan."""
        self.journal.hide(secret.reveal() for node in plan.nodes for secret in secrets_in((node.config, node.env)))

    def end_of_stream(self, reason: str) -> None:
        """All that has work of its own is done, and nobody has asked for the end before."""
        if not self._is_ending:
            self._is_ending = True
            self._manager.stopping()
            self._add("run_ending", detail=reason)

    def ended(self, reason: str, *, failed: bool) -> None:
        self._manager.stopping()
        self._add("run_ended", detail=reason, severity=ERROR if failed else INFO)

    def _add(
        self,
        name: str,
        *,
        node: str = "",
        edge: str = "",
        path: str = "",
        detail: str = "",
        value: float | None = None,
        severity: str = "",
    ) -> None:
        ts, now_ns = iso_utc(self._clock.wall_ns()), self._clock.monotonic_ns()
        self.journal.add(name, ts, now_ns, node=node, edge=edge, path=path, detail=detail, value=value, severity=severity)
        self.on_event()

    # --- Observer

    def node_changed(self, node: str, before: str, after: str, detail: str) -> None:
        self._inner.node_changed(node, before, after, detail)
        if after in _OF_STATE:
            self._add(_OF_STATE[after], node=node, detail=detail)
        else:
            self.on_event()

    def up(self) -> None:
        self._manager.ready()
        self._inner.up()
        self._add("run_up")

    def restarting(self, failure: Failure, delay_s: float) -> None:
        self._inner.restarting(failure, delay_s)
        self._add("node_restarting", node=failure.node, detail=failure.cause, value=round(delay_s, 3))

    def renewing(self, node: str, why: str) -> None:
        self._inner.renewing(node, why)
        self._add("node_restarting", node=node, detail=why, value=0.0, severity=INFO)

    def hung(self, node: str, why: str) -> None:
        self._inner.hung(node, why)
        self._add("node_hung", node=node, detail=why)

    def stalled(self, node: str, why: str) -> None:
        self._inner.stalled(node, why)
        self._add("node_stalled", node=node, detail=why)

    def moving(self, node: str) -> None:
        self._inner.moving(node)
        self._add("node_moving", node=node)

    def paused(self, node: str) -> None:
        self._inner.paused(node)
        self._add("node_paused", node=node)

    def resumed(self, node: str) -> None:
        self._inner.resumed(node)
        self._add("node_resumed", node=node)

    def dropping(self, edge: str, policy: str) -> None:
        self._inner.dropping(edge, policy)
        self._add("edge_dropping", edge=edge, detail=f"policy {policy}", severity=INFO if policy == LATEST else WARNING)

    def flowing(self, edge: str, dropped: int) -> None:
        self._inner.flowing(edge, dropped)
        self._add("edge_flowing", edge=edge, value=float(dropped))

    def disk_filling(self, path: str, percent: int, detail: str) -> None:
        self._inner.disk_filling(path, percent, detail)
        severity = ERROR if percent >= DISK_ERROR_PERCENT else WARNING
        self._add("disk_filling", path=path, detail=detail, value=float(percent), severity=severity)

    def disk_freed(self, path: str, percent: int, detail: str) -> None:
        self._inner.disk_freed(path, percent, detail)
        self._add("disk_freed", path=path, detail=detail, value=float(percent))

    def failed(self, failure: Failure) -> None:
        self._inner.failed(failure)
        self._add("node_failed", node=failure.node, detail=failure.cause)

    def held(self, failure: Failure) -> None:
        self._inner.held(failure)
        self._add("node_held", node=failure.node, detail=failure.cause)

    def reloaded(self, node: str, why: str) -> None:
        self._inner.reloaded(node, why)
        self._add("node_reloaded", node=node, detail=why)

    def not_reloaded(self, text: str) -> None:
        self._inner.not_reloaded(text)
        self._add("not_reloaded", detail=" ".join(text.split()))

    def shown_at(self, url: str, *, exposed: bool) -> None:
        self._inner.shown_at(url, exposed=exposed)

    def stopping(self, reason: str) -> None:
        self._inner.stopping(reason)
        self._manager.stopping()
        self._is_ending = True
        self._add("run_ending", detail=reason)

    def killing(self, reason: str) -> None:
        self._inner.killing(reason)
        self._manager.stopping()
        self._add("run_killing", detail=reason)

    def warning(self, text: str) -> None:
        self._inner.warning(text)
        self._add("run_warning", detail=text)

    def tick(self) -> None:
        self._inner.tick()
