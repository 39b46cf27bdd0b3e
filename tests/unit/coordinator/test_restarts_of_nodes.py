"""Nodes that end and come back: who is told what, what counts, and when it is enough. After each, `Run.go` looks that nothing is left."""

import json
import os
import signal
import time

import pytest
from fake_runs import BEGIN, END, FOR_EVER, ORDERLY, UNTIL_PEER_GONE, UNTIL_STOP, Watcher, chain

from streamcore.coordinator import rounds
from streamcore.graph.model import RestartPlan
from streamcore.shm.status import WORD
from streamcore.supervisor import incident

QUICK = RestartPlan(backoff_s=0.001, backoff_max_s=0.002)
DIE = ["kill", "SIGSEGV"]
SINK = [*BEGIN, ["sleep", 0.1], *END]
UNTIL_PEER_IS_BACK = [*BEGIN, ["await", "peer_restarted"], *END]


def dying(*ends, again=None, last=ORDERLY):
    """A node that begins and ends so, incarnation by incarnation, and at last as `last` says."""
    scripts = [[*BEGIN, end] for end in ends] + [last]
    return {"do": scripts[0], "again": scripts[1:]}


def commands(run, node, kind):
    lines = [line.removeprefix("got ") for line in run.log(node).splitlines() if line.startswith("got ")]
    return [command for command in map(json.loads, lines) if command["type"] == kind]


def states_of(run, node):
    return [entry[1] for entry in run.watcher.told if isinstance(entry, tuple) and entry[0] == node]


def restarts_of(run, node):
    return [entry[2] for entry in run.watcher.told if entry[0] == "restarting" and entry[1] == node]


def words(**fields):
    """A step of a fake node that writes its status page."""
    return ["words", {str(WORD[name]): value for name, value in fields.items()}]


# --- back again


def test_a_node_that_dies_comes_back_and_the_run_goes_on(run_of):
    run = run_of(chain(UNTIL_PEER_IS_BACK, dying(DIE), UNTIL_PEER_IS_BACK, restart=QUICK))
    result = run.go()
    assert (result.status, result.failures, result.report["status"]) == (0, (), "ok")
    assert states_of(run, "b") == ["STARTING", "READY", "EXITED", "BACKOFF", "STARTING", "READY", "DRAINING", "DONE"]
    assert restarts_of(run, "b") == ["killed by SIGSEGV"]
    assert (result.report["nodes"]["b"]["restarts"], result.report["nodes"]["b"]["incarnation"]) == (1, 2)


def test_its_neighbours_learn_of_the_new_incarnation_and_it_learns_of_theirs(run_of):
    run = run_of(chain(UNTIL_PEER_IS_BACK, dying(DIE), UNTIL_PEER_IS_BACK, SINK, restart=QUICK))
    run.go()
    for node in "ac":
        assert commands(run, node, "peer_restarted") == [{"type": "peer_restarted", "node": "b", "incarnation": 2}]
    assert '"peer_restarted"' not in run.log("d")  # no edge joins them
    first, second = commands(run, "b", "start")
    assert first["peers"] == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert second["peers"] == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_it_learns_which_peers_are_done_meanwhile(run_of):
    run = run_of(chain(ORDERLY, dying(["sleep", 0.3], last=ORDERLY) | {"do": [*BEGIN, ["sleep", 0.3], DIE]}, SINK, restart=QUICK))
    run.go()
    assert commands(run, "b", "start")[-1]["done"] == ["a", "c"]


def test_neighbours_are_told_of_a_node_that_is_done(run_of):
    run = run_of(chain(ORDERLY, [*BEGIN, ["await", "peer_done"], *END], [*BEGIN, ["await", "peer_done"], *END]))
    run.go()
    assert commands(run, "b", "peer_done") == [{"type": "peer_done", "node": "a"}]
    assert commands(run, "c", "peer_done") == [{"type": "peer_done", "node": "b"}]


def test_a_node_that_dies_before_the_run_is_up_is_waited_for(run_of):
    late = {"do": [DIE], "again": [ORDERLY]}
    run = run_of(chain(ORDERLY, late, ORDERLY, restart=QUICK))
    assert run.go().status == 0
    assert commands(run, "a", "start")[0]["peers"] == {"a": 1, "b": 2, "c": 1}
    assert commands(run, "a", "peer_restarted") == []


def test_a_done_node_is_not_started_again_however_its_process_ends(run_of):
    run = run_of(chain(ORDERLY, [*ORDERLY, DIE], restart=QUICK))
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["incarnation"]) == (0, 1)


