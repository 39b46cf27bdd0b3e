"""Real node processes without a coordinator: segments, control channels and processes of a small graph, made and torn down by a test."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import rig_nodes

from streamcore.graph.model import Boot, EdgePlan, NodePlan, RestartPlan, RingPlan
from streamcore.graph.windows import plan_windows
from streamcore.manifest import Manifest
from streamcore.node import channel
from streamcore.node.api import number_of, role_of
from streamcore.shm import segment
from streamcore.shm.layout import COMMITTED, ENTRY, ENTRY_BYTES, HEADER_BYTES
from streamcore.shm.ring import attach_ring, format_ring, geometry, ring_bytes
from streamcore.shm.status import NodeStatus, StatusReader, format_status, status_bytes
from streamcore.wire.sockets import bind_inbox, inbox_path

NEVER = RestartPlan(policy="never")  # nobody restarts a node here
DEADLINE_S = 30  # of every wait: far more than anything here takes, so that only a real standstill is one
HERE = Path(__file__).parent
RUN_ID = "cd" * 16
KEY = 0x5EED1234  # of the messages


@dataclass(frozen=True)
class N:
    """A node: its id, the name of a class in rig_nodes, its config, `checks` and `on_error` of the spec."""

    id: str
    cls: str
    config: dict[str, Any] = field(default_factory=dict)
    checks: str = "first"
    on_error: str = "fail_packet"
    retries: int = 0

    def __post_init__(self) -> None:
        self.config.setdefault("keep", 0)


@dataclass(frozen=True)
class E:
    """An edge from "node" or "node.port" to "node"."""

    source: str
    target: str
    policy: str = "block"
    depth: int = 4
    rate: float = 0.0
    completion: str = "hop"

    @property
    def ends(self) -> tuple[str, str, str]:
        node, _, port = self.source.partition(".")
        return node, port or "out", self.target


@dataclass
class Ended:
    """What became of a process."""

    exit: int
    reports: list[channel.Report]

    @property
    def failure(self) -> channel.Failed | None:
        return next((report for report in self.reports if isinstance(report, channel.Failed)), None)


@dataclass
class Member:
    """One process as its coordinator holds it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    status: StatusReader
    fds: list[int]
    reports: list[channel.Report] = field(default_factory=list)


