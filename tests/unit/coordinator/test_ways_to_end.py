"""Every way in which a run can end, with nodes that behave well and badly. After each, `Run.go` looks that nothing is left."""

import signal

import psutil
import pytest
from fake_runs import BEGIN, END, FOR_EVER, ORDERLY, UNTIL_PEER_GONE, UNTIL_STOP, Watcher, chain

from streamcore import limits
from streamcore.coordinator import coordinator, course, crew
from streamcore.supervisor.loop import STOP_SIGNALS, Signals


@pytest.fixture
def quick_hands(monkeypatch):
    """Whatever comes after a signal is another one, however soon."""
    monkeypatch.setattr(course, "TOGETHER_S", 0.0)


def press(*signals):
    """What a person does at the terminal."""
    for number in signals:
        signal.raise_signal(number)


def child_of(run, node):
    return int(run.log(node).split("child ")[1].split()[0])


def ends_soon(pid):
    try:
        psutil.Process(pid).wait(timeout=5)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        return False
    return True


def states_of(run, node):
    return [entry[1] for entry in run.watcher.told if isinstance(entry, tuple) and entry[0] == node]


def test_a_run_whose_nodes_are_all_done_ends_with_0(run_of):
    run = run_of(chain(ORDERLY, ORDERLY, ORDERLY))
    result = run.go()
    assert (result.status, result.reason, result.report["status"]) == (0, "end of stream", "ok")
    assert states_of(run, "b") == ["STARTING", "READY", "DRAINING", "DONE"]


def test_consumers_are_spawned_first_and_nobody_begins_before_all_are_ready(run_of):
    # A producer that began while a consumer is not bound would send into the void.
    late = [["sleep", 0.2], *ORDERLY]
    run = run_of(chain(ORDERLY, ORDERLY, late))
    run.go()
    told = run.watcher.told
    assert [entry for entry in told if entry[1] == "STARTING"] == [("c", "STARTING"), ("b", "STARTING"), ("a", "STARTING")]
    assert max(told.index((node, "READY")) for node in "abc") < told.index("up")
    assert min(told.index((node, "DRAINING")) for node in "abc") > told.index("up")
    assert '"peers": {"a": 1, "b": 1, "c": 1}' in run.log("a")