def test_a_process_that_leaves_its_inbox_behind_leaves_it_for_no_longer_than_it_is_dead(run_of):
    run, found = None, []
    watcher = Watcher()
    run = run_of(chain(UNTIL_PEER_IS_BACK, dying(DIE), SINK, restart=QUICK), watcher)

    def look():
        found.append([name for name in ("b.1", "b.2") if name in os.listdir(run.path)])

    watcher.up = look
    watcher.restarting = lambda failure, delay_s: look()
    run.go()
    assert found == [["b.1"], []]


# --- classes of ends


@pytest.mark.parametrize("end", [["exit", 0], ["exit", 3], ["exit", 143], ["kill", "SIGKILL"], ["kill", "SIGTERM"], ["nonsense", "{"]])
def test_whatever_ended_it_is_retried(run_of, end):
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": [*BEGIN, end, ["sleep", 1000]], "again": [ORDERLY]}, SINK, restart=QUICK))
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["restarts"]) == (0, 1)


@pytest.mark.parametrize("where", ["import", "config"])
def test_what_the_user_has_to_mend_is_not_retried(run_of, where):
    run = run_of(chain(FOR_EVER, [["fail_in", [where, "no such file: a.mp4"]], ["exit", 1]], restart=QUICK))
    result = run.go()
    assert (result.failures[0].cause, result.report["nodes"]["b"]["restarts"]) == ("no such file: a.mp4", 0)


def test_always_tries_a_config_error_again(run_of):
    # A camera that is switched on after the box.
    camera = {"do": [["fail_in", ["config", "no route to the camera"]], ["exit", 1]], "again": [ORDERLY]}
    run = run_of(chain(camera, ORDERLY, restart=RestartPlan("always", backoff_s=0.001)))
    assert run.go().status == 0
    assert restarts_of(run, "a") == ["no route to the camera"]


def test_an_exception_with_on_error_stop_is_not_retried(run_of):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["fail_in", ["run", "ValueError: x"]], ["exit", 1]], restart=QUICK, on_error="stop"))
    result = run.go()
    assert (result.status, result.failures[0].kind, result.report["nodes"]["b"]["restarts"]) == (1, "on_error", 0)


def test_never_is_never(run_of):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, DIE], restart=RestartPlan("never")))
    result = run.go()
    assert (result.status, result.failures[0].cause) == (1, "killed by SIGSEGV")


def test_a_start_that_takes_too_long_is_tried_again(run_of):
    run = run_of(chain(ORDERLY, {"do": [["sleep", 1000]], "again": [ORDERLY]}, restart=QUICK, startup_s=0.3))
    assert run.go().status == 0
    assert restarts_of(run, "b") == ["not ready after 0.3 s"]


# --- enough


def test_a_crash_loop_is_given_up_with_its_cause_on_one_line(run_of):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["exit", 7]], UNTIL_PEER_GONE, restart=RestartPlan(max_restarts=3, backoff_s=0.001)))
    result = run.go()
    (failure,) = result.failures
    assert (result.status, failure.node, failure.cause) == (1, "b", "exited with 7; given up after 3 restarts within 60 s")
    assert result.report["nodes"]["b"]["restarts"] == 3
    assert {node: row["state"] for node, row in result.report["nodes"].items()} == {"a": "DONE", "b": "FAILED", "c": "DONE"}


def test_an_isolated_node_leaves_the_rest_at_work(run_of):
    alone = RestartPlan("never", on_give_up="isolate")
    run = run_of(chain(UNTIL_PEER_GONE, [*BEGIN, ["exit", 7]], UNTIL_PEER_GONE, restart=alone))
    result = run.go()
    assert (result.status, result.reason, result.report["status"]) == (1, "end of stream", "error")
    assert result.report["failures"] == ["b: exited with 7"]
    assert not any(entry[0] == "stopping" for entry in run.watcher.told)


def test_a_node_that_is_isolated_before_the_run_is_up_is_not_waited_for(run_of):
    alone = RestartPlan("never", on_give_up="isolate")
    run = run_of(chain(ORDERLY, [["sleep", 0.1], ["exit", 7]], ORDERLY, restart=alone))
    result = run.go()
    assert (result.status, result.report["nodes"]["c"]["state"]) == (1, "DONE")
    assert commands(run, "a", "start")[0]["gone"] == ["b"]


def test_a_run_whose_last_node_is_isolated_ends(run_of):
    alone = RestartPlan("never", on_give_up="isolate")
    assert run_of(chain([["exit", 7]], [["exit", 7]], restart=alone)).go().status == 1


# --- poison


def over(packet):
    """A process that is at work on a packet of edge 0, and dies of it."""
    return [*BEGIN, words(busy_since_ns="now", current_edge=0, current_sequence=packet), DIE]