class Rig:
    """A run of `nodes` (producers before consumers) and `edges`. Use it in a `with`; whatever is left then is killed."""

    def __init__(self, folder: Path, nodes: list[N], edges: list[E], **options: int):
        """Options: slot_bytes, meta_bytes, coordinator_pid."""
        self.coordinator_pid = options.get("coordinator_pid", os.getpid())
        self.folder, self.nodes = folder, {node.id: node for node in nodes}
        (folder / "logs").mkdir()
        self.edges, self.rings = _planned(nodes, edges, options.get("slot_bytes", 1 << 20), options.get("meta_bytes", 2048))
        self.ring_fds: dict[int, int] = {}
        self.members: dict[str, Member] = {}
        for ring in self.rings:
            fd = self.ring_fds[ring.id] = segment.create(ring.port, ring_bytes(ring))
            format_ring(fd, ring, RUN_ID)

    def __enter__(self) -> Rig:
        for node in self.nodes.values():
            self.members[node.id] = self._spawn(node)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            try:
                os.killpg(member.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            member.process.wait(DEADLINE_S)
            member.control.close()
            member.status.close()
            for fd in member.fds:
                os.close(fd)
        for fd in self.ring_fds.values():
            os.close(fd)

    def _spawn(self, node: N) -> Member:
        edges = [edge for edge in self.edges if node.id in (edge.from_node, edge.to_node)]
        rows = [(edge.id, self.rings[edge.ring].entry_count if edge.to_node == node.id else 0) for edge in edges]
        status_fd = segment.create("status", status_bytes(rows))
        format_status(status_fd, rows)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(DEADLINE_S)
        plan = self._node_plan(node)
        fds = {number: segment.reopen_readonly(self.ring_fds[number]) for number in plan.reads}
        ring_fds = {str(number): fd for number, fd in fds.items()} | {str(n): self.ring_fds[n] for n in plan.outputs.values()}
        needed = {*plan.reads, *plan.outputs.values()}
        rings = tuple(ring for ring in self.rings if ring.id in needed)
        fixed = ("rig", RUN_ID, str(self.folder), plan, tuple(edges), rings, 1)
        inbox = bind_inbox(self.inbox(node.id))
        boot = Boot(*fixed, ring_fds, status_fd, theirs.fileno(), inbox.fileno(), self.coordinator_pid, KEY)
        boot_fd = os.memfd_create("boot")
        os.write(boot_fd, msgspec.json.encode(boot))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*(p for p in sys.path if p), str(HERE)])}
        with (self.folder / "logs" / f"{node.id}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamcore.node", f"rig/{node.id}", str(boot_fd)],
                pass_fds=[boot_fd, status_fd, theirs.fileno(), inbox.fileno(), *map(int, ring_fds.values())],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        inbox.close()
        os.close(boot_fd)
        return Member(process, ours, StatusReader(status_fd), [status_fd, *fds.values()])

    def _node_plan(self, node: N) -> NodePlan:
        cls = getattr(rig_nodes, node.cls)
        outputs = {ring.port.partition(".")[2]: ring.id for ring in self.rings if ring.port.partition(".")[0] == node.id}
        ins = tuple(edge.id for edge in self.edges if edge.to_node == node.id)
        outs = tuple(edge.id for edge in self.edges if edge.from_node == node.id)
        batch_max = number_of(cls, "batch_max", node.config)
        config = {"out": str(self.folder / f"{node.id}.jsonl"), "gate": str(self.folder / "gate"), **node.config}
        target = f"rig_nodes:{node.cls}"
        more: dict[str, Any] = {"restart": NEVER, "checks": node.checks, "on_error": node.on_error, "retries": node.retries}
        return NodePlan(node.id, target, target, role_of(cls), config, outputs, self._reads(node.id), ins, outs, batch_max, **more)

    def _reads(self, node: str) -> tuple[int, ...]:
        """The rings of everything upstream: whatever is forwarded may reach it."""
        found: set[int] = set()
        for edge in self.edges:
            if edge.to_node == node:
                found |= {edge.ring, *self._reads(edge.from_node)}
        return tuple(sorted(found))

    # --- acting

    def start(self) -> Rig:
        """Wait until every process is ready, then tell all to begin."""
        for name, member in self.members.items():
            assert isinstance(self.report(name), channel.Ready), f"{name}: {member.reports}\n{self.log(name)}"
        for name in self.members:
            self.send(name, channel.Start(dict.fromkeys(self.nodes, 1)))
        return self

    def report(self, name: str) -> channel.Report | None:
        """The next report of a node; None at the end of its channel."""
        try:
            raw = self.members[name].control.recv(channel.DATAGRAM_BYTES_MAX)
        except TimeoutError:
            raise AssertionError(f"{name} said nothing within {DEADLINE_S} s\n{self.log(name)}") from None
        except ConnectionResetError:
            return None
        if not raw:
            return None
        self.members[name].reports.append(channel.decode_report(raw))
        return self.members[name].reports[-1]

    def send(self, name: str, command: channel.Command) -> None:
        self.members[name].control.send(channel.encode(command))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        self.members[name].process.send_signal(number)

    def open_gate(self) -> None:
        """Let the nodes go on that wait for it."""
        (self.folder / "gate").touch()

    # --- looking

    def wait(self, *names: str) -> dict[str, Ended]:
        """Wait for the end of these processes, of all by default."""
        ended = {}
        for name in names or self.members:
            member = self.members[name]
            while self.report(name) is not None:
                pass
            try:
                ended[name] = Ended(member.process.wait(DEADLINE_S), member.reports)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{name} did not end: {self.status(name)}\n{self.log(name)}") from None
        return ended

    def run(self) -> Rig:
        """From ready to the end, which every process must reach in an orderly way."""
        for name, end in self.start().wait().items():
            assert (end.exit, end.failure) == (0, None), self.log(name)
        return self

    def status(self, name: str) -> NodeStatus:
        return self.members[name].status.read()

    def books(self, source: str, target: str) -> Any:
        """The producer's counters of an edge; they must balance."""
        edge = next(edge for edge in self.edges if (edge.from_node, edge.to_node) == (source, target))
        found = self.status(source).edges[edge.id]
        assert found.sent == found.completed + found.dropped + found.failed + found.in_flight, found
        return found

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something that no report tells of."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for: {what}"
            time.sleep(0.002)
        return found

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What a node of rig_nodes has written down so far."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def inbox(self, name: str) -> str:
        return inbox_path(str(self.folder), name, 1)

    def stranger(self, name: str) -> socket.socket:
        """A connection to an inbox."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.connect(self.inbox(name))
        return made

    def debugging_map(self, name: str, port: str = "out") -> tuple[mmap.mmap, RingPlan]:
        """The ring of a port, writable, as nobody but its owner has it."""
        ring = next(ring for ring in self.rings if ring.port == f"{name}.{port}")
        return attach_ring(self.ring_fds[ring.id], ring, RUN_ID, writable=True), ring


def payload_places(memory: mmap.mmap, ring: RingPlan) -> dict[int, int]:
    """Sequence to the place in the segment of every committed payload that lies in the ring itself."""
    g, places = geometry(ring), {}
    for entry in range(g.entry_count):
        sequence, state, _, owner, slot, offset, *_ = ENTRY.unpack_from(memory, HEADER_BYTES + entry * ENTRY_BYTES)
        if state == COMMITTED and owner == ring.id:
            places[sequence] = g.slots_offset + slot * g.slot_bytes + offset
    return places


def _planned(nodes: list[N], edges: list[E], slot_bytes: int, meta_bytes: int) -> tuple[list[EdgePlan], list[RingPlan]]:
    """Edges and rings with the windows and slots that graph/windows.py gives them."""
    manifests = {n.id: Manifest.of(getattr(rig_nodes, n.cls)) for n in nodes}
    wired = {n.id: SimpleNamespace(spec=SimpleNamespace(id=n.id), manifest=manifests[n.id], config=n.config) for n in nodes}
    loose = []
    for edge in edges:
        source, port, target = edge.ends
        spec = SimpleNamespace(policy=edge.policy, depth=edge.depth, completion=edge.completion)
        loose.append(SimpleNamespace(producer=wired[source], consumer=wired[target], from_port=port, to_port="in", spec=spec))
    windows, slots = plan_windows(list(wired.values())[::-1], loose)  # type: ignore[arg-type]
    numbers = {key: number for number, key in enumerate(slots)}
    bits: dict[int, int] = {}
    plans = []
    for number, (edge, window) in enumerate(zip(edges, windows, strict=True)):
        source, port, target = edge.ends
        ring = numbers[source, port]
        bit = bits[ring] = bits.get(ring, -1) + 1
        sizes = (window.depth, window.packets, (), window.kept, edge.rate, edge.completion)
        plans.append(EdgePlan(number, bit, source, port, target, "in", ring, edge.policy, *sizes))
    counts = {key: sum(term.value for term in terms) for key, terms in slots.items()}
    rings = [RingPlan(numbers[k], ".".join(k), max(2, counts[k]), meta_bytes, counts[k], slot_bytes, ()) for k in numbers]
    return plans, rings
