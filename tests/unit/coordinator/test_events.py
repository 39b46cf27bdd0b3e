"""What happens in a run, as its journal has it: told to who asks, at once or later; and no node that follows the run keeps it up."""

import threading
import time

import msgspec
import pytest
from fake_runs import BEGIN, END, FOR_EVER, ORDERLY, UNTIL_STOP, Watcher, chain

from streamcore.control import client
from streamcore.coordinator import following
from streamcore.errors import MessageError, RunError
from streamcore.graph.model import RestartPlan
from streamcore.secret import Secret

DEADLINE_S = 20.0
SECRET = "hunter2-hunter2"
SINK = [*BEGIN, ["sleep", 0.05], *END]
UNTIL_PEER_DONE = [*BEGIN, ["await", "peer_done"], *END]
FOLLOWS = [*BEGIN, ["follow_to_the_end", 0], *END]


def names(events, node=None):
    return [event["event"] for event in events if node is None or event["node"] == node]


@pytest.fixture
def beside(run_of):
    """Run a plan, with a question that is asked in a thread once it is up and has to end the run."""

    def go(ask, plan):
        heard, error = [], []

        def work():
            try:
                with client.connect("run") as connected:
                    heard.append(ask(connected))
            except Exception as caught:  # raised again in the test itself
                error.append(caught)

        thread = threading.Thread(target=work)
        result = run_of(plan, Watcher([thread.start])).go(beside=thread)
        if error:
            raise error[0]
        return heard[0], result

    return go


def test_the_report_tells_the_life_of_each_node_and_of_the_run(run_of):
    result = run_of(chain(ORDERLY, ORDERLY)).go()
    events = result.report["events"]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert names(events, "a") == names(events, "b") == ["node_up", "node_ready", "node_draining", "node_done"]
    assert names(events, "") == ["run_up", "run_ending", "run_ended"]
    assert events[-1]["detail"] == "end of stream"
    times = [event["monotonic_ns"] for event in events]
    assert times == sorted(times)


def test_a_crash_is_told_with_its_cause_and_no_secret(run_of):
    fails = {"do": [*BEGIN, ["fail_in", ["process", f"cannot log in with {SECRET}"]], ["exit", 1]], "again": [ORDERLY], "key": SECRET}
    plan = chain(ORDERLY, fails, restart=RestartPlan(backoff_s=0.01))
    plan.nodes[1].config["key"] = Secret(SECRET, "env:KEY")
    events = run_of(plan).go().report["events"]
    crash = next(event for event in events if event["event"] == "node_restarting")
    assert (crash["node"], crash["severity"]) == ("b", "warning")
    assert crash["detail"].startswith("cannot log in with ***")
    assert 0 < crash["value"] < 1
    assert names(events, "b")[:5] == ["node_up", "node_ready", "node_restarting", "node_up", "node_ready"]
    assert SECRET not in str(events)


def test_who_gives_up_and_why_the_run_ends_is_told(run_of):
    events = run_of(chain(UNTIL_STOP, [*BEGIN, ["exit", 3]])).go().report["events"]
    assert names(events, "b")[-1] == "node_failed"
    ending = next(event for event in events if event["event"] == "run_ending")
    assert ending["detail"] == "node 'b' failed"
    assert (events[-1]["event"], events[-1]["severity"]) == ("run_ended", "error")


def test_a_restart_on_request_is_no_warning(beside):
    def ask(connected):
        connected.request("restart", node="b")
        after = 0
        while "node_done" not in names((reply := connected.request("events", since=after, wait_s=5))["events"], "b"):
            after = reply["next"]
        connected.request("pause", node="a")
        connected.request("pause", node="a")
        connected.request("resume")
        return connected.request("events"), connected.request("down")

    on_term = {"do": [["end_on_term", 143], *FOR_EVER], "again": [ORDERLY]}
    (told, _), _ = beside(ask, chain(UNTIL_STOP, on_term))
    (event,) = (event for event in told["events"] if event["event"] == "node_restarting")
    assert (event["node"], event["severity"], event["detail"]) == ("b", "info", "restart on request")
    assert names(told["events"], "a")[-2:] == ["node_paused", "node_resumed"]  # once each


def test_a_hang_is_told_before_its_process_is_killed(run_of):
    busy = [*BEGIN, ["words", {"7": "now"}], ["beat", 26]]
    plan = chain(UNTIL_STOP, busy, progress_s=1.0)
    events = run_of(plan).go().report["events"]
    assert names(events, "b")[-2:] == ["node_hung", "node_failed"]


# --- asking


def test_events_are_read_in_pieces_and_waited_for(beside):
    def ask(connected):
        first = connected.request("events")
        assert connected.request("events", since=first["next"]) == {"events": [], "lost": 0, "next": first["next"]}
        waited, done = [], threading.Event()

        def wait():
            with client.connect("run") as other:
                waited.append(other.request("events", since=first["next"], wait_s=DEADLINE_S, timeout_s=2 * DEADLINE_S))
            done.set()

        threading.Thread(target=wait).start()
        connected.request("pause", node="a")
        assert done.wait(DEADLINE_S), "the next event has not come"
        connected.request("down")
        return first, waited[0]

    (first, waited), _ = beside(ask, chain(UNTIL_STOP, SINK))
    assert "run_up" in names(first["events"])
    assert names(waited["events"]) == ["node_paused"]
    assert waited["events"][0]["number"] == first["next"] + 1


