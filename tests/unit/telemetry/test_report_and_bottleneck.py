"""The run report: its shape, its verdict, and the sentence that names the slow node."""

import json
import os

import pytest
from fake_runs import ORDERLY, chain

from streamcore.telemetry.bottleneck import of_run
from streamcore.telemetry.report import Ending, make_report, write_report
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

PLAN = chain(ORDERLY, ORDERLY, ORDERLY)
SECOND_NS = 10**9
ENDING = Ending(wall_ns=1_795_417_200_123_456_000, duration_ns=2_500_000_000, active_ns=2 * SECOND_NS, reason="end of stream")


@pytest.fixture
def taken():
    """A run in which everything went well: 100 packets from a over b to c."""
    nodes = (
        NodeRow("a", "fake.a", "source", produced=100, emitted=100),
        NodeRow("b", "fake.b", "node", consumed=100, produced=100),
        NodeRow("c", "fake.c", "sink", consumed=100, metrics={"seen": 100.0}),
    )
    edges = tuple(EdgeRow(f"{a}.out->{b}.in", a, b, "block", 2, 4, sent=100, taken=100, completed=100, bytes=6400) for a, b in ("ab", "bc"))
    return Snapshot(nodes, edges)


def test_a_report_names_run_graph_and_engine(taken):
    report = make_report(PLAN, taken, ENDING)
    assert report["ts"] == "2026-11-23T07:00:00.123456Z"
    assert report["engine"].startswith("streamcore ")
    assert (report["graph"], report["graph_version"], report["run"], report["duration_s"]) == ("graph", "v1", "run", 2.5)
    assert {"streamcore", "python", "numpy", "pyzmq", "msgspec"} <= set(report["versions"])


def test_metrics_are_flat_and_numbers(taken):
    metrics = make_report(PLAN, taken, ENDING)["metrics"]
    assert all(type(name) is str and type(value) in (int, float) for name, value in metrics.items())
    expected = {
        "packets.source_emitted_total": 100,
        "packets.consumed_total": 200,
        "packets.produced_total": 200,
        "packets.dropped_total": 0,
        "packets.failed_total": 0,
        "node.c.consumed": 100,
        "node.c.metric.seen": 100.0,
        "edge.a.out->b.in.sent": 100,
        "edge.a.out->b.in.bytes": 6400,
    }
    assert {name: metrics[name] for name in expected} == expected


def test_what_a_durable_queue_sends_again_is_no_loss(taken):
    taken.edges[0].completed, taken.edges[0].failed = 80, 20
    assert make_report(PLAN, taken, ENDING)["status"] == "degraded"
    taken.edges[0].completion = "delivered"
    assert make_report(PLAN, taken, ENDING)["status"] == "ok"


def test_a_run_without_a_loss_is_ok(taken):
    report = make_report(PLAN, taken, ENDING)
    assert (report["status"], report["account"]["balanced"], report["account"]["lost"]) == ("ok", True, {})
    assert (report["account"]["sources"], report["account"]["sinks"]) == ({"a": 100}, {"c": 100})


def test_a_drop_that_the_policy_allows_is_ok_and_counted(taken):
    taken.edges[0].dropped, taken.edges[0].completed = 3, 97
    report = make_report(PLAN, taken, ENDING)
    assert (report["status"], report["metrics"]["packets.dropped_total"]) == ("ok", 3)


def lose_one(taken):
    taken.edges[1].completed, taken.edges[1].in_flight = 99, 1


def fail_one(taken):
    taken.nodes[1].failed = 1


def unbalance(taken):
    taken.edges[0].completed = 99


@pytest.mark.parametrize("harm", [lose_one, fail_one, unbalance])
def test_a_run_that_lost_failed_or_miscounted_a_packet_is_degraded(taken, harm):
    harm(taken)
    assert make_report(PLAN, taken, ENDING)["status"] == "degraded"


def test_a_run_with_a_failed_node_is_an_error_and_says_why(taken):
    ending = Ending(0, 0, 0, "node 'b' failed", ("b: exited with 3",))
    report = make_report(PLAN, taken, ending)
    assert (report["status"], report["ended"], report["failures"]) == ("error", "node 'b' failed", ["b: exited with 3"])


def test_a_report_is_written_whole_or_not_at_all(taken, tmp_path):
    path = tmp_path / "r.json"
    report = make_report(PLAN, taken, ENDING)
    write_report(str(path), report)
    assert json.loads(path.read_text()) == report
    with pytest.raises(FileNotFoundError):
        write_report(str(tmp_path / "none" / "r.json"), report)
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_report(str(tmp_path / "directory"), {})
    assert sorted(os.listdir(tmp_path)) == ["directory", "r.json"]  # no temporary file is left


def shares(taken, **nodes):
    """(work, credit wait) of nodes in shares of 2 s."""
    for node, (work, wait) in nodes.items():
        row = taken.node(node)
        row.work_ns, row.credit_wait_ns = round(work * 2 * SECOND_NS), round(wait * 2 * SECOND_NS)
    return of_run(taken, 2 * SECOND_NS, cores=2).sentence


def test_the_node_that_works_all_the_time_while_others_wait_for_it_is_named(taken):
    sentence = shares(taken, a=(0.1, 0.85), b=(0.93, 0.0), c=(0.2, 0.0))
    assert sentence == "'b' holds the graph back: it works 93% of the time, 18.6 ms per packet; a waits for it 85%."


def test_a_wait_passes_on_upstream_and_the_last_of_the_chain_is_named(taken):
    sentence = shares(taken, a=(0.1, 0.8), b=(0.1, 0.75), c=(0.9, 0.0))
    assert sentence == "'c' holds the graph back: it works 90% of the time, 18 ms per packet; a waits for it 80%, b waits for it 75%."


def test_a_source_that_never_rests_is_named_without_anybody_waiting(taken):
    assert shares(taken, a=(0.95, 0.0), b=(0.3, 0.0), c=(0.1, 0.0)).startswith("'a' holds the graph back: it works 95% of the time")


def test_a_graph_that_waits_for_its_source_is_held_back_by_nobody(taken):
    sentence = shares(taken, a=(0.05, 0.0), b=(0.4, 0.0), c=(0.1, 0.02))
    work = "the busiest is 'b', it works 40% of the time, 8 ms per packet"
    assert sentence == f"No node holds the graph back: {work}; the graph waits for its source: 'a' gives 50 packets/s."


def test_without_packets_nothing_is_claimed(taken):
    for row in taken.nodes:
        row.consumed = row.produced = 0
    assert of_run(taken, SECOND_NS, cores=2).sentence == "No packet flowed."
    assert make_report(PLAN, taken, Ending(0, 0, 0, "SIGINT"))["bottleneck"] == "No packet flowed."
