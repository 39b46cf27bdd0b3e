"""What `top` makes of a reply: rows of a window, what deserves a word, the bottleneck."""

from __future__ import annotations

import json

import msgspec
import pytest
from top_replies import MS, edge, node, reply, slow_graph

from streamcore.cli.top.facts import STUCK_S, Usage, picture
from streamcore.telemetry.history import between
from streamcore.telemetry.snapshot import Snapshot

NOW_NS = 1_000_000_000_000


def seen(nodes, edges, seconds=10.0, **head):
    return picture(reply(nodes, edges, seconds, **head), "graph", 10, NOW_NS)


def test_rates_and_shares_are_those_of_the_window():
    shown = seen(*slow_graph())
    camera, detector, _ = shown.nodes
    assert (detector.in_per_s, detector.out_per_s, detector.busy) == (25.0, 25.0, 1.0)
    assert camera.blocked == pytest.approx(0.98)
    assert detector.work.p95_ns == pytest.approx(40 * MS, rel=0.04)
    assert (shown.edges[0].waiting, shown.edges[0].depth, shown.edges[0].sent_per_s) == (8, 8, 26.0)
    assert (shown.totals.in_per_s, shown.totals.dropped_per_s, shown.totals.failed_per_s) == (25.0, 2.0, 0.0)


def test_the_bottleneck_is_that_of_the_window_and_not_of_the_whole_run():
    # A node that was slow an hour ago says nothing about now.
    shown = seen(*slow_graph())
    assert shown.bottleneck.startswith("'detector' holds the graph back: it works 100% of the time, 40 ms per packet")
    found, now = reply(*slow_graph()), Snapshot(*map(tuple, slow_graph()))
    now.edges[0].waiting = now.edges[0].in_flight = found["edges"][0]["waiting"] = found["edges"][0]["in_flight"] = 0
    found["windows"]["10"] = msgspec.to_builtins(between(now, now, 10.0))
    assert picture(found, "graph", 10, NOW_NS).bottleneck == "No packet flowed."


def test_a_run_too_young_for_a_window_is_looked_at_from_its_beginning():
    shown = seen(*slow_graph(), seconds=None, uptime_s=12.5)
    assert (shown.asked_s, shown.seconds) == (10, 12.5)
    assert shown.nodes[1].in_per_s == 20.0
    assert seen(*slow_graph(), seconds=None, uptime_s=0.0).nodes[1].in_per_s > 0


def test_a_node_that_the_window_does_not_know_yet_is_no_error():
    # `up --reload` of another version of the coordinator, or a reply put together while a node came: the rows decide.
    found = reply(*slow_graph())
    del found["windows"]["10"]["nodes"]["sink"]
    assert [line.id for line in picture(found, "graph", 10, NOW_NS).nodes] == ["camera", "detector", "sink"]


def test_keys_of_a_newer_coordinator_are_left_alone():
    found = reply(*slow_graph())
    found["nodes"][0]["mood"] = "good"
    found["windows"]["10"]["nodes"]["camera"]["mood"] = 1
    assert picture(found, "graph", 10, NOW_NS).nodes[0].id == "camera"


def test_what_processes_use_goes_to_their_rows():
    shown = picture(reply(*slow_graph()), "graph", 10, NOW_NS, {40: Usage(12.5, 1000)})
    assert (shown.nodes[0].cpu_percent, shown.nodes[0].rss_bytes) == (12.5, 1000)
    assert (shown.nodes[1].cpu_percent, shown.nodes[1].rss_bytes) == (None, None)


def test_the_object_for_programs_is_json_and_says_over_how_long_its_rates_are():
    shown = json.loads(json.dumps(seen(*slow_graph(), seconds=8.2).as_json()))
    assert shown["window"] == {"asked_s": 10, "seconds": 8.2}
    assert {"version", "run", "graph", "state", "uptime_s", "totals", "nodes", "edges", "notices", "bottleneck"} < set(shown)
    assert shown["nodes"][1]["work"]["count"] == 250


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": "FAILED", "pid": None, "cause": "ConfigError: no model"}, "failed for good: ConfigError: no model"),
        ({"state": "BACKOFF", "pid": None, "exit": "killed by SIGKILL"}, "killed by SIGKILL"),
        ({"restarts": 2, "exit": "killed by SIGKILL"}, "restarted 2 times, last: killed by SIGKILL"),
        ({"restarts": 1}, "restarted 1 time"),
        ({"failed": 30}, "3.0 packets/s fail, 30 so far"),
        ({"paused": True}, "paused: it begins no further packet"),
        ({"busy_since_ns": NOW_NS - 12_000 * MS}, "under one packet for 12.0 s; t shows where it is"),
        ({"consumed": 0, "produced": 0, "work_ns": 0}, "takes none of the packets that wait for it"),
    ],
)
def test_what_a_person_should_know_of_a_node(fields, text):
    assert [notice.text for notice in seen(*slow_graph(**fields)).notices if notice.about == "detector"] == [text]


def test_failures_come_before_hints_and_drops_are_told():
    nodes, edges = slow_graph(failed=10)
    shown = seen([node("camera", "source", restarts=1), *nodes[1:]], edges)
    assert [notice.about for notice in shown.notices] == ["detector", "camera", "detector.out->sink.in"]
    assert shown.notices[-1].text == "drops 2.0 packets/s (latest), 20 so far"


@pytest.mark.parametrize(
    "fields",
    [
        {"paused": True, "consumed": 0, "produced": 0, "work_ns": 0},
        {"busy_since_ns": NOW_NS - round((STUCK_S - 1) * 1e9)},
        {"busy_since_ns": NOW_NS - 12_000 * MS, "pid": None},
        {"consumed": 0},  # it works: slow is not stuck
        {"consumed": 0, "work_ns": 0, "state": "STARTING"},
    ],
)
def test_who_is_slow_paused_or_not_there_is_not_stuck(fields):
    assert not seen(*slow_graph(**fields)).nodes[1].stuck


def test_who_waits_for_room_is_not_stuck_though_a_packet_is_under_its_work():
    # The node behind it is to blame, and its own row says so.
    nodes, edges = slow_graph(busy_since_ns=NOW_NS - 12_000 * MS, consumed=0, work_ns=0)
    edges[1] = edge("detector", "sink", waiting=8, credit=0)
    assert not seen(nodes, edges).nodes[1].stuck


def test_a_source_is_always_under_one_call_and_never_stuck():
    nodes, edges = slow_graph()
    nodes[0] = node("camera", "source", busy_since_ns=1)
    assert not seen(nodes, edges).nodes[0].stuck


def test_one_word_says_how_a_node_is():
    def word(**fields):
        return seen(*slow_graph(**fields)).nodes[1].shown_state

    assert [word(), word(paused=True), word(busy_since_ns=1), word(state="BACKOFF")] == ["ready", "paused", "stuck", "backoff"]
