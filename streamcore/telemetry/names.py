"""The metrics of a run: every name, what it means, and where its value stands. One contract for all nodes and transports.

Names are those of Prometheus: `streamcore_`, what it is of, the unit, `_total` for what only grows. Times are in seconds, sizes in bytes.
Labels are `graph`, `run`, `node`, `edge`, `policy`, `port`, never a pid: a node that is restarted keeps its series, and its counts go on
where its predecessor's stood, for they stand on its status page. docs/metrics.md lists them for people; tests compare.
"""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
RUN, NODE, EDGE, PROCESS, QUEUE, POST, RECORDING, REPLAY = "run", "node", "edge", "process", "queue", "post", "recording", "replay"
NANO = 1e-9

LABELS = {
    RUN: ("graph", "run"),
    NODE: ("graph", "run", "node"),
    EDGE: ("graph", "run", "edge", "from_node", "to_node", "policy"),
    PROCESS: ("graph", "run", "node"),
    QUEUE: ("graph", "run", "node"),
    POST: ("graph", "run", "node"),
    RECORDING: ("graph", "run", "node"),
    REPLAY: ("graph", "run", "node"),
}


class Metric(NamedTuple):
    """`of`: what one value belongs to, which gives its labels. `field`: of a NodeRow or EdgeRow, or the name of a metric that the node
    publishes (queue, post, recording, replay). `scale`: from the field's unit to that of the name.
    """

    name: str
    kind: str
    of: str
    field: str
    help: str
    scale: float = 1.0