def test_who_waits_in_vain_is_answered_when_his_time_is_up(beside):
    def ask(connected):
        after, found = 0, [1]
        while found:  # until nothing happens any more
            reply = connected.request("events", since=after, wait_s=0.3)
            after, found = reply["next"], reply["events"]
        connected.request("down")
        return reply

    heard, _ = beside(ask, chain(UNTIL_STOP, [*BEGIN, ["await", "drain"], *END]))
    assert heard["events"] == []


def test_more_than_a_few_waiters_are_refused(beside, monkeypatch):
    monkeypatch.setattr(following, "WAITING_MAX", 0)

    def ask(connected):
        try:
            with pytest.raises(RunError, match="others wait for its events"):
                connected.request("events", since=10**6, wait_s=1)
            return connected.request("events")
        finally:
            connected.request("down")

    heard, _ = beside(ask, chain(UNTIL_STOP, SINK))
    assert heard["events"]


@pytest.mark.parametrize("wrong", [{"since": -1}, {"wait_s": -1}, {"wait_s": 1e9}, {"since": "x"}, {"until": 3}], ids=str)
def test_a_request_that_makes_no_sense_is_refused_before_it_is_sent(beside, wrong):
    def ask(connected):
        try:
            with pytest.raises(MessageError):
                connected.request("events", **wrong)
        finally:
            connected.request("down")

    beside(ask, chain(UNTIL_STOP, SINK))


@pytest.mark.parametrize("dawdles_s", [0, 0.1], ids=["asks again at once", "asks again when the run is over"])
def test_a_run_that_ends_tells_who_waits(beside, dawdles_s):
    def ask(connected):
        connected.request("down")
        after, seen = 0, []
        try:
            while True:
                reply = connected.request("events", since=after, wait_s=DEADLINE_S, timeout_s=2 * DEADLINE_S)
                after = reply["next"]
                seen += names(reply["events"])
                time.sleep(dawdles_s)
        except RunError:
            return seen

    heard, _ = beside(ask, chain(UNTIL_STOP, [*BEGIN, ["sleep", 0.3], *END]))
    assert heard[-1] == "run_ended"


def test_who_was_answered_and_does_not_ask_again_holds_up_no_end_for_long(beside):
    def ask(connected):
        connected.request("events", wait_s=DEADLINE_S)
        return connected.request("down")

    _, result = beside(ask, chain(UNTIL_STOP, SINK))
    assert (result.status, names(result.report["events"])[-1]) == (0, "run_ended")


# --- following


def with_branch(*scripts, instead=("a", "b"), **of_each_node):
    """Nodes a, b, c, d of which c and d are a branch of their own: the edge between b and c leads from and to others `instead`."""
    plan = chain(*scripts, **of_each_node)
    first, cut, last = plan.edges
    edges = (first, msgspec.structs.replace(cut, from_node=instead[0], to_node=instead[1]), last)
    nodes = []
    for node in plan.nodes:
        ins = tuple(edge.id for edge in edges if edge.to_node == node.id)
        outs = tuple(edge.id for edge in edges if edge.from_node == node.id)
        nodes.append(msgspec.structs.replace(node, in_edges=ins, out_edges=outs))
    return msgspec.structs.replace(plan, nodes=tuple(nodes), edges=edges)


def test_a_node_that_follows_the_run_ends_with_the_last_that_happens_to_the_others(run_of):
    run = run_of(with_branch(ORDERLY, SINK, FOLLOWS, UNTIL_PEER_DONE))
    result = run.go()
    assert (result.status, result.reason) == (0, "end of stream")
    told = [line.split()[1:] for line in run.log("c").splitlines() if line.startswith("event ")]
    assert ["node_done", "a"] in told
    assert ["node_done", "b"] in told
    assert told[-1] == ["run_ending"]


def test_a_run_that_drains_tells_what_happens_until_the_others_are_done(run_of):
    slow = [*BEGIN, ["await", "drain"], ["sleep", 0.3], *END]
    run = run_of(with_branch(UNTIL_STOP, slow, FOLLOWS, UNTIL_PEER_DONE), for_s=0.1)
    assert run.go().status == 0
    told = [line.split()[1] for line in run.log("c").splitlines() if line.startswith("event ")]
    assert "run_ending" in told
    assert told.index("run_ending") < [n for n, name in enumerate(told) if name == "node_done"][-1]


def test_what_it_feeds_is_not_waited_for_although_others_feed_it_too(run_of):
    # c follows and feeds d; a feeds d as well. Waiting for d would be waiting for itself.
    run = run_of(with_branch(ORDERLY, SINK, FOLLOWS, UNTIL_PEER_DONE, instead=("a", "d")))
    assert run.go().status == 0


def test_one_that_feeds_everything_goes_on_until_it_is_told_to_end(run_of):
    run = run_of(chain([*BEGIN, ["follow", 0], ["await", "news"], ["await", "stop"], *END], UNTIL_PEER_DONE), for_s=0.5)
    result = run.go()
    assert (result.status, result.reason) == (0, "--for 0.5s")


def test_a_crashed_one_is_told_in_its_next_life(run_of):
    follower = {"do": [*BEGIN, ["follow", 10**6], ["kill", "SIGKILL"]], "again": [FOLLOWS]}
    run = run_of(with_branch([*BEGIN, ["sleep", 0.5], *END], SINK, follower, UNTIL_PEER_DONE, restart=RestartPlan(backoff_s=0.01)))
    assert run.go().status == 0
    told = [line.split()[1:] for line in run.log("c").splitlines() if line.startswith("event ")]
    assert ["node_restarting", "c"] in told
