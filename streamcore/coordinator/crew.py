"""All nodes of a run and their processes: spawned, listened to, signalled and reaped. What follows from an end is decided elsewhere."""

from __future__ import annotations

import errno
import functools
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from streamcore import limits
from streamcore.clock import Clock
from streamcore.coordinator.member import Member
from streamcore.coordinator.observer import Observer
from streamcore.errors import InvalidTransition, MessageError
from streamcore.graph.model import Boot, NodePlan, Plan
from streamcore.node import channel
from streamcore.secret import secrets_in
from streamcore.supervisor import exits, guardian, states
from streamcore.supervisor.forking import ForkServer
from streamcore.supervisor.guard import Guard
from streamcore.supervisor.interpreter import COMMAND
from streamcore.supervisor.loop import Loop
from streamcore.supervisor.process import Process
from streamcore.supervisor.segments import Segments
from streamcore.wire.sockets import bind_inbox, inbox_path

EXIT_S = 5.0  # from "done" or "failed" to the end of the process: unloading a big native library takes a second or two
_MAY_PASS = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # the box is full just now
REAP_S, REAP_PAUSE_S = 2.0, 0.005  # after SIGKILL a process is gone in a millisecond, unless the kernel holds it in a device call


@dataclass(frozen=True)
class Equipment:
    """What every process of a run is given.

    boot: filled in per node. cpus: how many the run may use. open_log: gives a descriptor by node id. forget: what a dead process left
    in the run directory. fork_server: of processes that `command` would start otherwise.
    """

    plan: Plan
    segments: Segments
    boot: Boot
    cpus: float
    open_log: Callable[[str], int]
    forget: Callable[[str, int], None]
    command: Sequence[str] = COMMAND
    fork_server: ForkServer | None = None


class Decider(Protocol):
    """Who decides what an event means for the run."""

    def on_ready(self, member: Member) -> None: ...

    def on_answered(self, member: Member, answered: channel.Answered) -> None:
        """It has carried out an order, or cannot."""

    def on_log_lost(self, member: Member, why: str) -> None:
        """Its log takes nothing any more. It goes on."""

    def on_follow(self, member: Member, follow: channel.Follow) -> None:
        """It wants to know what happens in the run."""

    def on_end(self, member: Member) -> None:
        """Its process is gone, or could not be made: it is DONE, or EXITED and has to be retried or given up unless it was told to go."""

    def before_kill(self, member: Member) -> None:
        """It is going to be killed because a clock ran out: the last moment to look at it."""