def test_a_large_graph_starts_a_few_nodes_at_a_time(run_of, monkeypatch):
    # Each node's startup_s would otherwise pass while hundreds of others use up the cores.
    monkeypatch.setattr(coordinator, "STARTING_MAX", 1)
    run = run_of(chain(ORDERLY, ORDERLY, ORDERLY))
    assert run.go().status == 0
    before_up = run.watcher.told[: run.watcher.told.index("up")]
    assert before_up == [(node, state) for node in "cba" for state in ("STARTING", "READY")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_the_sources_and_the_rest_drains(run_of, number):
    consumer = [*BEGIN, ["sleep", 0.1], *END]  # it ends by itself once its inputs do
    run = run_of(chain(UNTIL_STOP, consumer), Watcher([lambda: press(number)]))
    result = run.go()
    assert (result.status, result.reason) == (0, number.name)
    assert ("stopping", number.name) in run.watcher.told


def test_signals_that_come_together_count_once(run_of):
    # `timeout -s INT` of the GNU tools sends it to its child and to the whole group, the child included.
    consumer = [*BEGIN, ["sleep", 0.05], *END]
    run = run_of(chain(UNTIL_STOP, consumer), Watcher([lambda: press(signal.SIGINT, signal.SIGINT, signal.SIGTERM)]))
    result = run.go()
    assert (result.status, result.reason) == (0, "SIGINT")
    assert not any(entry[0] == "killing" for entry in run.watcher.told)
    assert result.report["nodes"]["b"]["state"] == "DONE"


def test_a_second_signal_kills_at_once(run_of, quick_hands):
    run = run_of(chain(FOR_EVER, FOR_EVER), Watcher([lambda: press(signal.SIGINT), lambda: press(signal.SIGTERM)]))
    result = run.go()
    assert (result.status, result.reason) == (0, "SIGINT")
    assert ("killing", "SIGTERM") in run.watcher.told
    assert states_of(run, "a")[-2:] == ["KILLING", "EXITED"]
    assert result.report["nodes"]["a"]["exit"] == "killed by SIGKILL"


def test_a_node_that_does_not_drain_in_time_is_told_to_go_and_then_killed(run_of):
    stubborn = [["ignore_term", 0], *FOR_EVER]
    not_a_source = UNTIL_STOP  # so nobody tells it to stop: it ends with its inputs, and here it has none
    run = run_of(chain(UNTIL_STOP, not_a_source, stubborn, drain_s=0.1), for_s=0.05)
    result = run.go()
    assert (result.status, result.reason) == (0, "--for 0.05s")
    assert ("killing", "not drained within 0.1 s") in run.watcher.told
    exits = {node: row["exit"] for node, row in result.report["nodes"].items()}
    assert exits == {"a": "exited with 0", "b": "killed by SIGTERM", "c": "killed by SIGKILL"}
    assert result.failures == ()  # it was asked for: nobody failed


def test_a_signal_while_nodes_start_ends_the_run_before_it_began(run_of):
    slow = [["print", "up"], ["sleep", 1000]]
    run = run_of(chain(slow, slow))
    run.watcher.node_changed = lambda node, *rest: press(signal.SIGINT) if node == "a" else None
    result = run.go()
    assert (result.status, result.reason) == (0, "SIGINT")
    assert "up" not in run.watcher.told


@pytest.mark.parametrize(
    ("end", "where", "cause", "exit"),
    [
        (["fail", "no such file: a.mp4"], "setup", "no such file: a.mp4", "exited with 1"),
        (["exit", 3], "exit", "exited with 3", "exited with 3"),
        (["exit", 0], "exit", "exited with 0 before it said that it is done", "exited with 0"),
        (["kill", "SIGSEGV"], "exit", "killed by SIGSEGV", "killed by SIGSEGV"),
    ],
)
def test_a_node_that_fails_before_the_start_ends_all_others_at_once(run_of, end, where, cause, exit):
    bad = [["print", "last words"], end, ["exit", 1]]
    run = run_of(chain(FOR_EVER, bad, FOR_EVER))
    result = run.go()
    (failure,) = result.failures
    assert (result.status, result.report["status"], result.reason) == (1, "error", "node 'b' failed")
    assert (failure.node, failure.plugin, failure.where, failure.cause, failure.exit) == ("b", "fake.b", where, cause, exit)
    assert failure.log_tail == ("last words",)
    assert "up" not in run.watcher.told
    assert states_of(run, "b")[-1] == "FAILED"
    assert states_of(run, "a")[-1] == states_of(run, "c")[-1] == "EXITED"


def test_a_node_that_fails_later_lets_the_others_finish(run_of):
    # Files must be closed and what was processed kept: the run drains, it is not killed.
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["exit", 7]], UNTIL_PEER_GONE))
    result = run.go()
    assert (result.status, result.reason) == (1, "node 'b' failed")
    assert {node: row["state"] for node, row in result.report["nodes"].items()} == {"a": "DONE", "b": "FAILED", "c": "DONE"}
    assert '"type": "peer_gone", "node": "b"' in run.log("c")
    assert run.watcher.told.index(("failed", "b")) < run.watcher.told.index(("stopping", "node 'b' failed"))


def test_a_node_that_is_not_ready_in_time_has_failed(run_of):
    run = run_of(chain(FOR_EVER, [["sleep", 1000]], startup_s=0.3))
    (failure,) = run.go().failures
    assert (failure.node, failure.where, failure.cause) == ("b", "start", "not ready after 0.3 s")


def test_a_node_that_says_that_it_gets_on_may_take_longer(run_of):
    # A durable queue reads all of its file first, however large that has become.
    result = run_of(chain(ORDERLY, [*([["sleep", 0.6], ["starting", None]] * 7), *ORDERLY], startup_s=3.0)).go()
    assert (result.status, result.failures) == (0, ())


def test_a_box_that_cannot_start_a_process_fails_the_node_and_ends_the_run(run_of):
    run = run_of(chain(ORDERLY, ORDERLY), command=("/no/such/python",))
    result = run.go()
    (failure,) = result.failures
    assert (result.status, failure.node, failure.fault) == (1, "b", "box")
    assert failure.cause == "cannot start a process: No such file or directory"
    assert result.report["nodes"]["a"]["state"] == "PLANNED"


@pytest.mark.parametrize("text", ["{", '{"type": "done"}', '{"type": "ready"}', '{"type": "start", "peers": {}}', "\0" * 5000])
def test_a_node_that_talks_nonsense_is_killed_and_has_failed(run_of, text):
    run = run_of(chain(FOR_EVER, [["nonsense", text], ["sleep", 1000]]))
    (failure,) = run.go().failures
    assert (failure.node, failure.where, failure.fault) == ("b", "control", "streamcore")


