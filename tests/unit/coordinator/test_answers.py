"""What a live run answers, asked by a real client in another thread while the run goes on."""

import json
import os
import secrets
import threading
import time
from pathlib import Path

import pytest
import zmq
from fake_runs import BEGIN, END, FOR_EVER, ORDERLY, UNTIL_STOP, Watcher, chain

from streamcore.control import client
from streamcore.control.rundir import RunDir
from streamcore.coordinator import orders
from streamcore.errors import RunError

WITH_SECRET = [*UNTIL_STOP[:2], ["print", "the-secret"], *UNTIL_STOP[2:]]
SINK = [*BEGIN, ["sleep", 0.05], *END]


class Asker(threading.Thread):
    """Asks once the run is up, and keeps what it heard. `ask` gets a connected client and has to end the run."""

    def __init__(self, ask):
        super().__init__()
        self.ask, self.heard, self.error = ask, None, None

    def run(self):
        try:
            with client.connect("run") as connected:
                self.heard = self.ask(connected)
        except Exception as error:  # whatever the test asks; it is raised again in the test itself
            self.error = error


@pytest.fixture
def ask_a_run(run_of):
    def ask(question, *scripts):
        asker = Asker(question)
        run = run_of(chain(*scripts), Watcher([asker.start]), spec_file="/specs/x.yaml")
        result = run.go(beside=asker)
        if asker.error:
            raise asker.error
        return asker.heard, result

    return ask


def then_down(verb):
    def ask(connected):
        heard = connected.request(verb)
        connected.request("down")
        return heard

    return ask


def test_ps_lists_one_process_per_node(ask_a_run):
    heard, _ = ask_a_run(then_down("ps"), UNTIL_STOP, SINK)
    assert (heard["run"], heard["graph"], heard["graph_version"]) == ("run", "graph", "v1")
    assert heard["uptime_s"] > 0
    a, b = heard["nodes"]
    assert (a["id"], a["plugin"], a["role"], a["incarnation"], a["restarts"]) == ("a", "fake.a", "source", 1, 0)
    assert len({a["pid"], b["pid"], os.getpid()}) == 3
    assert a["rss_bytes"] > 1 << 20
    assert a["cpu_percent"] >= 0
    assert [edge["name"] for edge in heard["edges"]] == ["a.out->b.in"]


def test_stats_have_the_counters_without_reading_processes(ask_a_run):
    heard, _ = ask_a_run(then_down("stats"), UNTIL_STOP, SINK)
    assert {row["id"]: row["consumed"] for row in heard["nodes"]} == {"a": 0, "b": 0}
    assert heard["nodes"][0]["rss_bytes"] is None


def test_stats_say_what_holds_the_graph_back(ask_a_run):
    heard, result = ask_a_run(then_down("stats"), UNTIL_STOP, SINK)
    assert (heard["bottleneck"]["node"], heard["bottleneck"]["kind"], heard["bottleneck"]["sentence"]) == (
        "",
        "nothing",
        "No packet flowed.",
    )
    assert heard["nodes"][0]["cpu_s"] > 0
    assert result.report["bottleneck_detail"]["kind"] == "nothing"


def test_info_says_what_runs_and_keeps_configs_to_itself(ask_a_run):
    # A config may hold a secret; whoever may ask could read it in the spec, but it must not reach logs and screens.
    heard, _ = ask_a_run(then_down("info"), WITH_SECRET, SINK)
    assert (heard["pid"], heard["spec"], heard["graph"]) == (os.getpid(), "/specs/x.yaml", "graph")
    assert [node["id"] for node in heard["plan"]["nodes"]] == ["a", "b"]
    assert "the-secret" not in str(heard)


def test_down_drains_and_ends_with_0(ask_a_run):
    heard, result = ask_a_run(lambda connected: connected.request("down"), UNTIL_STOP, SINK)
    assert heard == {"state": "READY"}
    assert (result.status, result.reason) == (0, "down")
    assert result.report["nodes"]["a"]["state"] == "DONE"


def test_down_now_kills_and_is_still_answered(ask_a_run):
    heard, result = ask_a_run(lambda connected: connected.request("down", now=True), FOR_EVER, FOR_EVER)
    assert heard == {"state": "READY"}
    assert (result.status, result.reason) == (0, "down --now")
    assert result.report["nodes"]["a"]["exit"] == "killed by SIGKILL"


def test_the_end_of_the_run_can_be_waited_for(ask_a_run):
    def ask(connected):
        connected.request("down")
        return connected.wait_end(10), connected.live()

    assert ask_a_run(ask, UNTIL_STOP, SINK)[0] == (True, False)