RUN_INFO, NODE_UP, NODE_READY = "streamcore_run_info", "streamcore_node_up", "streamcore_node_ready"  # no field says these
METRICS = (
    Metric(RUN_INFO, GAUGE, RUN, "", "1; the labels `version` and `graph_version` say of what."),
    Metric("streamcore_run_start_time_seconds", GAUGE, RUN, "started_s", "When the run was started, in seconds since 1970."),
    Metric("streamcore_run_uptime_seconds", GAUGE, RUN, "uptime_s", "Since the run was started."),
    Metric("streamcore_node_consumed_packets_total", COUNTER, NODE, "consumed", "Packets that process() has taken."),
    Metric("streamcore_node_produced_packets_total", COUNTER, NODE, "produced", "Packets emitted, over all output ports."),
    Metric("streamcore_node_failed_packets_total", COUNTER, NODE, "failed", "Packets that failed in this node."),
    Metric("streamcore_node_refused_messages_total", COUNTER, NODE, "refused", "Messages that were none of the run's."),
    Metric("streamcore_node_copied_payloads_total", COUNTER, NODE, "copied", "Payloads that had to be copied into a slot."),
    Metric("streamcore_node_busy_seconds_total", COUNTER, NODE, "work_ns", "Time in node code, without waiting for credit.", NANO),
    Metric("streamcore_node_idle_seconds_total", COUNTER, NODE, "wait_ns", "Time with nothing to do.", NANO),
    Metric("streamcore_node_credit_wait_seconds_total", COUNTER, NODE, "credit_wait_ns", "Time without room in a full edge.", NANO),
    Metric("streamcore_node_restarts_total", COUNTER, NODE, "restarts", "New processes after the first one."),
    Metric("streamcore_node_incidents_total", COUNTER, NODE, "incidents", "Incident files written about the node."),
    Metric("streamcore_node_leases", GAUGE, NODE, "leases", "Packets that node code holds."),
    Metric("streamcore_node_paused", GAUGE, NODE, "paused", "1: paused."),
    Metric(NODE_UP, GAUGE, NODE, "", "1: it has a process."),
    Metric(NODE_READY, GAUGE, NODE, "", "1: it has said that it can work, or it is done."),
    Metric("streamcore_node_work_seconds", HISTOGRAM, NODE, "work", "One call of node code, without waiting for credit.", NANO),
    Metric("streamcore_node_end_to_end_seconds", HISTOGRAM, NODE, "end_to_end", "From capture to the end of this node's work.", NANO),
    Metric("streamcore_edge_sent_packets_total", COUNTER, EDGE, "sent", "Packets offered to the edge."),
    Metric("streamcore_edge_taken_packets_total", COUNTER, EDGE, "taken", "Packets that the consumer has begun."),
    Metric("streamcore_edge_completed_packets_total", COUNTER, EDGE, "completed", "Packets finished by the consumer."),
    Metric("streamcore_edge_dropped_packets_total", COUNTER, EDGE, "dropped", "Packets that the edge's policy has dropped."),
    Metric("streamcore_edge_failed_packets_total", COUNTER, EDGE, "failed", "Packets that failed at the consumer."),
    Metric("streamcore_edge_redelivered_packets_total", COUNTER, EDGE, "redelivered", "Packets that came once more after a restart."),
    Metric("streamcore_edge_payload_bytes_total", COUNTER, EDGE, "bytes", "Bytes of payload that the consumer has taken."),
    Metric("streamcore_edge_in_flight_packets", GAUGE, EDGE, "in_flight", "Packets sent and not yet completed."),
    Metric("streamcore_edge_waiting_packets", GAUGE, EDGE, "waiting", "Packets that wait at the consumer, not yet taken."),
    Metric("streamcore_edge_credit_packets", GAUGE, EDGE, "credit", "Packets that may be sent now."),
    Metric("streamcore_edge_depth_packets", GAUGE, EDGE, "depth", "Most packets that may wait."),
    Metric("streamcore_edge_window_packets", GAUGE, EDGE, "window", "Most packets in flight."),
    Metric("streamcore_edge_wait_seconds", HISTOGRAM, EDGE, "wait", "From sending to taking.", NANO),
    Metric("streamcore_process_cpu_seconds_total", COUNTER, PROCESS, "cpu_s", "CPU time of the process; begins anew with each process."),
    Metric("streamcore_process_start_time_seconds", GAUGE, PROCESS, "started_s", "When the process was started, in seconds since 1970."),
    Metric("streamcore_process_resident_bytes", GAUGE, PROCESS, "rss_bytes", "Resident memory, shared frames included."),
    Metric("streamcore_process_open_fds", GAUGE, PROCESS, "fds", "Open descriptors."),
    Metric("streamcore_process_threads", GAUGE, PROCESS, "threads", "Threads."),
    Metric(
        "streamcore_process_context_switches_total",
        COUNTER,
        PROCESS,
        "context_switches",
        "How often its threads were given a CPU; begins anew with each process.",
    ),
    Metric("streamcore_queue_waiting_records", GAUGE, QUEUE, "waiting", "Records on the disk that wait for delivery."),
    Metric("streamcore_queue_stored_records_total", COUNTER, QUEUE, "stored", "Records stored since the queue was made."),
    Metric("streamcore_queue_acknowledged_records_total", COUNTER, QUEUE, "acknowledged", "Records delivered and acknowledged."),
    Metric("streamcore_queue_failed_deliveries_total", COUNTER, QUEUE, "failed_deliveries", "Deliveries that failed and are tried again."),
    Metric("streamcore_queue_dead_letters_total", COUNTER, QUEUE, "dead_letters", "Records given up as dead letters."),
    Metric("streamcore_queue_duplicate_records_total", COUNTER, QUEUE, "duplicates", "Records not stored, for their key was known."),
    Metric("streamcore_queue_dropped_records_total", COUNTER, QUEUE, "dropped", "Records that the policy of a full queue has dropped."),
    Metric("streamcore_queue_replayed_records_total", COUNTER, QUEUE, "replayed", "Records queued once more."),
    Metric("streamcore_queue_quarantined_records_total", COUNTER, QUEUE, "quarantined", "Damaged records set aside."),
    Metric("streamcore_queue_used_bytes", GAUGE, QUEUE, "used_bytes", "Room taken by records."),
    Metric("streamcore_post_requests_total", COUNTER, POST, "posts", "Requests sent."),
    Metric("streamcore_post_delivered_packets_total", COUNTER, POST, "delivered", "Packets that the server has answered with 2xx."),
    Metric("streamcore_post_refused_packets_total", COUNTER, POST, "posts_refused", "Packets that the server refuses for good."),
    Metric("streamcore_post_failed_requests_total", COUNTER, POST, "posts_failed", "Requests with no answer, or with one that may pass."),
    Metric("streamcore_post_turned_away_packets_total", COUNTER, POST, "turned_away", "Packets not sent while the breaker was open."),
    Metric("streamcore_post_breaker_open", GAUGE, POST, "breaker_open", "1: nothing is sent until the server is tried again."),
    Metric("streamcore_post_answer_seconds", GAUGE, POST, "answer_ms", "How long answers take, on average over the last ones.", 1e-3),
    Metric("streamcore_recording_recorded_packets_total", COUNTER, RECORDING, "recorded", "Packets recorded."),
    Metric("streamcore_recording_repeated_packets_total", COUNTER, RECORDING, "repeats", "Packets that had been recorded before."),
    Metric("streamcore_recording_refused_packets_total", COUNTER, RECORDING, "refused", "Packets that could not be recorded."),
    Metric("streamcore_recording_dropped_packets_total", COUNTER, RECORDING, "dropped", "Packets not recorded: the disk was slow or full."),
    Metric("streamcore_recording_deleted_packets_total", COUNTER, RECORDING, "deleted", "Packets deleted by age or size."),
    Metric("streamcore_replay_damaged_records_total", COUNTER, REPLAY, "damaged", "Records that could not be replayed."),
    Metric("streamcore_recording_bytes", GAUGE, RECORDING, "recording_bytes", "Size of the recording."),
)

