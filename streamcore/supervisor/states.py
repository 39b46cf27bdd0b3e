"""The life of a node as a table: a pair of state and event that is not in it raises. Pure; the documentation is drawn from it."""

from __future__ import annotations

from streamcore.errors import InvalidTransition

PLANNED = "PLANNED"  # no process yet
STARTING = "STARTING"  # the process exists
READY = "READY"  # it said that it can work
DRAINING = "DRAINING"  # its inputs are at their end, its outputs are under way
DONE = "DONE"  # it said that everything is completed
KILLING = "KILLING"  # it has to go: it failed, its time is up, or the run ends without it
EXITED = "EXITED"  # the process is gone before it was done; the last state of a node that was killed on request
BACKOFF = "BACKOFF"  # it will be started again after a delay
FAILED = "FAILED"  # it failed for good

SPAWNED = "SPAWNED"  # a process was started
COULD_NOT_SPAWN = "COULD_NOT_SPAWN"  # the box refused to start one
SAID_READY = "SAID_READY"
SAID_DRAINING = "SAID_DRAINING"
SAID_DONE = "SAID_DONE"
SAID_FAILED = "SAID_FAILED"  # it reported why it cannot go on and exits next
DEADLINE = "DEADLINE"  # startup_s, heartbeat_s or progress_s has passed
TOLD_TO_GO = "TOLD_TO_GO"  # TERM or KILL was sent because the run ends
GONE = "GONE"  # the process was reaped
RETRY = "RETRY"  # the restart policy allows one more
GIVE_UP = "GIVE_UP"  # it does not

STATES = (PLANNED, STARTING, READY, DRAINING, DONE, KILLING, EXITED, BACKOFF, FAILED)
EVENTS = (SPAWNED, COULD_NOT_SPAWN, SAID_READY, SAID_DRAINING, SAID_DONE, SAID_FAILED, DEADLINE, TOLD_TO_GO, GONE, RETRY, GIVE_UP)
LIVE = frozenset((STARTING, READY, DRAINING, KILLING))  # a process is expected to exist; that of a DONE node may

TRANSITIONS = {
    (PLANNED, SPAWNED): STARTING,
    (PLANNED, COULD_NOT_SPAWN): EXITED,
    (STARTING, SAID_READY): READY,
    (STARTING, SAID_FAILED): KILLING,
    (STARTING, DEADLINE): KILLING,
    (STARTING, TOLD_TO_GO): KILLING,
    (STARTING, GONE): EXITED,
    (READY, SAID_DRAINING): DRAINING,
    (READY, SAID_FAILED): KILLING,
    (READY, DEADLINE): KILLING,
    (READY, TOLD_TO_GO): KILLING,
    (READY, GONE): EXITED,
    (DRAINING, SAID_DONE): DONE,
    (DRAINING, SAID_FAILED): KILLING,
    (DRAINING, DEADLINE): KILLING,
    (DRAINING, TOLD_TO_GO): KILLING,
    (DRAINING, GONE): EXITED,
    # All its work is done: what its process does from here on changes nothing, and a process that lingers is simply removed.
    (DONE, TOLD_TO_GO): DONE,
    (DONE, GONE): DONE,
    # A report may already be on its way when the decision falls. It no longer counts: a failed node does not become done.
    (KILLING, SAID_READY): KILLING,
    (KILLING, SAID_DRAINING): KILLING,
    (KILLING, SAID_DONE): KILLING,
    (KILLING, SAID_FAILED): KILLING,
    (KILLING, TOLD_TO_GO): KILLING,
    (KILLING, GONE): EXITED,
    (EXITED, RETRY): BACKOFF,
    (EXITED, GIVE_UP): FAILED,
    (BACKOFF, SPAWNED): STARTING,
    (BACKOFF, COULD_NOT_SPAWN): EXITED,
    (BACKOFF, TOLD_TO_GO): EXITED,
}


def step(state: str, event: str, node: str, incarnation: int) -> str:
    """The state that follows.

    Raises:
      InvalidTransition: names state, event, node and incarnation.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise InvalidTransition(f"{event} is not allowed in state {state} (node '{node}', incarnation {incarnation})")
    return following


def as_markdown() -> str:
    """The table as the documentation shows it: one row per state, what leads where."""
    rows = ["| state | event and the state that follows |", "|---|---|"]
    for state in STATES:
        ways = [f"{event} → {after}" for (before, event), after in TRANSITIONS.items() if before == state and after != state]
        stays = [event for (before, event), after in TRANSITIONS.items() if before == state and after == state]
        if stays:
            ways.append("stays on " + ", ".join(stays))
        rows.append(f"| {state} | {'; '.join(ways) or 'final'} |")
    return "\n".join(rows)


def as_mermaid() -> str:
    """The same as a mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {PLANNED}"]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in (DONE, EXITED, FAILED)]
    return "\n".join(lines)