def test_a_request_that_is_refused_does_not_disturb_the_run(ask_a_run, monkeypatch):
    def ask(connected):
        with monkeypatch.context() as patch:
            patch.setattr(client.protocol, "encode_request", lambda verb, arguments: b'{"v": 1, "verb": "dance"}')
            with pytest.raises(RunError, match="request refused: Invalid value 'dance'"):
                connected.request("dance")
        return connected.request("down")

    _, result = ask_a_run(ask, UNTIL_STOP, SINK)
    assert result.status == 0


def test_the_name_of_a_live_run_is_refused_to_another(ask_a_run):
    def ask(connected):
        with pytest.raises(RunError, match=rf"run 'run' is live \(pid {os.getpid()}"):
            RunDir.take("run")
        return connected.request("down")

    assert ask_a_run(ask, UNTIL_STOP, SINK)[0] == {"state": "READY"}


def test_more_requests_than_one_turn_takes_are_all_answered(ask_a_run):
    # The descriptor tells of new messages only once: what a turn leaves must not wait for the next message.
    count = 60

    def ask(connected):
        context = zmq.Context()
        raw = context.socket(zmq.DEALER)
        raw.setsockopt(zmq.RCVTIMEO, 5000)
        raw.connect(f"ipc://{connected.info.path}/control")
        for _ in range(count):
            raw.send_multipart([b"", b'{"v": 1, "verb": "ping"}'])
        try:
            return [json.loads(raw.recv_multipart()[1])["pid"] for _ in range(count)]
        finally:
            context.destroy(linger=0)
            connected.request("down")

    assert ask_a_run(ask, UNTIL_STOP, SINK)[0] == [os.getpid()] * count


UNTIL_RESUMED = [*BEGIN, ["await", "pause"], ["await", "resume"], *END]
ON_TERM = [["end_on_term", 143], *FOR_EVER]


def await_row(connected, node, **wanted):
    """Ask until the row of a node is so."""
    for _ in range(500):
        row = next(row for row in connected.request("stats")["nodes"] if row["id"] == node)
        if all(row[name] == value for name, value in wanted.items()):
            return row
        time.sleep(0.01)
    raise AssertionError(f"node {node}: found {row}, expected {wanted}")


def test_a_node_is_restarted_on_request_without_being_blamed(ask_a_run):
    def ask(connected):
        told = connected.request("restart", node="b")
        row = await_row(connected, "b", incarnation=2, state="DONE")
        connected.request("down")
        return told, row

    (told, row), result = ask_a_run(ask, UNTIL_STOP, {"do": ON_TERM, "again": [ORDERLY]})
    assert (told["node"], told["state"], told["incarnation"]) == ("b", "READY", 1)
    assert (row["restarts"], row["cause"], row["incidents"]) == (1, "", 0)
    assert (result.status, result.failures) == (0, ())  # although this plan restarts nothing by itself


def test_a_node_that_dies_of_something_else_while_it_is_asked_to_end_has_failed(ask_a_run):
    def ask(connected):
        connected.request("restart", node="b")

    _, result = ask_a_run(ask, UNTIL_STOP, [["end_on_term", 3], *FOR_EVER])
    assert result.failures[0].cause == "exited with 3"


def test_pause_and_resume_reach_the_nodes_and_ps_shows_who_is_paused(ask_a_run):
    def ask(connected):
        first = connected.request("pause", node="b")
        shown = [row["id"] for row in connected.request("ps")["nodes"] if row["paused"]]
        second = connected.request("pause")
        third = connected.request("resume", node="a")
        fourth = connected.request("resume")
        connected.request("down")
        return first, shown, second, third, fourth

    (first, shown, second, third, fourth), result = ask_a_run(ask, UNTIL_STOP, UNTIL_RESUMED)
    assert (first["paused"], shown, second["paused"], third["paused"], fourth["paused"]) == (["b"], ["b"], ["a", "b"], ["b"], [])
    assert result.status == 0


def test_a_new_process_of_a_paused_node_is_paused_before_it_begins(ask_a_run):
    def ask(connected):
        connected.request("pause", node="b")
        connected.request("restart", node="b")
        await_row(connected, "b", incarnation=2, state="DONE", paused=True)
        connected.request("down")

    again = [["ready", 0], ["await", "pause"], ["await", "start"], *END]
    _, result = ask_a_run(ask, UNTIL_STOP, {"do": ON_TERM, "again": [again]})
    assert result.status == 0


def test_a_paused_run_is_resumed_to_drain(ask_a_run):
    def ask(connected):
        connected.request("pause")
        connected.request("down")

    _, result = ask_a_run(ask, UNTIL_STOP, UNTIL_RESUMED)
    assert (result.status, result.report["nodes"]["b"]["state"]) == (0, "DONE")