OF_PLUGINS = (QUEUE, POST, RECORDING, REPLAY)
# Nodes whose own metrics have names here; those of all others are values of OTHER, whose label `name` is what their author chose.
PUBLISHED = {
    "durable.queue": QUEUE,
    "durable.spill": QUEUE,
    "http.post": POST,
    "durable.record": RECORDING,
    "durable.replay": REPLAY,
}
OTHER = Metric("streamcore_node_value", GAUGE, NODE, "", "A number that the node's own code publishes; `name` is its name.")
OTHER_LABELS = (*LABELS[NODE], "name")


def fields_of(of: str) -> frozenset[str]:
    """What nodes of OF_PLUGINS have to publish."""
    return _FIELDS.get(of, frozenset())


_FIELDS = {of: frozenset(metric.field for metric in METRICS if metric.of == of) for of in OF_PLUGINS}

TITLES = {
    RUN: "Run",
    NODE: "Nodes",
    EDGE: "Edges",
    PROCESS: "Processes",
    QUEUE: "Queues",
    POST: "Posts",
    RECORDING: "Recordings",
    REPLAY: "Replays",
}
WHOSE = {
    RUN: "One of each.",
    NODE: "Of every node. They begin at 0 with the run, and a node that is restarted goes on where it stood.",
    EDGE: "Of every edge. They begin at 0 with the run, whoever of the two nodes is restarted.",
    PROCESS: "Of the process that a node has at the moment, as its kernel counts; missing while it has none. Counters begin anew with each "
    "process, whose start time says so.",
    QUEUE: "Of `durable.queue` and `durable.spill`, also where an edge has brought it (`outbox`, `spill`). The counters stand in the "
    "queue's own files: they go on from run to run, and begin at 0 when its folder is made.",
    POST: "Of `http.post`. They begin at 0 with the run.",
    RECORDING: "Of `durable.record`. They begin at 0 with the run.",
    REPLAY: "Of `durable.replay`. They begin at 0 with the run.",
}
_NOT_UNITS = ("up", "ready", "paused", "open", "info")


def as_markdown() -> str:
    """All of it as docs/metrics.md shows it."""
    lines = []
    for of, title in TITLES.items():
        labels = ", ".join(f"`{label}`" for label in LABELS[of])
        lines += [f"## {title}", f"{WHOSE[of]} Labels: {labels}.", "", "| name | kind | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{metric.name}` | {metric.kind} | {unit(metric)} | {metric.help} |" for metric in METRICS if metric.of == of]
        lines.append("")
    return "\n".join(lines)


def unit(metric: Metric) -> str:
    """The last word of its name; nothing of what is 0 or 1."""
    last = metric.name.removesuffix("_total").rpartition("_")[2]
    return "" if last in _NOT_UNITS else last
