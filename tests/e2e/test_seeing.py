"""What can be seen of a run while it is up: counts that outlive processes, rates of the last seconds, the ways of single packets."""

from __future__ import annotations

import json
import os
import signal

import pytest
from boxes import Box, wait_until

SLOW = """
version: 2
name: slow
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 64, height: 48, rate: 50}}
  - {id: pass, plugin: flow.forward}
  - {id: slow, plugin: debug.slow, config: {work_ms: 15}}
  - {id: sink, plugin: debug.null}
edges:
  - {from: camera, to: pass}
  - {from: pass, to: slow}
  - {from: slow, to: sink}
"""


@pytest.fixture
def slow(box: Box) -> Box:
    box.start("up", box.write_spec(SLOW))
    wait_until("packets at the sink", lambda: row_of(box, "sink").get("consumed", 0) > 20)
    return box


def stats(box: Box) -> dict:
    return box.look("stats", "slow") or {"nodes": [], "edges": [], "windows": {}}


def row_of(box: Box, node: str) -> dict:
    return next((row for row in stats(box)["nodes"] if row["id"] == node), {})


def count(distribution: dict) -> int:
    return sum(number for _, number in distribution["buckets"])


def test_every_packet_is_in_the_histograms_of_those_that_have_worked_on_it(slow):
    assert slow.run("pause", "camera").returncode == 0

    def at_rest() -> dict | None:
        """Nothing is under way, and what busy nodes keep back for a moment is on their pages."""
        found = stats(slow)
        told = all(
            count(row[what]) == row["consumed"] for row in found["nodes"] if row["id"] != "camera" for what in ("work", "end_to_end")
        )
        waited = all(count(edge["wait"]) == edge["taken"] and not edge["in_flight"] for edge in found["edges"])
        return found if told and waited else None

    found = wait_until("the run to be quiet and its pages to tell all", at_rest)
    for row in found["nodes"]:
        assert row["consumed"] > 0 or row["id"] == "camera"
    assert all(edge["taken"] > 0 for edge in found["edges"])
    worked = next(row for row in found["nodes"] if row["id"] == "slow")
    assert worked["work"]["sum_ns"] >= 15_000_000 * worked["consumed"]


def test_rates_of_the_last_seconds_name_the_node_that_works(slow):
    def window() -> dict | None:
        found = stats(slow)["windows"]["10"]
        return found if found and found["nodes"]["slow"]["consumed"] > 10 and found["nodes"]["slow"]["busy"] > 0.5 else None

    nodes = wait_until("the window to tell of a busy node", window)["nodes"]
    assert nodes["slow"]["work"]["p50_ns"] >= 14_500_000 > nodes["pass"]["work"]["p50_ns"]
    assert nodes["pass"]["busy"] < nodes["slow"]["busy"] and nodes["sink"]["idle"] > nodes["slow"]["idle"]


def test_counts_and_histograms_go_on_after_a_kill(slow):
    before = row_of(slow, "slow")
    os.kill(before["pid"], signal.SIGKILL)

    def restarted() -> dict | None:
        row = row_of(slow, "slow")
        return row if row["restarts"] == 1 and row["consumed"] > before["consumed"] + 20 else None

    after = wait_until("a new process to work on", restarted)
    assert count(after["work"]) > count(before["work"]) and after["work"]["sum_ns"] > before["work"]["sum_ns"]
    assert count(after["end_to_end"]) >= count(before["end_to_end"])


def test_the_ways_of_packets_add_up_and_show_where_the_time_goes(slow):
    done = slow.run("trace", "slow", "--slowest", 5, "--json")
    assert done.returncode == 0, done.stderr
    traces = json.loads(done.stdout)["traces"]
    assert len(traces) == 5
    assert [trace["end_to_end_ns"] for trace in traces] == sorted((trace["end_to_end_ns"] for trace in traces), reverse=True)
    for trace in traces:
        assert [hop["node"] for hop in trace["hops"]] == ["camera", "pass", "slow", "sink"] and trace["finished"]
        assert sum(hop["wait_ns"] + hop["work_ns"] for hop in trace["hops"]) == trace["end_to_end_ns"]
        assert trace["hops"][2]["work_ns"] >= 14_500_000
    text = slow.run("trace", "slow", "--last", 2).stdout
    assert text.count("from capture") == 0 and text.count("ends at sink") == 2
    assert max(map(len, text.splitlines())) <= 100


def test_ways_after_a_kill_are_told_as_well(slow):
    os.kill(row_of(slow, "pass")["pid"], signal.SIGKILL)
    wait_until("a new process", lambda: row_of(slow, "pass")["restarts"] == 1 and row_of(slow, "pass")["state"] == "READY")
    seen = row_of(slow, "sink")["consumed"]
    wait_until("packets to flow again", lambda: row_of(slow, "sink")["consumed"] > seen + 20)
    traces = json.loads(slow.run("trace", "slow", "--last", 10, "--json").stdout)["traces"]
    assert [hop["node"] for hop in traces[-1]["hops"]] == ["camera", "pass", "slow", "sink"]
    assert all(sum(hop["wait_ns"] + hop["work_ns"] for hop in trace["hops"]) == trace["end_to_end_ns"] for trace in traces)


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["slow", "--slowest", "2", "--last", "2"], 2, "give one of them"),
        (["slow", "--node", "nobody"], 2, "camera, pass, slow, sink"),
        (["slow", "--slowest", "0"], 2, "1<=x<=1000"),
        (["nobody"], 3, "no run 'nobody'"),
    ],
)
def test_a_wrong_question_is_told(slow, arguments, status, word):
    done = slow.run("trace", *arguments)
    assert (done.returncode, done.stdout) == (status, "") and word in done.stderr


def test_a_run_that_has_traced_nothing_says_so(box):
    box.start("up", box.write_spec(SLOW.replace("rate: 50", "rate: 0.01")))
    box.wait_running("slow")
    wait_until("the first frame to be gone", lambda: row_of(box, "sink").get("consumed", 0) == 1)
    done = box.run("trace", "slow", "--node", "camera", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["seen"] == 1
