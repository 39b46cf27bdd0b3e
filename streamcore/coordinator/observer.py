"""What the coordinator tells whoever watches it from the same process. It prints nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why a node failed for good.

    where: import, config, setup, run, process, flush, close, host (as the node reported), or start, exit, hang, control, memory (as seen
    from outside). kind: the class of its end, of supervisor/exits.py. cause: one line. fault: spec, plugin, box or streamcore.
    exit: "exited with 1", "killed by SIGSEGV", or "" if there was no process. log_tail: the last lines of its log. incident: the file that
    was written about it, or "".
    """

    node: str
    plugin: str
    where: str
    cause: str
    fault: str
    exit: str = ""
    traceback: str = ""
    log_path: str = ""
    log_tail: tuple[str, ...] = ()
    kind: str = ""
    incident: str = ""


class Observer:
    """Override what is wanted. Called from the coordinator's thread, between events: return soon.

    `wants_ticks`: if True, `tick` is called twice a second, and the coordinator wakes for it; leave it False when nobody looks.
    """

    wants_ticks: bool = False

    def node_changed(self, node: str, before: str, after: str, detail: str) -> None:
        """A node went from one state of supervisor/states.py to another. `detail` is a pid, an exit or a cause, or empty."""

    def up(self) -> None:
        """All nodes are ready and were told to begin. Called at most once."""

    def shown_at(self, url: str, *, exposed: bool) -> None:
        """The run can be looked at over HTTP, before anything of it is started. `exposed`: from beyond this box."""

    def restarting(self, failure: Failure, delay_s: float) -> None:
        """A node has failed and gets a new process after `delay_s`. Nothing is lost on edges that block."""

    def renewing(self, node: str, why: str) -> None:
        """The process of a node has ended between two packets, as it was asked to, and it gets a new one: nothing has failed."""

    def hung(self, node: str, why: str) -> None:
        """One of a node's clocks has run out; its process is killed next."""

    def stalled(self, node: str, why: str) -> None:
        """Half of a node's time without progress has passed. It is not hung, and may never be."""

    def moving(self, node: str) -> None:
        """A node that was stalled gets on again."""

    def paused(self, node: str) -> None:
        """Somebody has paused it."""

    def resumed(self, node: str) -> None:
        """It was paused and goes on."""

    def dropping(self, edge: str, policy: str) -> None:
        """An edge has begun to drop packets."""

    def flowing(self, edge: str, dropped: int) -> None:
        """An edge that dropped packets has not done so for a while. `dropped`: how many from beginning to end."""

    def disk_filling(self, path: str, percent: int, detail: str) -> None:
        """A file system that the run writes to has reached this level."""

    def disk_freed(self, path: str, percent: int, detail: str) -> None:
        """It is below this level again."""

    def failed(self, failure: Failure) -> None:
        """A node failed for good. The rest of the run drains and ends with status 1, or goes on without it if the spec says `isolate`."""

    def held(self, failure: Failure) -> None:
        """A node would have failed for good, but what it was made of may be mended (`up --reload`): it waits for that."""

    def reloaded(self, node: str, why: str) -> None:
        """A node works with what has changed. `why`: e.g. "config changed (front-door.yaml:7)"."""

    def not_reloaded(self, text: str) -> None:
        """Something has changed, and nothing follows from it, for the reason that `text` gives, in one line or several."""

    def stopping(self, reason: str) -> None:
        """The run is asked to end, e.g. "SIGINT", "down", "--for 10s", "node 'motion' failed"."""

    def killing(self, reason: str) -> None:
        """What is left is killed: a second Ctrl-C, `down --now`, or not drained in time."""

    def warning(self, text: str) -> None:
        """Something that does not end the run but should be known, e.g. shared memory at 80 % of its limit."""

    def tick(self) -> None:
        """Time to draw: `Coordinator.snapshot()` gives the numbers."""