@pytest.mark.parametrize(
    ("verb", "arguments", "error"),
    [
        ("restart", {"node": "x"}, "node: found 'x', expected one of: a, b"),
        ("pause", {"node": "x"}, "node: found 'x', expected one of: a, b"),
        ("resume", {"node": "x"}, "node: found 'x', expected one of: a, b"),
        ("restart", {"node": "b"}, "node 'b' is DONE; it can be restarted when it is READY, DRAINING or in BACKOFF"),
        ("pause", {"node": "b"}, "node 'b' is DONE; it takes no packets any more"),
        ("order", {"node": "x", "name": "do"}, "node: found 'x', expected one of: a, b"),
        ("order", {"node": "b", "name": "do"}, "node 'b' is DONE; it takes orders while it is READY or DRAINING"),
        ("redrive", {"node": "b", "record": "00"}, "node 'b' is DONE; a dead letter can be processed again while it is READY"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_the_reason(ask_a_run, verb, arguments, error):
    def ask(connected):
        await_row(connected, "b", state="DONE")
        with pytest.raises(RunError) as caught:
            connected.request(verb, **arguments)
        connected.request("down")
        return str(caught.value)

    heard, result = ask_a_run(ask, UNTIL_STOP, ORDERLY)
    assert heard == f"run 'run': {error}"
    assert result.status == 0


def test_whoever_waits_for_an_answer_is_told_when_the_node_has_ended(ask_a_run):
    def ask(connected):
        with pytest.raises(RunError, match="node 'b' ended before it answered; whether it had done it shows when you look"):
            connected.request("order", timeout_s=30, node="b", name="do", arguments={"x": 1})
        connected.request("down")

    dies = {"do": [*BEGIN, ["await", "order"], ["kill", "SIGKILL"]], "again": [ORDERLY]}
    ask_a_run(ask, UNTIL_STOP, dies)


def test_a_node_that_answers_nothing_is_asked_no_more_than_so_much(ask_a_run, monkeypatch):
    monkeypatch.setattr(orders, "UNDER_WAY_MAX", 2)

    def ask(connected):
        for _ in range(2):
            with pytest.raises(RunError, match="did not answer `order`"):
                connected.request("order", timeout_s=0.1, node="a", name="do")
        with pytest.raises(RunError, match="node 'a' has 2 orders to carry out; try again"):
            connected.request("order", node="a", name="do")
        assert connected.request("ping")["orders"] == 2
        connected.request("down")

    ask_a_run(ask, UNTIL_STOP, SINK)


def test_the_account_says_what_became_of_every_packet(ask_a_run):
    heard, _ = ask_a_run(then_down("account"), UNTIL_STOP, SINK)
    assert (heard["run"], heard["balanced"], heard["sources"], heard["sinks"]) == ("run", True, {"a": 0}, {"b": 0})
    assert heard["edges"] == [
        {
            "edge": "a.out->b.in",
            "sent": 0,
            "completed": 0,
            "dropped": 0,
            "failed": 0,
            "in_flight": 0,
            "balanced": True,
            "policy": "block",
            "redelivered": 0,
        }
    ]


def test_the_key_of_the_messages_is_told_to_the_nodes_and_to_nobody_else(ask_a_run, run_of, monkeypatch, runtime_dir):
    # Whoever knows it can make messages that nodes believe.
    key = 3141592653
    monkeypatch.setattr(secrets, "randbits", lambda bits: key)

    def ask(connected):
        heard = [connected.request(verb) for verb in ("ping", "ps", "stats", "info", "account")]
        for pid in [os.getpid(), heard[1]["nodes"][0]["pid"]]:
            heard += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        connected.request("down")
        return heard

    heard, result = ask_a_run(ask, [["log_boot", "message_key"], *UNTIL_STOP], SINK)
    told = [path for path in runtime_dir.rglob("*") if path.is_file() and str(key) in path.read_text()]
    assert [path.name for path in told] == ["a.log"]  # where this node was made to write it down
    told[0].unlink()
    failed = run_of(chain(UNTIL_STOP, [*BEGIN, ["kill", "SIGKILL"]])).go()
    assert failed.failures
    files = [path for path in runtime_dir.rglob("*") if path.is_file()]
    assert any("incidents" in path.parts for path in files)
    found = str([heard, result, failed]).encode() + b"".join(path.read_bytes() for path in files)
    assert not [form for form in (str(key), f"{key:x}") if form.encode() in found.lower()]
    assert key.to_bytes(4, "little") not in found and key.to_bytes(4, "big") not in found
