"""Slow or hung: judged from outside, from successive readings of a node's status page. Pure; times are handed in.

Three clocks, all on the monotonic clock. `startup_s` is a plain deadline (coordinator/crew.py). The other two are judged here:

progress_s   one process() call, or one packet of a source, takes longer; or packets wait and the main loop does not turn. While a call
             emits packets or waits for credit it goes on, however slow its consumers are. A process that is stopped (SIGSTOP, a
             debugger) works on nothing: for it the time counts from its last sign of life, whether packets wait or not. 0, of a job,
             leaves only that bound, with the default.
heartbeat_s  the helper thread of a process that is not in node code has not ticked, as when a thread of the plugin holds the
             interpreter's lock for ever. Inside node code it only names the cause: work that holds the lock is work.

A node of which half of `progress_s` has passed in one of these ways is `stalled`: that is said and nothing is done.

A node that is paused, starting, or at its end is never hung. The page has exact times, so that what is found is found on time although
pages are seldom read: `Clocks.look` also says when it wants to see the page again.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcore.graph.model import NodePlan
from streamcore.shm.status import NodeStatus

TICK_NS = 1_000_000_000  # of the helper thread
STOPPED_S = 30.0  # that a job may be stopped: no other of its clocks runs
SILENT_NS = 2 * TICK_NS  # a tick that is later than this is worth a look at the process' state


@dataclass(frozen=True)
class Seen:
    """What of a page changes when a node gets on with one packet, or with the next."""

    incarnation: int
    busy_since_ns: int
    produced: int
    credit_wait_ns: int


class Clocks:
    """The clocks of one node. `look` is given each reading; what it learns from one it holds against the next."""

    def __init__(self, plan: NodePlan):
        self._progress_ns, self._heartbeat_ns = round((plan.progress_s or STOPPED_S) * 1e9), round(plan.heartbeat_s * 1e9)
        self._is_timed = plan.progress_s > 0
        of_source = "run() has not ended" if plan.is_job else "run() has not given a packet"
        self._what = of_source if plan.role == "source" else "process() has not returned"
        self._seen: Seen | None = None
        self._got_on_ns = 0  # the reading by which it had got on within a packet
        self.stalled = ""  # why it will be hung if it goes on so, as of the last look; "" while it gets on
        self._excused_ns = 0
        self._stopped_since_ns = 0  # of a process that is not ready yet

    def excuse(self, now_ns: int) -> None:
        """The watcher itself has not run for a while, so perhaps nobody on this box has: everything counts from now."""
        self._excused_ns = now_ns

    def look(self, page: NodeStatus, now_ns: int, *, stopped: bool = False) -> tuple[str, int]:
        """(why it is hung or "", when to look again at the latest) for a node that is ready or draining and not paused.

        stopped: the kernel says that the process is stopped; needed only when the page is `silent`.
        """
        self._note_changes(page, now_ns)
        alive_ns = max(page.alive_ns, page.heartbeat_ns, self._excused_ns)
        in_node_code = page.busy_since_ns != 0 and not page.waits_for_credit
        found: list[tuple[str, int]] = []
        if in_node_code and self._is_timed:
            found.append(self._in_node_code(page, now_ns, stopped))
        elif not page.busy_since_ns:
            found.extend(self._between_packets(page, now_ns))
        if page.alive_ns and stopped:
            found.append((_stopped_for(now_ns - alive_ns), alive_ns + self._progress_ns))
        self.stalled = next((why for why, deadline_ns in found if 2 * (deadline_ns - now_ns) <= self._progress_ns), "")
        if page.alive_ns and not stopped and not in_node_code:
            why = f"none of its threads has run for {_seconds(now_ns - alive_ns)}: one of them holds the interpreter's lock"
            found.append((why, alive_ns + self._heartbeat_ns))
        for why, deadline_ns in found:
            if now_ns >= deadline_ns:
                return why, now_ns
        if page.alive_ns and alive_ns + self._progress_ns > now_ns:
            found.append(("", alive_ns + self._progress_ns))  # should it be stopped by then
        return "", min((deadline_ns for _, deadline_ns in found), default=now_ns + self._progress_ns)

    def look_at_start(self, now_ns: int, *, stopped: bool) -> tuple[str, int]:
        """The same for one that is not ready yet. It has `startup_s` for that, but a process that is stopped does not start."""
        if not stopped:
            self._stopped_since_ns = 0
            return "", now_ns + self._progress_ns
        self._stopped_since_ns = max(self._stopped_since_ns or now_ns, self._excused_ns)
        due_ns = self._stopped_since_ns + self._progress_ns
        return (_stopped_for(now_ns - self._stopped_since_ns), now_ns) if now_ns >= due_ns else ("", due_ns)

    def _note_changes(self, page: NodeStatus, now_ns: int) -> None:
        seen = Seen(page.incarnation, page.busy_since_ns, page.produced, page.credit_wait_ns)
        before, self._seen = self._seen, seen
        if page.waits_for_credit or (before is not None and seen != before and seen.busy_since_ns == before.busy_since_ns):
            self._got_on_ns = now_ns

    def _in_node_code(self, page: NodeStatus, now_ns: int, stopped: bool) -> tuple[str, int]:
        since_ns = max(page.busy_since_ns, page.heartbeat_ns, self._excused_ns)
        if self._got_on_ns > page.busy_since_ns:
            since_ns = max(since_ns, self._got_on_ns)
        if stopped:
            cause = ": the process is stopped (SIGSTOP, or a debugger)"
        else:
            cause = ", nor has any other thread run: it holds the interpreter's lock" if silent(page, now_ns) else ""
        return f"{self._what} for {_seconds(now_ns - since_ns)}{cause}", since_ns + self._progress_ns

    def _between_packets(self, page: NodeStatus, now_ns: int) -> list[tuple[str, int]]:
        waiting = sum(edge.waiting for edge in page.edges.values())
        if not waiting:
            return []
        since_ns = max(page.heartbeat_ns, self._excused_ns)
        count = "1 packet waits" if waiting == 1 else f"{waiting} packets wait"
        return [(f"{count} and the node has not looked for {_seconds(now_ns - since_ns)}", since_ns + self._progress_ns)]


def silent(page: NodeStatus, now_ns: int) -> bool:
    """The helper thread is late: ask the kernel whether the process is stopped."""
    return page.alive_ns != 0 and now_ns - max(page.alive_ns, page.heartbeat_ns) > SILENT_NS


def _stopped_for(span_ns: int) -> str:
    return f"the process has been stopped for {_seconds(span_ns)} (SIGSTOP, or a debugger)"


def _seconds(span_ns: int) -> str:
    return f"{span_ns / 1e9:.1f} s"
