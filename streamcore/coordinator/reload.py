"""`up --reload`: what a run was made of is watched, and nodes for which it says something else get a new process that knows it.

A change is planned in a thread, so that the run is supervised meanwhile; plugins are read by a child process as always. Nothing of the run
is touched before the new plan is there and fits into the rings and edges that processes have mapped.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from streamcore.clock import Clock
from streamcore.coordinator.course import READY
from streamcore.coordinator.crew import Crew
from streamcore.coordinator.file_watch import FileWatch, Stamp
from streamcore.coordinator.member import Member
from streamcore.coordinator.observer import Observer
from streamcore.errors import SpecError
from streamcore.graph.basis import Basis
from streamcore.graph.model import Plan
from streamcore.graph.revision import Revision, compare
from streamcore.supervisor import states
from streamcore.supervisor.loop import Loop

SETTLE_S = 0.5  # an editor may save in two steps, and people save several files at once
AS_IT_WAS = "the run goes on as it was"


class Reloading(NamedTuple):
    """What a run has, and how to plan it anew. `load` is called in a thread of its own and raises as graph.basis.lay does."""

    basis: Basis
    load: Callable[[], Basis]


class Reload:
    """`look` in every round. `adopt` is told the plan by which the run goes on."""

    def __init__(
        self,
        reloading: Reloading,
        crew: Crew,
        loop: Loop,
        clock: Clock,
        observer: Observer,
        phase: Callable[[], str],
        adopt: Callable[[Plan], None],
    ):
        self._basis, self._load = reloading
        self._crew, self._loop, self._clock, self._observer, self._phase, self._adopt = crew, loop, clock, observer, phase, adopt
        self._watch = FileWatch()
        self._busy = False  # from the first sign of a change until it is dealt with
        self._at_odds = False  # the files say something that the run could not take
        self._awaited: dict[str, tuple[str, ...]] = {}  # nodes that have not come back yet, and why they went
        self._outcome: Basis | Exception | None = None
        self._telling = threading.Lock()  # the descriptor is open while somebody writes to it
        # A plugin that was written while it was read has no files that vouch for it: reading it once more will tell which they are.
        self._doubted, self._unwatched = set(self._basis.unknown), set[str]()
        self._again = bool(self._doubted)
        self._changed = False  # a file has, and not only a doubt is left
        self._done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.watch(self._done_fd, self._on_outcome)
        self._follow(self._basis)

    def close(self) -> None:
        """A thread that is still planning then finds nobody to tell."""
        self._loop.unwatch(self._done_fd)
        with self._telling:
            os.close(self._done_fd)
            self._done_fd = -1

    def _follow(self, basis: Basis) -> None:
        left_out = self._watch.follow({**basis.spec_files, **basis.code})
        if left_out:
            self._observer.warning(f"--reload: {left_out} files of plugins are not watched; there are too many")

    # --- from a change to a plan

    def look(self) -> None:
        if not self._busy and self._phase() == READY:
            seen = self._watch.look()
            if seen or self._again:
                self._busy = True
                self._loop.after(SETTLE_S, lambda: self._settle(seen))

    def _settle(self, before: Mapping[str, Stamp]) -> None:
        seen = self._watch.look()
        if not seen and not self._again:  # all is as it was
            self._busy = False
        elif seen != before or self._is_fresh(seen.values()):
            self._loop.after(SETTLE_S, lambda: self._settle(seen))
        else:
            self._changed = bool(seen)
            self._watch.accept(seen)
            threading.Thread(target=self._plan, name="reload", daemon=True).start()

    def _is_fresh(self, stamps: Iterable[Stamp]) -> bool:
        """Compiled Python names the time of its source in whole seconds: of two versions within one, the old could be run for the new."""
        now_s = self._clock.wall_ns() // 1_000_000_000
        return any(mtime_ns // 1_000_000_000 == now_s for mtime_ns, _, _ in stamps)

    def _plan(self) -> None:
        """In the thread."""
        try:
            self._outcome = self._load()
        except Exception as error:  # it is told in the loop's thread, whatever it is: a change must not end the run
            self._outcome = error
        with self._telling:
            if self._done_fd >= 0:
                os.eventfd_write(self._done_fd, 1)

    # --- from a plan to nodes

    def _on_outcome(self) -> None:
        os.eventfd_read(self._done_fd)
        outcome, self._outcome, self._busy, self._again = self._outcome, None, False, False
        if self._phase() != READY:
            return
        if isinstance(outcome, Basis):
            outcome = self._settled(outcome)
            self._follow(outcome)
            self._apply(outcome, compare(self._basis, outcome))
        elif isinstance(outcome, SpecError):
            self._watch.follow_too([problem.file for problem in outcome.problems])
            self._refuse(outcome.told(f"{AS_IT_WAS}."))
        else:
            self._refuse(f"cannot plan again: {outcome}; {AS_IT_WAS}")

    def _settled(self, new: Basis) -> Basis:
        """With the files as they were of plugins that were written while they were read; what is unknown twice is not asked for again."""
        unknown = set(new.unknown)
        for plugin in sorted(unknown & self._doubted - self._unwatched):
            self._unwatched.add(plugin)
            self._observer.warning(f"--reload: the files of plugin {plugin} are not watched: it cannot be told which they are")
        doubted, self._doubted = unknown - self._doubted, unknown
        self._again = bool(doubted)
        return new.with_code_of(self._basis, doubted)

    def _refuse(self, text: str) -> None:
        self._at_odds = True
        self._observer.not_reloaded(text)

    def _apply(self, new: Basis, revision: Revision) -> None:
        if revision.obstacles:
            lines = "".join(f"\n    {line}" for line in revision.obstacles)
            self._refuse(f"{new.spec.file}: a new run is needed for what has changed; {AS_IT_WAS}{lines}")
            return
        self._basis = dataclasses.replace(new, plan=revision.plan)
        self._adopt(revision.plan)
        for node in revision.plan.nodes:
            if node.id in revision.nodes:
                self._crew.members[node.id].next_plan = node
                self._renew(self._crew.members[node.id], revision.nodes[node.id])
        if self._changed and not revision.nodes:
            again = "again " if self._at_odds else ""
            self._observer.not_reloaded(f"{new.spec.file}: the run has {again}what the files say; no node has changed")
        self._at_odds = False

    def _renew(self, member: Member, why: tuple[str, ...]) -> None:
        """One that is starting or ending is asked when it is ready, if it does not know the new plan by then."""
        if member.state in (states.DONE, states.FAILED):
            self._observer.not_reloaded(f"{member.id}: {', '.join(why)}, but it is {member.state} and is not started again in this run")
            return
        self._awaited[member.id] = tuple(dict.fromkeys((*self._awaited.get(member.id, ()), *why)))
        if member.state == states.BACKOFF:
            self._crew.hurry([member])
        elif member.state in (states.READY, states.DRAINING):
            self._crew.ask_to_end(member, f"reload: {', '.join(why)}")

    def on_ready(self, member: Member) -> None:
        """A process is ready while the run is under way."""
        why = self._awaited.get(member.id)
        if why is None:
            return
        if member.next_plan is not None:
            self._renew(member, why)
        else:
            del self._awaited[member.id]
            self._observer.reloaded(member.id, ", ".join(why))
