"""Verdicts on nodes, as a table: what is seen of a node, and what is said of it."""

import pytest
from fake_runs import ORDERLY, chain

from streamcore.shm.distribution import Distribution
from streamcore.shm.histogram import bucket_of
from streamcore.telemetry.health import Moment, judge
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

S = 1_000_000_000
NOW = 1_000 * S
PLAN = chain(ORDERLY, ORDERLY, ORDERLY, progress_s=60.0)
FAST = Distribution(1_000 * 1_000_000, ((bucket_of(1_000_000), 1_000),))  # calls of a millisecond
SLOW = Distribution(100 * 2 * S, ((bucket_of(2 * S), 100),))


def row(node, **seen):
    plugin = {"a": "source", "b": "node", "c": "sink"}
    return NodeRow(node, f"fake.{node}", plugin[node], **{"pid": 40, "state": "READY", "heartbeat_ns": NOW, **seen})


def look(a=None, b=None, c=None, edge=None, before=None, plan=PLAN, ready=True, ending=False, uptime_s=900):
    """The verdict on a run of a -> b -> c. `before`: (rows, edge) of a minute ago."""

    def snapshot(rows, edge):
        first = EdgeRow("a->b", "a", "b", **{"policy": "block", "depth": 8, "window": 16, **(edge or {})})
        return Snapshot(tuple(row(node, **rows.get(node, {})) for node in "abc"), (first, EdgeRow("b->c", "b", "c", "block", 8, 16)))

    now = snapshot({"a": a or {}, "b": b or {}, "c": c or {}}, edge)
    earlier = (59.6, snapshot(*before)) if before else None
    return judge(plan, Moment(now, earlier, NOW, NOW - uptime_s * S, ready, ending))


QUIET = ({}, {})
OF_B = [
    # what is seen of node b, of its input edge, a minute ago; the verdict and a part of the reason
    ({}, {}, QUIET, "ok", "it works"),
    ({"state": "DONE", "pid": None}, {}, QUIET, "ok", "it is done"),
    ({"state": "PLANNED", "pid": None}, {}, None, "starting", "its process starts"),
    ({"state": "STARTING"}, {}, None, "starting", "its process starts"),
    ({"state": "STARTING", "restarts": 1, "cause": "killed by SIGSEGV"}, {}, None, "degraded", "its new process starts: killed by SIGSEGV"),
    ({"state": "BACKOFF", "cause": "killed by SIGKILL"}, {}, None, "degraded", "it gets a new process: killed by SIGKILL"),
    ({"state": "EXITED", "exit": "exited with 1"}, {}, None, "degraded", "it gets a new process: exited with 1"),
    ({"state": "FAILED", "cause": "3 crashes within 60 s"}, {}, None, "failed", "3 crashes within 60 s"),
    ({"paused": True}, {}, QUIET, "degraded", "it is paused"),
    ({"restarts": 3, "cause": "killed by SIGKILL"}, {}, ({"b": {"restarts": 1}}, {}), "degraded", "restarted 2 times in the last 60 s"),
    ({"restarts": 3}, {}, ({"b": {"restarts": 3}}, {}), "ok", "it works"),
    ({"failed": 8}, {}, ({"b": {"failed": 7}}, {}), "degraded", "1 packet failed in the last 60 s"),
    ({"failed": 8}, {}, ({"b": {"failed": 8}}, {}), "ok", "it works"),
    ({"failed": 8}, {}, None, "degraded", "8 packets failed since it began"),
    ({}, {"policy": "drop_new", "dropped": 9}, ({}, {"dropped": 4}), "degraded", "5 packets for it dropped by drop_new"),
    ({}, {"policy": "drop_oldest", "dropped": 9}, ({}, {"dropped": 9}), "ok", "it works"),
    ({}, {"policy": "latest", "dropped": 9_000}, QUIET, "ok", "it works"),
    ({}, {"policy": "sample", "dropped": 9_000}, QUIET, "ok", "it works"),
    # in process(): judged by what is usual for it, within 5 s and progress_s
    ({"busy_since_ns": NOW - 4 * S, "work": FAST}, {"waiting": 8}, QUIET, "ok", "it works"),
    ({"busy_since_ns": NOW - 6 * S, "work": FAST}, {"waiting": 8}, QUIET, "stalled", "one packet has been in process() for 6.0 s"),
    ({"busy_since_ns": NOW - 15 * S, "work": SLOW}, {"waiting": 8}, QUIET, "ok", "it works"),
    ({"busy_since_ns": NOW - 25 * S, "work": SLOW}, {"waiting": 8}, QUIET, "stalled", "one packet has been in process() for 25.0 s"),
    ({"busy_since_ns": NOW - 50 * S}, {"waiting": 8}, QUIET, "ok", "it works"),  # its first call: a model may be loaded
    ({"busy_since_ns": NOW - 61 * S}, {"waiting": 8}, QUIET, "stalled", "for 61.0 s"),
    ({"busy_since_ns": NOW - 59 * S, "work": FAST, "waits_for_credit": 1}, {"waiting": 8}, QUIET, "ok", "it works"),  # its consumer is slow
    ({"busy_since_ns": NOW - 6 * S, "work": FAST, "paused": True}, {"waiting": 8}, QUIET, "degraded", "it is paused"),
    # between packets
    ({"heartbeat_ns": NOW - 6 * S, "work": FAST}, {"waiting": 3}, QUIET, "stalled", "3 packets wait and none was taken for 6.0 s"),
    ({"heartbeat_ns": NOW - 6 * S, "work": FAST}, {"waiting": 1}, QUIET, "stalled", "1 packet waits and none was taken for 6.0 s"),
    ({"heartbeat_ns": NOW - 600 * S, "work": FAST}, {"waiting": 0}, QUIET, "ok", "it works"),
    ({"heartbeat_ns": NOW - 4 * S, "work": FAST}, {"waiting": 3}, QUIET, "ok", "it works"),
    ({"state": "DRAINING", "heartbeat_ns": NOW - 6 * S, "work": FAST}, {"waiting": 3}, QUIET, "stalled", "3 packets wait"),
]


