"""Incident files: why a node was killed or how it died, with everything that was to be found out, in one file that can be sent away.

    RUN_DIR/incidents/NODE.INCARNATION.json       mode 0600; the newest INCIDENTS_MAX of a run are kept
    RUN_DIR/incidents/NODE.INCARNATION.SEQ.png    the frame it worked on and the next ones that waited, made small, if they were pictures

{"v": 1, "ts", "run", "run_id", "graph", "graph_version", "node", "plugin", "incarnation", "pid",
 "reason": "crash" | "hang" | "startup", "cause": one sentence, "exit": "killed by SIGSEGV" or "",
 "busy_s": seconds in process() or null,
 "packet": {"edge", "sequence", "packet_id", "kind", "source_id", "ts", "position", "meta", "payload", "redelivered"} or null,
 "stacks": {"python", "note", "state", "threads": [{"tid", "name", "state", "wchan", "stack"}]},
 "process": fields of /proc/PID/status, "status": the status page, "log": the last lines, "environment", "pictures": file names}

Secrets are masked everywhere (masking.py). A payload is described, not stored; frames are shown as pictures, because that is what one
needs to see, so a run directory is as confidential as its video. Written before a kill (the process is alive) and after a crash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from streamcore.clock import Clock, iso_utc
from streamcore.graph.model import Plan
from streamcore.secret import Masker, secrets_in
from streamcore.shm.status import NodeStatus
from streamcore.supervisor import evidence, masking, stacks
from streamcore.supervisor.logtail import last_lines

VERSION = 1
FOLDER = "incidents"
REASONS = ("crash", "hang", "startup")  # what a node did: it ended, one of its clocks ran out, it was not ready in time
INCIDENTS_MAX = 50  # of a run: five restarts in a minute end it, so these are the last ten minutes of the worst case
LOG_LINES = 100
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}\.[0-9]{1,9}")  # without .json
_FATAL = "Fatal Python error:"


@dataclass(frozen=True)
class Case:
    """What the coordinator knows of it.

    alive: the process can still be looked at. exit: as exits.describe_exit says it, "" for a process that lives. page: its status page.
    ring_fds: ring to descriptor, as Segments.rings_of gives them; the packet under work is read from there.
    """

    plan: Plan
    run_id: str
    node: str
    incarnation: int
    pid: int
    reason: str
    cause: str
    exit: str = ""
    alive: bool = False
    page: NodeStatus | None = None
    ring_fds: Mapping[int, int] = field(default_factory=dict)


def write(run_dir: str | Path, case: Case, clock: Clock | None = None) -> str:
    """Collect, and write the file; its path, or "" if the box refuses (a full disk, a removed run directory): the run goes on.

    Takes some 30 ms for a process that answers, at most stacks.WAIT_S more for one that does not.
    """
    clock = clock or Clock()
    name = f"{case.node}.{case.incarnation}"
    found = _collect(Path(run_dir), case, clock)
    try:
        folder = _folder(Path(run_dir))
        try:
            pictures = [_store(folder, f"{name}.{sequence}.png", drawn) for sequence, drawn in (found.packets.pictures or {}).items()]
            facts = assemble(case, found, clock.wall_ns(), clock.monotonic_ns(), pictures)
            _store(folder, f"{name}.json", msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
            _remove_oldest(folder)
        finally:
            os.close(folder)
    except OSError:
        return ""
    return str(Path(run_dir) / FOLDER / f"{name}.json")


# --- what is written: pure


@dataclass(frozen=True)
class Found:
    """What was collected."""

    stacks: stacks.Stacks
    packets: evidence.Packets
    process: Mapping[str, str]
    log: tuple[str, ...]
    environment: Mapping[str, str]


def assemble(case: Case, found: Found, wall_ns: int, now_ns: int, pictures: list[str]) -> dict[str, Any]:
    """The content of the file."""
    plan, page = case.plan, case.page
    busy_ns = page.busy_since_ns if page else 0
    facts = {
        "v": VERSION,
        "ts": iso_utc(wall_ns),
        "run": plan.run,
        "run_id": case.run_id,
        "graph": plan.graph,
        "graph_version": plan.graph_version,
        "node": case.node,
        "plugin": plan.node(case.node).plugin,
        "incarnation": case.incarnation,
        "pid": case.pid,
        "reason": case.reason,
        "cause": case.cause,
        "exit": case.exit,
        "busy_s": round((now_ns - busy_ns) / 1e9, 3) if busy_ns else None,
        "packet": found.packets.current,
        "stacks": {**msgspec.to_builtins(found.stacks), "python": found.stacks.python or fatal_stack(found.log)},
        "process": dict(found.process),
        "status": msgspec.to_builtins(page) if page else None,
        "log": list(found.log),
    }
    whole = {**masking.mask(facts), "environment": masking.mask_environment(found.environment), "pictures": pictures}
    node = plan.node(case.node)
    masker = Masker(secret.reveal() for secret in secrets_in((node.config, node.env)))
    return masker.mask_all(whole) if masker else whole


def fatal_stack(log: tuple[str, ...]) -> str:
    """The stacks that faulthandler has written into the log of a process killed by SIGSEGV, SIGABRT, SIGFPE or SIGBUS; "" if none."""
    starts = [number for number, line in enumerate(log) if line.startswith(_FATAL)]
    return "\n".join(log[starts[-1] :]) if starts else ""


# --- finding out and storing


def _collect(run_dir: Path, case: Case, clock: Clock) -> Found:
    node = case.plan.node(case.node)
    gone = stacks.Stacks("", "the process is gone; what it wrote when it died, if anything, is in its log", "", ())
    try:
        packets = evidence.packets(case.plan, node, case.page, case.ring_fds)
    except OSError:  # a descriptor of a run that is being closed
        packets = evidence.Packets()
    return Found(
        stacks=stacks.look(case.pid, clock, wake=case.reason == "hang") if case.alive else gone,
        packets=packets,
        process=evidence.process_facts(case.pid) if case.alive else {},
        log=last_lines(str(run_dir / "logs" / f"{case.node}.log"), LOG_LINES),
        environment=evidence.environment(case.pid if case.alive else -1),
    )


def _folder(run_dir: Path) -> int:
    """A descriptor of the folder, made if it is not there; a link in its place is refused."""
    path = run_dir / FOLDER
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _store(folder: int, name: str, content: bytes) -> str:
    """Whole or not at all."""
    temporary = f".{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(content)
    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    return name


def _remove_oldest(folder: int) -> None:
    names = [name for name in os.listdir(folder) if name.endswith(".json") and NAME.fullmatch(name[:-5])]
    if len(names) <= INCIDENTS_MAX:
        return
    oldest_first = sorted(names, key=lambda name: os.stat(name, dir_fd=folder).st_mtime_ns)
    for old in oldest_first[:-INCIDENTS_MAX]:
        belonging = [name for name in os.listdir(folder) if name == old or (name.startswith(old[:-4]) and name.endswith(".png"))]
        for name in belonging:
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:  # somebody tidies up by hand
                pass


# --- reading


def known(run_dir: str | Path) -> list[dict[str, Any]]:
    """All incidents of a run, live or ended, the oldest first; what cannot be read is left out."""
    folder = Path(run_dir) / FOLDER
    try:
        names = [path.stem for path in folder.glob("*.json") if NAME.fullmatch(path.stem)]
    except OSError:
        return []
    found = [incident for name in names if (incident := read(run_dir, name)) is not None]
    return sorted(found, key=lambda incident: str(incident.get("ts", "")))


def read(run_dir: str | Path, name: str) -> dict[str, Any] | None:
    """One incident by its name, NODE.INCARNATION; None if there is none."""
    if not NAME.fullmatch(name):
        return None
    try:
        fd = os.open(Path(run_dir) / FOLDER / f"{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found: dict[str, Any] = msgspec.json.decode(file.read(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None
    return found