def test_a_packet_that_kills_twice_is_named_to_the_next_process(run_of):
    ended = [["log_boot", "poisoned"], *ORDERLY]
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": over(7), "again": [over(7), ended]}, restart=QUICK))
    assert run.go().status == 0
    (poisoned,) = json.loads(run.log("b").split("poisoned ")[1].splitlines()[0])
    assert (poisoned["edge"], poisoned["sequence"], poisoned["deaths"]) == (0, 7, 2)
    assert poisoned["incident"] == str(run.path / "incidents" / "b.2.json")


def test_deaths_over_different_packets_or_none_poison_nothing(run_of):
    idle = [*BEGIN, words(busy_since_ns=0), DIE]
    ended = [["log_boot", "poisoned"], *ORDERLY]
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": over(7), "again": [over(8), idle, ended]}, restart=QUICK))
    run.go()
    assert "poisoned []" in run.log("b")


def test_a_source_is_not_poisoned_by_what_its_page_says(run_of):
    ended = [["log_boot", "poisoned"], *ORDERLY]
    run = run_of(chain({"do": over(7), "again": [over(7), ended]}, SINK, restart=QUICK))
    run.go()
    assert "poisoned []" in run.log("a")


# --- incidents


def test_every_crash_leaves_an_incident_file_that_the_report_counts(run_of):
    run = run_of(chain(UNTIL_PEER_IS_BACK, dying(DIE, ["exit", 3]), SINK, restart=QUICK))
    result = run.go()
    first, second = incident.known(run.path)
    assert (first["node"], first["incarnation"], first["reason"], first["cause"]) == ("b", 1, "crash", "killed by SIGSEGV")
    assert (second["incarnation"], second["exit"]) == (2, "exited with 3")
    assert result.report["nodes"]["b"]["incidents"] == [str(run.path / "incidents" / f"b.{n}.json") for n in (1, 2)]
    assert result.report["nodes"]["a"]["incidents"] == []


def test_before_a_slow_start_is_killed_it_is_looked_at(run_of):
    run = run_of(chain(ORDERLY, {"do": [["sleep", 1000]], "again": [ORDERLY]}, restart=QUICK, startup_s=0.3))
    run.go()
    (found,) = incident.known(run.path)
    assert (found["reason"], found["cause"], found["process"]["State"][:1]) == ("startup", "not ready after 0.3 s", "S")


# --- hangs


HUNG = [*BEGIN, words(busy_since_ns="now", heartbeat_ns="now", current_edge=99), ["beat", str(WORD["alive_ns"])]]
IDLE = [*BEGIN, words(heartbeat_ns="now"), ["beat", str(WORD["alive_ns"])]]


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_S", 0.05)
    monkeypatch.setattr(rounds, "IDLE_ROUND_S", 0.1)


def test_a_node_that_does_not_come_out_of_a_packet_is_looked_at_killed_and_restarted(run_of, often):
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": HUNG, "again": [ORDERLY]}, restart=QUICK, progress_s=0.4))
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["restarts"]) == (0, 1)
    assert restarts_of(run, "b") == ["process() has not returned for 0.4 s"]
    (found,) = incident.known(run.path)
    assert (found["reason"], found["process"]["State"][:1]) in [("hang", "S"), ("hang", "R")]


def test_the_second_hang_is_found_as_soon_as_the_first(run_of):
    # While a node is started anew nothing else may move in the run, and the coordinator must not fall asleep over that.
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": HUNG, "again": [HUNG, ORDERLY]}, restart=QUICK, progress_s=1.0))
    run.go()
    spans = [float(cause.removeprefix("process() has not returned for ").removesuffix(" s")) for cause in restarts_of(run, "b")]
    assert len(spans) == 2
    assert all(1.0 <= span <= 2.0 for span in spans), spans


def test_a_node_that_is_idle_is_left_alone(run_of, often):
    run = run_of(chain(UNTIL_STOP, IDLE, restart=QUICK, progress_s=0.2, heartbeat_s=0.4, drain_s=0.1), for_s=1.0)
    result = run.go()
    assert result.report["nodes"]["b"]["restarts"] == 0


def test_a_stopped_process_is_killed_and_restarted(run_of, often):
    stopped = [*BEGIN, words(heartbeat_ns="now", alive_ns="now"), ["kill", "SIGSTOP"]]
    run = run_of(chain(UNTIL_PEER_IS_BACK, {"do": stopped, "again": [ORDERLY]}, restart=QUICK, progress_s=2.2, heartbeat_s=60))
    assert run.go().status == 0
    (cause,) = restarts_of(run, "b")
    assert cause.startswith("the process has been stopped for 2.")


