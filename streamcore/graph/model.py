"""The plan: what the coordinator builds and each node process is told. Plain frozen structs, encoded as JSON between processes.

`graph/plan.py` makes a Plan from a validated spec; the coordinator turns it into segments, sockets and processes.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Term(msgspec.Struct, frozen=True):
    """One summand of a planned number, as `streamctl plan` prints it: e.g. ("depth", 8)."""

    name: str
    value: int


class RingPlan(msgspec.Struct, frozen=True):
    """One output port's ring. `id` is its place in Plan.rings; `port` reads "node.port"."""

    id: int
    port: str
    entry_count: int
    meta_bytes: int
    slot_count: int
    slot_bytes: int
    slot_terms: tuple[Term, ...]


class EdgePlan(msgspec.Struct, frozen=True):
    """One connection. `id` is its place in Plan.edges and its number in messages; `bit` its bit in edges_pending of `ring`.

    policy: block, drop_new, drop_oldest, latest or sample. `kept`: packets that the producer keeps while the edge is full
    (drop_oldest: depth, latest: 1, else 0). `rate`: packets per second of `sample`, else 0. `completion`: hop or delivered.
    """

    id: int
    bit: int
    from_node: str
    from_port: str
    to_node: str
    to_port: str
    ring: int
    policy: str
    depth: int
    window: int
    window_terms: tuple[Term, ...]
    kept: int = 0
    rate: float = 0.0
    completion: str = "hop"
    passed_on: bool = False  # the consumer may forward the payload: then others view it as well
    feedback: bool = False  # it leads back in a cycle: its consumer ends without waiting for its END

    @property
    def name(self) -> str:
        """As reports and errors name it: camera.out->motion.in"""
        return f"{self.from_node}.{self.from_port}->{self.to_node}.{self.to_port}"


class RestartPlan(msgspec.Struct, frozen=True):
    """When a node that ended gets a new incarnation. More than `max_restarts` within `window_s`: FAILED, and `on_give_up` decides."""

    policy: str = "on_failure"  # never, on_failure or always
    max_restarts: int = 5
    window_s: float = 60.0
    backoff_s: float = 0.1  # before the first restart; doubled for each further one, with jitter
    backoff_max_s: float = 5.0
    on_give_up: str = "stop_run"  # or isolate


class NodePlan(msgspec.Struct, frozen=True):
    """One process. `config` may hold a Secret.

    `plugin` is as the spec names it, `target` the `package.module:Class` it stands for; `role` source, node or sink.
    """

    id: str
    plugin: str
    target: str
    role: str
    config: dict[str, Any]
    outputs: dict[str, int]  # port to ring id, for every declared output port
    reads: tuple[int, ...]  # rings whose payloads may reach it, forwarded ones included
    in_edges: tuple[int, ...]
    out_edges: tuple[int, ...]
    batch_max: int = 1
    retention: int = 0
    startup_s: float = 60.0
    on_error: str = "fail_packet"  # or retry, or stop: what an exception in process() does
    retries: int = 0  # of retry
    restart: RestartPlan = RestartPlan()
    heartbeat_s: float = 10.0  # of the lifeline's thread
    progress_s: float = 30.0  # one process() call, or packets waiting and none taken; 0: no bound, of a source that gives no packets
    poison_limit: int = 2  # deaths in a row over one packet, after which it is failed; 0: never
    rss_bytes_max: int = 0  # 0: no limit
    on_exceed: str = "restart"  # or warn
    drain_s: float = 0.0  # after which it alone is told to go when the run drains; 0: as the run
    env: dict[str, Any] = {}  # added to the environment; values may be a Secret
    cpu_affinity: tuple[int, ...] = ()  # () for all that streamctl may use
    nice: int = 0  # added to that of streamctl
    checks: str = "first"  # of which packets it is checked that they are what the ports declare: off, first or all
    hidden: str = ""  # outbox or spill: what an edge has brought it for

    @property
    def is_job(self) -> bool:
        """A source that gives no packets: it does something to its end, however long that takes, and then it is done."""
        return self.role == "source" and not self.outputs


class HttpPlan(msgspec.Struct, frozen=True):
    """Where the run can be looked at, of `http`."""

    host: str
    port: int
    exposed: bool

    def __str__(self) -> str:
        return f"port {self.port} of {self.host}"


class Plan(msgspec.Struct, frozen=True):
    """All processes, rings and edges of a run. `graph_version` is a hash of the effective spec."""

    run: str
    graph: str
    graph_version: str
    nodes: tuple[NodePlan, ...]
    edges: tuple[EdgePlan, ...]
    rings: tuple[RingPlan, ...]
    start_order: tuple[str, ...]  # consumers before their producers
    shm_bytes_max: int  # if every slot were full: what the budget is checked against
    drain_s: float = 10.0
    shm_limit: int | None = None  # of `limits.shm`
    http: HttpPlan | None = None

    def node(self, node_id: str) -> NodePlan:
        return next(node for node in self.nodes if node.id == node_id)


class Poisoned(msgspec.Struct, frozen=True):
    """A packet that killed its process `deaths` times in a row; the next incarnation fails it without processing it."""

    edge: int
    sequence: int
    deaths: int
    incident: str = ""  # the file of the last death


class Boot(msgspec.Struct, frozen=True):
    """What one node process is told at spawn, over an inherited memfd. `fds` are descriptor numbers in that process."""

    run: str
    run_id: str
    run_dir: str
    node: NodePlan
    edges: tuple[EdgePlan, ...]  # those that touch the node
    rings: tuple[RingPlan, ...]  # its own and those it reads
    incarnation: int
    ring_fds: dict[str, int]  # ring id, as text, to descriptor
    status_fd: int
    control_fd: int
    inbox_fd: int
    coordinator_pid: int
    message_key: int  # of this run, random: what seals every message. It stands nowhere else
    debug: bool = False
    lingers: bool = False  # it has a CPU of its own: see Inbox
    secrets: tuple[str, ...] = ()  # which its log must not show
    poisoned: tuple[Poisoned, ...] = ()
    lost_slots: dict[str, tuple[int, ...]] = {}  # of its own rings, by ring id as text: see Segments.lost_slots