def test_a_node_that_hangs_up_and_lives_on_is_killed_and_has_failed(run_of, monkeypatch):
    monkeypatch.setattr(crew, "EXIT_S", 0.1)
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["hang_up", 0], ["sleep", 1000]]))
    (failure,) = run.go().failures
    assert failure.cause == "closed its control channel and did not exit within 0.1 s"


@pytest.mark.parametrize(
    ("end", "warning"),
    [(["sleep", 1000], "did not exit within 0.1 s; killed"), (["kill", "SIGSEGV"], "was done, then killed by SIGSEGV; nothing is lost")],
)
def test_a_node_that_was_done_and_ends_badly_is_still_done(run_of, monkeypatch, end, warning):
    # Native libraries crash when they are unloaded. Everything was completed by then.
    monkeypatch.setattr(crew, "EXIT_S", 0.1)
    run = run_of(chain(ORDERLY, [*ORDERLY, end]))
    result = run.go()
    assert (result.status, result.report["nodes"]["b"]["state"]) == (0, "DONE")
    assert any(warning in entry[1] for entry in run.watcher.told if entry[0] == "warning")


@pytest.mark.parametrize("kind", ["group", "session"])
@pytest.mark.parametrize("end", [END, [["kill", "SIGKILL"]]], ids=["done", "killed"])
def test_what_a_node_has_started_ends_with_it_wherever_it_hides(run_of, kind, end):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["child", kind], *end]), for_s=0.2)
    run.go()
    assert not psutil.pid_exists(child_of(run, "b"))


@pytest.mark.parametrize("kind", ["group", "session"])
def test_what_a_dead_node_has_started_does_not_live_until_the_end_of_the_run(run_of, kind):
    run, ended = run_of(chain(UNTIL_STOP, [*BEGIN, ["child", kind], ["kill", "SIGKILL"]])), []

    def node_changed(node, before, after, detail):
        if (node, after) == ("b", "EXITED"):
            ended.append(ends_soon(child_of(run, "b")))

    run.watcher.node_changed = node_changed
    run.go()
    assert ended == [True]


def test_inboxes_that_killed_nodes_leave_are_removed(run_of, quick_hands):
    run = run_of(chain(FOR_EVER, FOR_EVER), Watcher([lambda: press(signal.SIGINT, signal.SIGTERM)]))
    run.go()  # looks for files that are left


def test_rings_that_outgrow_the_limit_end_the_run_with_the_reason(run_of):
    # Past RAM the kernel kills what it likes; this names the port.
    greedy = [*BEGIN, ["touch_ring", 6 * limits.MIB], ["await", "stop"], *END]
    plan = chain(greedy, [*BEGIN, ["sleep", 1.5], *END], slot_bytes=2 * limits.MIB)
    run = run_of(plan, shm_limit=4 * limits.MIB)
    result = run.go()
    (failure,) = result.failures
    assert (result.status, failure.node, failure.where) == (1, "a", "memory")
    assert failure.cause.startswith("shared memory: found 6.")
    assert "limit 4 MiB (a.out 6." in failure.cause


def test_an_error_of_the_observer_leaves_nothing_behind(run_of):
    def break_down():
        raise BrokenPipeError("the terminal is gone")

    run = run_of(chain(FOR_EVER, FOR_EVER), Watcher([break_down]))
    with pytest.raises(BrokenPipeError):
        run.go()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert handlers == {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    assert run_of(chain(ORDERLY, ORDERLY)).go().status == 0  # and its name is free again


@pytest.fixture
def signals():
    caught = Signals()
    yield caught
    caught.close()


def test_a_signal_that_came_before_anything_was_started_ends_the_run_without_a_process(run_of, signals):
    press(signal.SIGTERM)  # the run directory does not even exist yet
    run = run_of(chain(FOR_EVER, FOR_EVER), signals=signals)
    result = run.go()
    assert (result.status, result.reason) == (0, "SIGTERM")
    assert run.watcher.told == [("stopping", "SIGTERM")]


def test_signals_that_the_caller_has_caught_stay_caught_so_that_a_late_one_does_not_hit_whoever_writes_the_report(run_of, signals):
    run = run_of(chain(UNTIL_STOP, [*BEGIN, ["sleep", 0.05], *END]), Watcher([lambda: press(signal.SIGINT)]), signals=signals)
    assert run.go().status == 0
    press(*STOP_SIGNALS)
    assert [number for number in signals.read() if number in STOP_SIGNALS][-3:] == list(STOP_SIGNALS)