def test_a_process_that_is_stopped_while_it_starts_is_killed_and_restarted(run_of, often):
    run = run_of(chain(ORDERLY, {"do": [["kill", "SIGSTOP"]], "again": [ORDERLY]}, restart=QUICK, progress_s=0.3))
    assert run.go().status == 0
    (cause,) = restarts_of(run, "b")
    assert cause.startswith("the process has been stopped for 0.")


def test_a_start_that_runs_out_of_time_while_it_is_killed_already_is_killed_once(run_of, often):
    class Late(Watcher):
        def node_changed(self, node, before, after, detail):
            if (before, after) == ("STARTING", "KILLING"):
                crew = run.coordinator._crew
                crew._on_startup_deadline(crew.members[node])

    run = run_of(chain(ORDERLY, {"do": [["kill", "SIGSTOP"]], "again": [ORDERLY]}, restart=QUICK, progress_s=0.3), Late())
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["restarts"]) == (0, 1)


def test_a_paused_node_is_never_hung(run_of, often):
    def pause():
        run.coordinator.orders.pause("b", "READY")

    run = run_of(chain(UNTIL_STOP, HUNG, restart=QUICK, progress_s=0.2, drain_s=0.1), Watcher([pause]), for_s=0.8)
    result = run.go()
    assert result.report["nodes"]["b"]["restarts"] == 0


# --- restarts and the end of the run


def test_a_node_that_waits_for_its_restart_gets_it_when_the_run_is_to_drain(run_of):
    slow = RestartPlan(backoff_s=1000, backoff_max_s=1000)
    run = run_of(chain(UNTIL_STOP, dying(DIE), restart=slow))
    run.watcher.restarting = lambda *_: run.coordinator.stop("test")
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["state"]) == (0, "DONE")


def test_a_source_that_comes_back_while_the_run_drains_is_told_to_stop_before_it_may_begin(run_of):
    # Else a job would be begun once more, for a moment, because somebody ends the run.
    slow = RestartPlan(backoff_s=1000, backoff_max_s=1000)
    told_first = [["ready", 0], ["await", "stop"], ["await", "start"], *END]
    run = run_of(chain(dying(DIE, last=told_first), SINK, restart=slow))
    run.watcher.restarting = lambda *_: run.coordinator.stop("test")
    result = run.go()
    assert (result.status, result.report["nodes"]["a"]["state"]) == (0, "DONE")


def test_a_run_that_is_killed_waits_for_no_restart(run_of):
    slow = RestartPlan(backoff_s=1000, backoff_max_s=1000)
    run = run_of(chain(UNTIL_STOP, [*BEGIN, DIE], restart=slow))
    run.watcher.restarting = lambda *_: run.coordinator.stop("test", now=True)
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["state"]) == (0, "EXITED")


def test_a_stop_before_the_run_is_up_waits_for_no_restart(run_of):
    slow = RestartPlan(backoff_s=1000, backoff_max_s=1000)
    run = run_of(chain(FOR_EVER, [DIE], restart=slow))
    run.watcher.restarting = lambda *_: signal.raise_signal(signal.SIGINT)
    result = run.go()
    assert (result.status, result.reason) == (0, "SIGINT")


def test_what_does_not_drain_while_it_crashes_ends_at_the_drain_limit(run_of):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["sleep", 0.05], DIE], restart=RestartPlan(max_restarts=10_000), drain_s=0.5), for_s=0.1)
    began = time.monotonic()
    result = run.go()
    assert (result.status, result.reason) == (0, "--for 0.1s")
    assert ("killing", "not drained within 0.5 s") in run.watcher.told
    assert time.monotonic() - began < 30


# --- jobs, which have no clock that would find out


DEAF = [["ignore_term", 0], *FOR_EVER]


def test_a_job_that_does_not_end_when_it_is_asked_to_is_killed_and_run_again(run_of):
    run = run_of(chain({"do": DEAF, "again": [ORDERLY]}, restart=QUICK, drain_s=0.1, progress_s=0.0))
    run.watcher.on_up = [lambda: run.coordinator.orders.restart("a", "READY")]
    result = run.go()
    assert (result.status, result.report["nodes"]["a"]["restarts"]) == (0, 1)
    assert restarts_of(run, "a") == ["has not ended within 0.1 s, as it was asked to (restart on request)"]


def test_one_that_has_to_go_anyway_is_not_killed_twice(run_of):
    run = run_of(chain(DEAF, restart=QUICK, drain_s=0.1, progress_s=0.0))
    run.watcher.on_up = [
        lambda: run.coordinator.stop("test"),
        lambda: run.coordinator._crew.ask_to_end(run.coordinator.members["a"], "memory"),
    ]
    result = run.go()
    assert (result.status, result.failures, result.report["nodes"]["a"]["exit"]) == (0, (), "killed by SIGKILL")
    assert restarts_of(run, "a") == []
