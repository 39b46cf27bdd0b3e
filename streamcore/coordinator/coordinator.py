"""The life of a run: everything is made, all nodes are spawned, started together, watched, drained, and nothing is left.

Exit status: 0 if every node was done, or the run was asked to end (by a signal, `down` or `--for`), also if it then had to be killed;
1 if a node failed for good or the memory limit was hit. What a killed run lost is named in the result, and its report is degraded.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from streamcore.clock import Clock, iso_utc
from streamcore.control import protocol
from streamcore.control.rundir import CONTROL_SOCKET, RunDir, RunInfo
from streamcore.control.server import Server
from streamcore.coordinator import answers, pages
from streamcore.coordinator.chronicle import Chronicle
from streamcore.coordinator.course import DRAINING, ENDED, READY, STARTING, Course
from streamcore.coordinator.crew import Crew, Equipment
from streamcore.coordinator.disk_watch import DiskWatch, folders_of, measure
from streamcore.coordinator.edge_watch import EdgeWatch
from streamcore.coordinator.following import Following
from streamcore.coordinator.log_watch import LogWatch
from streamcore.coordinator.member import Member
from streamcore.coordinator.memory_watch import MemoryWatch
from streamcore.coordinator.observer import Failure, Observer
from streamcore.coordinator.options import Options
from streamcore.coordinator.orders import Orders
from streamcore.coordinator.recovery import Recovery
from streamcore.coordinator.reload import Reload
from streamcore.coordinator.rounds import DirectoryWatch, Rounds, watch_rings
from streamcore.coordinator.service_manager import in_short
from streamcore.coordinator.timekeeper import Timekeeper
from streamcore.coordinator.trace_watch import TraceWatch
from streamcore.coordinator.view import View
from streamcore.errors import RunError
from streamcore.graph.model import Boot, Plan
from streamcore.node.channel import Answered, Follow
from streamcore.supervisor import budget, prctl, states
from streamcore.supervisor.box import usable_cpus
from streamcore.supervisor.forking import ForkServer
from streamcore.supervisor.guard import Guard
from streamcore.supervisor.incident import Case
from streamcore.supervisor.incident import write as write_incident
from streamcore.supervisor.interpreter import COMMAND
from streamcore.supervisor.loop import Loop, Signals
from streamcore.supervisor.segments import Segments
from streamcore.supervisor.usage import Usage, cores
from streamcore.telemetry import report
from streamcore.telemetry.account import AccountRow, account, lost
from streamcore.telemetry.journal import Journal
from streamcore.telemetry.snapshot import Snapshot

TICK_S = 0.5  # for a person who looks at a table
# A process takes 0.25 s of a core to start. Hundreds that start together on two cores would miss startup_s; so many keep them busy.
STARTING_MAX = max(8, 4 * (os.cpu_count() or 1))
ISOLATE = "isolate"  # of on_give_up: the run goes on without the node


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `lost`: (edge, packets) that were under way when the last process was gone."""

    status: int
    reason: str
    report: dict[str, Any]
    failures: tuple[Failure, ...]
    account: tuple[AccountRow, ...]
    lost: tuple[tuple[str, int], ...]