@pytest.mark.parametrize(("seen", "edge", "before", "verdict", "reason"), OF_B)
def test_a_node_is_judged_by_what_is_seen_of_it(seen, edge, before, verdict, reason):
    health = look(b=seen, edge=edge, before=before)
    assert (health.nodes["b"].verdict, health.verdict) == (verdict, verdict)
    assert reason in health.nodes["b"].reason
    assert health.works == (verdict in ("ok", "degraded"))
    if verdict != "ok":
        assert health.reason == f"b: {health.nodes['b'].reason}"


SILENCES = [
    # uptime, packets given before it fell silent, since when it has been silent; is that too long
    (900, 22_500, 9, False),
    (900, 22_500, 11, True),
    (900, 900, 15, False),  # one a second: twenty of its gaps have not passed
    (900, 900, 25, True),
    (900, 9, 59, False),
    (900, 9, 61, True),  # progress_s is the most
    (900, 0, 30, False),  # it has given none yet: it may load for progress_s
    (900, 0, 61, True),
]


@pytest.mark.parametrize(("uptime_s", "emitted", "silent_s", "stalled"), SILENCES)
def test_a_source_is_judged_by_its_usual_gap(uptime_s, emitted, silent_s, stalled):
    seen = {"emitted": emitted, "busy_since_ns": NOW - silent_s * S}
    health = look(a=seen, uptime_s=uptime_s)
    assert health.sources["a"].verdict == ("stalled" if stalled else "ok")
    assert health.sources["a"].silent_s == silent_s
    assert stalled == (health.nodes["a"].reason == f"it has given no packet for {silent_s:.1f} s")
    # One that waits for room in its edge, or for the time of its next packet, says so.
    assert look(a={**seen, "waits_for_credit": 1}, uptime_s=uptime_s).sources["a"].verdict == "ok"


def test_the_worst_verdict_is_that_of_the_run():
    assert look(a={"paused": True}, b={"state": "STARTING"}).verdict == "starting"
    assert look(b={"state": "STARTING"}, c={"busy_since_ns": NOW - 61 * S}).verdict == "stalled"
    assert look(a={"state": "FAILED"}, c={"busy_since_ns": NOW - 61 * S}).reason == "a: it gave up"


@pytest.mark.parametrize(
    ("seen", "ready", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"state": "DONE"}, True, True),
        ({"state": "STARTING"}, True, False),
        ({"state": "BACKOFF"}, True, False),
        ({"state": "FAILED"}, True, False),
        ({"busy_since_ns": NOW - 61 * S}, True, True),  # stalled is not unready: it would only lose its traffic
    ],
)
def test_a_run_is_ready_when_every_node_is(seen, ready, expected):
    assert look(b=seen, ready=ready).ready is expected


def test_nobody_is_blamed_while_the_run_ends_or_has_not_begun():
    assert look(b={"state": "EXITED", "pid": None}, ready=False, ending=True).verdict == "ok"
    waiting = look(b={"busy_since_ns": NOW - 600 * S}, ready=False)
    assert (waiting.verdict, waiting.nodes["b"].reason) == ("ok", "it is ready")