class Crew:
    """The members by id, in the order of the plan. All calls come from the loop's thread, which must be the main one."""

    def __init__(self, equipment: Equipment, members: dict[str, Member], loop: Loop, guard: Guard, observer: Observer, decider: Decider):
        self.members = members
        self._equipment, self._loop, self._guard, self._observer, self._decider = equipment, loop, guard, observer, decider
        self._lingering: list[Process] = []  # leader reaped, something of its group not yet
        self._strays: set[int] = set()  # killed outside of any group; their statuses come to us, the subreaper

    def living(self) -> list[Member]:
        return [member for member in self.members.values() if member.process is not None]

    def starting(self) -> list[Member]:
        return [member for member in self.members.values() if member.state == states.STARTING]

    def unfinished(self) -> list[Member]:
        """Those that have a process, or will get one."""
        return [member for member in self.members.values() if member.process is not None or member.state == states.BACKOFF]

    def spawn(self, member: Member) -> None:
        """Start the next incarnation. A box that refuses is a failure of the node, told through `Decider.on_end`."""
        member.begin()
        log_fd = -1
        try:
            log_fd = self._equipment.open_log(member.id)
            with bind_inbox(inbox_path(self._equipment.boot.run_dir, member.id, member.incarnation)) as inbox:
                boot = _boot(self._equipment, member, self._gone(), inbox.fileno())
                member.process = Process(boot, log_fd, self._equipment.command, self._equipment.fork_server)
        except OSError as error:
            kind = exits.NO_PROCESS if error.errno in _MAY_PASS else exits.NO_COMMAND
            member.blame("start", f"cannot start a process: {error.strerror}", "box", kind=kind)
            member.complete_failure()
            self._equipment.forget(member.id, member.incarnation)
            self._advance(member, states.COULD_NOT_SPAWN, "")
            self._decider.on_end(member)
            return
        finally:
            if log_fd >= 0:
                os.close(log_fd)
        process = member.process
        member.pid = process.pid
        self._guard.add(process.pid)
        self._loop.watch(process.pidfd, lambda: self._on_exit(member, process))
        self._loop.watch(process.channel_fd, lambda: self._on_channel(member, process))
        self._await_ready(member)
        self._advance(member, states.SPAWNED, f"pid {process.pid}")

    def _await_ready(self, member: Member) -> None:
        member.set_deadline(self._loop.after(member.plan.startup_s, lambda: self._on_startup_deadline(member)))

    def _gone(self) -> list[NodePlan]:
        return [member.plan for member in self.members.values() if member.state == states.FAILED]

    def send(self, members: Iterable[Member], command: channel.Command) -> None:
        for member in members:
            if member.process is not None:
                member.process.send(command)

    def announce_end(self, members: Iterable[Member]) -> None:
        for member in members:
            self.send([member], channel.Stop() if member.plan.role == "source" else channel.Drain())

    def tell_to_go(self, members: Iterable[Member], number: signal.Signals) -> None:
        """TERM or KILL to members that have to go although they are not done."""
        for member in members:
            member.told_to_go = True
            if member.process is not None:
                self._advance(member, states.TOLD_TO_GO, "")
                member.process.signal_group(number)
            elif member.state == states.BACKOFF:
                member.set_deadline(None)
                self._advance(member, states.TOLD_TO_GO, "")

    def pause(self, members: Iterable[Member]) -> None:
        for member in members:
            self.send([member], channel.Pause())
            if not member.paused:
                member.paused = True
                self._observer.paused(member.id)

    def resume(self, members: Iterable[Member]) -> None:
        for member in members:
            if member.paused:
                member.paused = False
                member.clocks.excuse(self._loop.now_ns())
                self.send([member], channel.Resume())
                self._observer.resumed(member.id)

    def ask_to_end(self, member: Member, why: str) -> None:
        """Have it end between two packets; `Decider.on_end` then finds `ended_as_asked`. Its children are its own to end.

        A job has no two packets, and no clock that runs: it has `drain_s`, as when the run ends.
        """
        if member.process is not None and not member.asked:
            member.asked = why
            member.process.terminate()
            if member.plan.is_job:
                process, drain_s = member.process, self._equipment.plan.drain_s
                member.set_deadline(self._loop.after(drain_s, lambda: self._on_asked_deadline(member, process, drain_s)))

    def _on_asked_deadline(self, member: Member, process: Process, drain_s: float) -> None:
        if member.process is process and member.state in (states.READY, states.DRAINING):  # else it has to go already
            self.kill_hung(member, f"has not ended within {drain_s:g} s, as it was asked to ({member.asked})", stopped=False)

    def retry(self, member: Member, delay_s: float, detail: str) -> None:
        """An EXITED member gets a new incarnation after a while."""
        self._advance(member, states.RETRY, detail)
        member.set_deadline(self._loop.after(delay_s, lambda: self.spawn(member)))

    def hold(self, member: Member) -> None:
        """An EXITED member gets a new incarnation when somebody asks for it (`hurry`)."""
        self._advance(member, states.RETRY, member.last_cause)

    def hurry(self, members: Iterable[Member]) -> None:
        """Whoever of these waits for its next incarnation gets it now."""
        for member in members:
            if member.state == states.BACKOFF:
                member.set_deadline(self._loop.after(0, functools.partial(self.spawn, member)))

    def give_up(self, member: Member) -> None:
        """An EXITED member has failed for good."""
        self._advance(member, states.GIVE_UP, member.failure.cause if member.failure else "")

    def kill_hung(self, member: Member, why: str, *, stopped: bool) -> None:
        """One of its clocks has run out. `stopped`: because somebody keeps the process from running."""
        if member.process is not None:
            self._observer.hung(member.id, why)
            member.blame("hang", why, "box" if stopped else "plugin", kind=exits.HALTED if stopped else exits.HUNG)
            self._kill_late(member, member.process)

    def reap(self) -> None:
        """A child has ended: perhaps an orphaned grandchild, which nobody else would reap."""
        if self._equipment.fork_server is not None:
            self._equipment.fork_server.reap()
        for member in self.living():
            if member.process is not None:
                member.process.reap()
        self._lingering = [process for process in self._lingering if not self._reaped(process)]
        self._strays = {pid for pid in self._strays if _still_a_child(pid)}

    def destroy(self, clock: Clock) -> bool:
        """Kill whatever is left of the run, wherever it hides, and wait for it. False if something did not go within REAP_S."""
        self._lingering += [member.process for member in self.members.values() if member.process is not None]
        for member in self.members.values():
            member.process = None
        for process in self._lingering:
            process.signal_group(signal.SIGKILL)
        deadline_ns = clock.monotonic_ns() + round(REAP_S * 1e9)
        while True:
            hit = self._kill_strays(f"{self._equipment.boot.run_id}/")
            self.reap()
            if not (hit or self._lingering or self._strays):
                return True
            if clock.monotonic_ns() > deadline_ns:
                return False
            clock.sleep(REAP_PAUSE_S)

    def _kill_strays(self, mark: str) -> list[int]:
        hit = guardian.kill_members(mark.encode())
        self._strays.update(hit)
        return hit

    # --- events

    def _on_channel(self, member: Member, process: Process) -> None:
        fd = process.channel_fd
        try:
            reports = process.reports()
        except MessageError as error:
            reports = []
            self._on_nonsense(member, process, str(error))
        if process.channel_fd < 0:
            self._loop.unwatch(fd)
            self._expect_exit(member, process)  # nothing can be said to it any more
        for report in reports:
            try:
                self._on_report(member, process, report)
            except InvalidTransition as error:
                self._on_nonsense(member, process, str(error))

    def _on_report(self, member: Member, process: Process, report: channel.Report) -> None:
        if isinstance(report, channel.Starting):
            if member.state == states.STARTING:
                self._await_ready(member)
        elif isinstance(report, channel.Ready):
            self._advance(member, states.SAID_READY, "")
            if member.state == states.READY:
                member.set_deadline(None)
                member.clocks.excuse(self._loop.now_ns())  # its page still shows what its predecessor left
                self._decider.on_ready(member)
        elif isinstance(report, channel.Answered):
            self._decider.on_answered(member, report)
        elif isinstance(report, channel.LogLost):
            self._decider.on_log_lost(member, report.why)
        elif isinstance(report, channel.Follow):
            self._decider.on_follow(member, report)
        elif isinstance(report, channel.Draining):
            self._advance(member, states.SAID_DRAINING, "")
        elif isinstance(report, channel.Done):
            self._advance(member, states.SAID_DONE, "")
            self._expect_exit(member, process)
        else:
            self._advance(member, states.SAID_FAILED, report.cause)
            member.blame_report(report)
            self._expect_exit(member, process)

    def _on_nonsense(self, member: Member, process: Process, what: str) -> None:
        """It does not keep to the protocol: whatever it does next cannot be trusted."""
        if member.state == states.DONE:
            self._observer.warning(f"node '{member.id}': {what}, after it was done")
        else:
            member.blame("control", what, "streamcore")
            self._advance(member, states.TOLD_TO_GO, what)
        member.told_to_go = True
        process.signal_group(signal.SIGKILL)

    def _expect_exit(self, member: Member, process: Process) -> None:
        member.set_deadline(self._loop.after(EXIT_S, lambda: self._on_exit_deadline(member, process)))

    def _on_exit_deadline(self, member: Member, process: Process) -> None:
        if member.process is not process:
            return
        if member.state == states.DONE:
            self._observer.warning(f"node '{member.id}' was done but its process did not exit within {EXIT_S:g} s; killed")
        else:
            member.blame("exit", f"closed its control channel and did not exit within {EXIT_S:g} s", "plugin")
            self._advance(member, states.TOLD_TO_GO, "")
        member.told_to_go = True
        process.signal_group(signal.SIGKILL)

    def _on_startup_deadline(self, member: Member) -> None:
        if member.process is not None and member.state == states.STARTING:  # else it has to go already
            member.blame("start", f"not ready after {member.plan.startup_s:g} s", "plugin")
            self._kill_late(member, member.process)

    def _kill_late(self, member: Member, process: Process) -> None:
        self._decider.before_kill(member)
        member.told_to_go = True
        self._advance(member, states.DEADLINE, member.last_cause)
        process.signal_group(signal.SIGKILL)

    def _on_exit(self, member: Member, process: Process) -> None:
        if process.channel_fd >= 0:
            self._on_channel(member, process)  # its last words were sent before it died
        process.signal_group(signal.SIGKILL)  # what it started must not outlive it
        all_reaped = process.reap()
        if process.status is None:
            return  # ended but not to be collected yet; the descriptor stays readable
        member.set_deadline(None)
        self._loop.unwatch(process.pidfd)
        if process.channel_fd >= 0:
            self._loop.unwatch(process.channel_fd)
        if member.state != states.DONE or process.status != 0:
            self._kill_strays(process.mark)  # what left its group; after an orderly end the whole run is searched, once
        if all_reaped:
            self._reaped(process)
        else:
            self._lingering.append(process)
        member.past_cpu_s += process.cpu_s
        member.past_core_wait_s += process.core_wait_s
        member.process = None
        self._equipment.forget(member.id, member.incarnation)
        member.note_exit(process.status)
        if member.state == states.DONE and process.status != 0 and not member.told_to_go:
            self._observer.warning(f"node '{member.id}' was done, then {member.exit}; nothing is lost")
        self._advance(member, states.GONE, member.exit)
        self._decider.on_end(member)

    def _reaped(self, process: Process) -> bool:
        if not process.reap():
            return False
        self._guard.remove(process.pid)
        process.close()
        return True

    def _advance(self, member: Member, event: str, detail: str) -> None:
        before = member.step(event)
        if member.state != before:
            self._observer.node_changed(member.id, before, member.state, detail)


def _still_a_child(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def _boot(equipment: Equipment, member: Member, gone: Iterable[NodePlan], inbox_fd: int) -> Boot:
    """The template with what differs from node to node. The control channel is made by Process. `gone`: nodes that have failed for good."""
    node, plan = member.plan, equipment.plan
    rings = equipment.segments.rings_of(node)
    edges = {*node.in_edges, *node.out_edges}
    return msgspec.structs.replace(
        equipment.boot,
        node=node,
        edges=tuple(edge for edge in plan.edges if edge.id in edges),
        secrets=tuple(str(secret.reveal()) for secret in secrets_in((node.config, node.env))),
        rings=tuple(ring for ring in plan.rings if ring.id in rings),
        incarnation=member.incarnation,
        ring_fds={str(ring): fd for ring, fd in rings.items()},
        status_fd=equipment.segments.status_of(node),
        inbox_fd=inbox_fd,
        lingers=len(plan.nodes) <= equipment.cpus and not node.cpu_affinity,
        poisoned=member.poison.removed,
        lost_slots={str(ring): slots for ring, slots in equipment.segments.lost_slots(node, gone).items()},
    )


assert limits.TERM_S < EXIT_S