class Coordinator:
    """One run of one plan. `run()` once, from the main thread; it takes over `run_dir` and closes it in any case.

    signals: of a caller who has caught them earlier, and closes them: what came meanwhile ends the run before anything is started.
    fork_server: started earlier as well, so that it is ready by now; without one, or another `command`, nodes are exec'ed.
    """

    def __init__(
        self,
        plan: Plan,
        run_dir: RunDir,
        observer: Observer | None = None,
        options: Options | None = None,
        clock: Clock | None = None,
        signals: Signals | None = None,
        fork_server: ForkServer | None = None,
    ):
        self.plan, self.run_id = plan, secrets.token_hex(8)
        self.options = options or Options()
        self.clock = clock or Clock()
        self.usage = Usage(self.clock)
        self.started_wall_ns, self.started_ns = self.clock.wall_ns(), self.clock.monotonic_ns()
        self.members = {node.id: Member(node, run_dir.log_path(node.id)) for node in plan.nodes}
        self._timekeeper = Timekeeper(self.members, self.clock, self.started_ns, wanted=self.options.timeline)
        self._run_dir, self._signals = run_dir, signals
        self._observer = Chronicle(observer or Observer(), self.clock, Journal(), self.options.manager)
        self._observer.follow(plan)
        self._fork_server = fork_server
        self.door = pages.Door(self.options.http)
        self._failures: list[Failure] = []
        self.warnings: list[str] = []  # for the report; whoever prints for this run may add to them
        self._traces = TraceWatch(self.options.otel, self.clock, self._observer, self.warnings)
        self._to_spawn = deque(plan.start_order)
        self._up_ns = 0
        self._loop: Loop
        self._crew: Crew
        self._course: Course
        self._recovery: Recovery
        self.orders: Orders
        self.view: View
        self.following: Following
        self._segments: Segments
        self._server: Server
        self._guard: Guard | None = None
        self._reload: Reload | None = None
        self._logs: LogWatch

    # --- what others call while it runs

    def stop(self, reason: str, now: bool = False) -> None:
        """Ask the run to end: orderly, or at once. Asking again, orderly, changes nothing. Only from the loop's thread."""
        self._course.stop(reason, now)

    def snapshot(self) -> Snapshot:
        """The state and counters of all nodes and edges now. Only during run()."""
        return self.view.snapshot()

    @property
    def phase(self) -> str:
        """One of course.py."""
        return self._course.phase

    @property
    def requests_refused(self) -> int:
        return self._server.refused

    def uptime_s(self) -> float:
        return (self.clock.monotonic_ns() - self.started_ns) / 1e9

    # --- the whole life

    def run(self) -> RunResult:
        """Everything from the first descriptor to the last; returns when nothing of the run is left.

        Raises:
          BudgetError: the box has not enough memory; nothing was started.
          RunError: the run directory cannot be used, too few descriptors; nothing was started.
        """
        with ExitStack() as made:
            made.callback(self._run_dir.close)
            if threading.current_thread() is not threading.main_thread():
                raise RunError("a run can only be started from the main thread: its processes die with the thread that spawned them")
            made.callback(self.door.close)
            self.door.listen(self._observer)
            made.callback(self._traces.close)
            self._traces.open(self.plan, self.run_id)
            shm_limit = budget.check(self.plan, self.options.shm_limit)
            self._run_dir.write_info(self.info())
            self._make(made)
            self._start_timers(shm_limit)
            self._on_signals()
            self._spawn_more()
            while self._crew.unfinished() and not self._course.stuck:
                self._loop.turn()
            return self._result()

    def _make(self, made: ExitStack) -> None:
        """Everything that a run needs; `made` gives it back in reverse order, whatever happens meanwhile."""
        loop = self._loop = Loop(self.clock)
        made.callback(loop.close)
        if self._signals is None:
            self._signals = Signals()
            made.callback(self._signals.close)
        made.callback(prctl.set_subreaper, prctl.set_subreaper(True))
        guard = self._guard = Guard(str(self._run_dir.path), self.run_id)
        made.callback(guard.close)
        if self._fork_server is not None:
            guard.add(self._fork_server.pid)
            made.callback(guard.remove, self._fork_server.pid)
            made.callback(self._fork_server.close)
            self._fork_server.on_failure = self._on_lost_fork_server
        segments = self._segments = Segments(self.plan, self.run_id)
        made.callback(segments.close)
        self.view = View(lambda: self.plan, self.members, segments, self.clock)
        server = self._server = Server(str(self._run_dir.path / CONTROL_SOCKET), lambda request: answers.answer(self, request))
        made.callback(server.close)
        self._logs = LogWatch(self._run_dir, self.members, loop, self.clock, self._observer, self.warnings)
        self._crew = Crew(self._equipment(segments), self.members, loop, guard, self._observer, self)
        self._course = Course(self.plan.drain_s, self._crew, loop, self._observer)
        self.orders = Orders(self._crew)
        self.following = Following(self.plan, self.members, self._observer, loop, lambda: self.phase)
        reloading, told = self.options.reloading, (self._write_incident, self._fail)
        self._recovery = Recovery(
            self.plan, self._crew, self._course, segments, self._observer, self.clock, *told, holds=reloading is not None
        )
        if reloading is not None:
            self._reload = Reload(reloading, self._crew, loop, self.clock, self._observer, lambda: self.phase, self._adopt)
            made.callback(self._reload.close)
        made.callback(self.door.open(loop, self.clock, lambda: pages.look(self)))
        made.callback(self._end)
        loop.watch(self._signals.fd, self._on_signals)
        loop.watch(server.fd, lambda: self._serve(server))
        self._serve(server)

    def _end(self) -> None:
        self._course.phase = ENDED
        if not self._crew.destroy(self.clock):
            self._observer.warning("a process of this run did not end although it was killed; it waits inside the kernel")

    def _equipment(self, segments: Segments) -> Equipment:
        template = Boot(
            run=self.plan.run,
            run_id=self.run_id,
            run_dir=str(self._run_dir.path),
            node=self.plan.nodes[0],
            edges=(),
            rings=(),
            incarnation=0,
            ring_fds={},
            status_fd=-1,
            control_fd=-1,
            inbox_fd=-1,
            coordinator_pid=os.getpid(),
            message_key=secrets.randbits(32),
            debug=self.options.debug,
        )
        run_dir, command = self._run_dir, self.options.command
        fork_server = self._fork_server if command == COMMAND else None
        return Equipment(self.plan, segments, template, usable_cpus(), run_dir.open_log, run_dir.forget, command, fork_server)

    def info(self) -> RunInfo:
        plan, file, started = self.plan, self.options.spec_file, iso_utc(self.started_wall_ns)
        return RunInfo(plan.run, os.getpid(), self.run_id, plan.graph, plan.graph_version, file, started, http=self.door.url)

    def _start_timers(self, shm_limit: int) -> None:
        if self._observer.wants_ticks:
            self._loop.after(TICK_S, self._tick)
        readers, restart = self._segments.readers, self._recovery.restart_for_memory
        rounds = Rounds(self._crew, readers, self._loop, self.clock, self.usage, self._observer, restart)
        if self.plan.shm_bytes_max > shm_limit:  # else it cannot be reached, and nobody has to look
            watch = MemoryWatch(shm_limit)
            rounds.also(lambda: watch_rings(watch, self._segments.allocated, self._observer, self._on_shm_limit), often=True)
        if self._reload is not None:
            rounds.also(self._reload.look, often=True)
        rounds.also(lambda: self._timekeeper.note(*self.view.note()), often=False)
        rounds.also(self._logs.look, often=False)
        edges = EdgeWatch(self.plan, self._observer)
        rounds.also(lambda: edges.look(rounds.pages, self.clock.monotonic_ns()), often=False)
        written_to = folders_of(self.plan.nodes, str(self._run_dir.path))
        disks = DiskWatch(lambda: measure(written_to), self._observer, self.clock)
        rounds.also(lambda: disks.look(busy=rounds.moved), often=False)
        rounds.also(lambda: self.options.manager.status(lambda: in_short(self)), often=False)
        self.options.manager.watch(self._loop)
        rounds.also(DirectoryWatch(str(self._run_dir.path), lambda: self._run_dir.in_place, self._observer).look, often=False)
        if self._traces.watch(self.plan, readers):
            rounds.also(self._traces.look, often=False)
        rounds.start()

    def _spawn_more(self) -> None:
        """All at once if the box has the cores for it; of a large graph, one more whenever one is ready."""
        while self.phase == STARTING and self._to_spawn and len(self._crew.starting()) < STARTING_MAX:
            self._crew.spawn(self.members[self._to_spawn.popleft()])

    def _result(self) -> RunResult:
        self._logs.look()  # nobody trims them any more
        self._traces.last_look()
        final, reason = self.snapshot(), self._course.reason
        now_ns, causes = self.clock.monotonic_ns(), tuple(f"{failure.node}: {failure.cause}" for failure in self._failures)
        active_ns = now_ns - self._up_ns if self._up_ns else 0
        incidents = {member.id: member.incidents for member in self.members.values()}
        self._observer.ended(reason, failed=bool(self._failures))
        self.following.last_words(self._server.serve, self._server.fd)
        events, lived_ns, wall_ns = self._observer.journal.newest(report.EVENTS_MAX), now_ns - self.started_ns, self.clock.wall_ns()
        ending = report.Ending(wall_ns, lived_ns, active_ns, reason, causes, incidents, tuple(self.warnings), events, cores())
        rows = account(final.edges)
        said = report.make_report(self.plan, final, ending, self._timekeeper.close(now_ns, final))
        return RunResult(1 if self._failures else 0, reason, said, tuple(self._failures), rows, lost(rows))

    # --- events

    def on_ready(self, member: Member) -> None:
        """SYNC: channel.Start."""
        self._spawn_more()
        if self.phase == STARTING:
            self._begin_if_ready()
        else:
            self._recovery.rejoin(member)
            if self._reload is not None:
                self._reload.on_ready(member)

    def _adopt(self, plan: Plan) -> None:
        """From here on the run is one of this plan. Rings, edges and what others know of them are those of the old one."""
        self.plan = plan
        self._observer.follow(plan)
        self._run_dir.write_info(self.info())

    def _begin_if_ready(self) -> None:
        """Tell all to begin, once. A node that has failed and was isolated meanwhile is not waited for."""
        ready = [member for member in self.members.values() if member.state == states.READY]
        if not ready or any(member.state not in (states.READY, states.FAILED) for member in self.members.values()):
            return
        self._course.begin()
        self._up_ns = self.clock.monotonic_ns()
        self._crew.send(self._crew.living(), self._recovery.start_word())
        if self.options.for_s is not None:
            for_s = self.options.for_s
            self._loop.after(for_s, lambda: self.stop(f"--for {for_s:g}s"))
        self._observer.up()

    def on_end(self, member: Member) -> None:
        """The process of a node is gone, or could not be made."""
        self.usage.forget(member.pid)
        self.orders.on_end(member)
        self._recovery.on_end(member)
        self._timekeeper.on_end(member)
        self._spawn_more()

    def on_answered(self, member: Member, answered: Answered) -> None:
        self.orders.on_answered(member, answered)

    def on_log_lost(self, member: Member, why: str) -> None:
        self._logs.lost(member.id, why)

    def on_follow(self, member: Member, follow: Follow) -> None:
        self.following.on_follow(member, follow)

    def before_kill(self, member: Member) -> None:
        self._recovery.before_kill(member)

    def _write_incident(self, member: Member, reason: str, alive: bool) -> str:
        """The path of the file, "" if it could not be written."""
        page, fds = self._segments.readers[member.id].read(), self._segments.rings_of(member.plan)
        number, cause = member.incarnation, member.last_cause
        case = Case(self.plan, self.run_id, member.id, number, member.pid, reason, cause, "" if alive else member.exit, alive, page, fds)
        path = write_incident(self._run_dir.path, case, self.clock)
        self._timekeeper.on_incident(member, reason, path)
        return path

    def _fail(self, failure: Failure) -> None:
        """A node has failed for good."""
        if self.plan.node(failure.node).restart.on_give_up != ISOLATE:
            self._fail_run(failure)
            return
        self._failures.append(failure)
        self._observer.failed(failure)
        if self.phase == STARTING:
            self._begin_if_ready()

    def _fail_run(self, failure: Failure) -> None:
        self._failures.append(failure)
        self._observer.failed(failure)
        self.stop(f"node '{failure.node}' failed")

    def _on_signals(self) -> None:
        numbers = self._signals.read() if self._signals is not None else []
        if signal.SIGCHLD in numbers:
            self._crew.reap()
            self._look_at_guard()
        for number in numbers:
            if number != signal.SIGCHLD:
                self._course.on_signal(number)

    def _look_at_guard(self) -> None:
        if self._guard is not None and not self._guard.alive():
            self._guard = None
            self._observer.warning("the guardian process died; should the coordinator be killed as well, files of this run may be left")

    def _on_lost_fork_server(self, text: str) -> None:
        if self._guard is not None and self._fork_server is not None:
            self._guard.remove(self._fork_server.pid)  # the number may come again, as that of a stranger
        self._observer.warning(text)

    def _serve(self, server: Server) -> None:
        if server.serve():
            self._loop.after(0, lambda: self._serve(server))

    def answer_down(self, request: protocol.Down) -> dict[str, Any]:
        """Once the reply is on its way."""
        self._loop.after(0, lambda: self.stop("down --now" if request.now else "down", request.now))
        return {"state": self.phase}

    def _tick(self) -> None:
        self._loop.after(TICK_S, self._tick)
        self._observer.tick()

    def _on_shm_limit(self, node: str, error: str) -> None:
        if self.phase in (STARTING, READY, DRAINING):
            self._fail_run(Failure(node, self.plan.node(node).plugin, "memory", error, "spec", kind="memory"))
