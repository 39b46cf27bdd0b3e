"""What a live run answers, asked by a real client in another thread while the run goes on."""

import json
import os
import threading

import pytest
import zmq
from fake_runs import BEGIN, END, FOR_EVER, UNTIL_STOP, Watcher, chain

from streamcore.control import client
from streamcore.control.rundir import RunDir
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
