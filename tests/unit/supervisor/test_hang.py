"""Slow or hung, judged from readings of a status page. Times are the test's; `T` is when the reading is taken, in seconds."""

import msgspec
import pytest

from streamcore.graph.model import NodePlan
from streamcore.shm.status import EdgeCounters, NodeStatus
from streamcore.supervisor.hang import STOPPED_S, Clocks, silent

S = 1_000_000_000
PROGRESS_S, HEARTBEAT_S = 5.0, 10.0
T0 = 1000  # when the node's life begins on the monotonic clock


def plan(role="node", **more):
    outputs = {} if role == "sink" else {"out": 0}
    return NodePlan("n", "p", "p:P", role, {}, outputs, (), (), (), **({"progress_s": PROGRESS_S, "heartbeat_s": HEARTBEAT_S} | more))


def ns(seconds):
    return round((T0 + seconds) * S)


def page(*, busy=None, beat=0.0, alive=None, waiting=0, in_credit=False, produced=0, credit_wait=0.0, incarnation=1):
    """Times in seconds after T0. `beat`: last turn of the main loop. `alive`: last tick of the helper thread; None: it never ticked."""
    fields = dict.fromkeys(NodeStatus.__struct_fields__, 0)
    fields |= {"state": "ready", "edges": {0: EdgeCounters(waiting=waiting)}, "metrics": {}, "incarnation": incarnation}
    fields |= {"busy_since_ns": 0 if busy is None else ns(busy), "heartbeat_ns": ns(beat), "alive_ns": 0 if alive is None else ns(alive)}
    fields |= {"waits_for_credit": int(in_credit), "produced": produced, "credit_wait_ns": round(credit_wait * S)}
    return NodeStatus(**fields)


def look(clocks, seen, at, **more):
    why, due_ns = clocks.look(seen, ns(at), **more)
    return why, due_ns / S - T0


def found_at(readings, until=100.0, clocks=None, role="node", **options):
    """When a coordinator that looks when it was told to, and at least once a second, finds a hang; None if it does not.

    readings: second to the page as it is then.
    """
    clocks, at = clocks or Clocks(plan(role)), 0.0
    while at < until:
        seen, stopped = readings(at), options.get("stopped", lambda at: False)(at)
        why, due = look(clocks, seen, at, stopped=stopped and silent(seen, ns(at)))
        if why:
            return at, why
        at = min(at + 1.0, max(due, at + 0.001))
    return None


def test_a_process_call_that_does_not_return_is_found_when_its_time_is_up():
    at, why = found_at(lambda t: page(busy=2.3, beat=2.2, alive=int(t)))
    assert at == pytest.approx(2.3 + PROGRESS_S, abs=0.01)
    assert why == "process() has not returned for 5.0 s"


def test_a_job_takes_as_long_as_it_takes_unless_it_is_stopped_or_the_spec_bounds_it():
    job = msgspec.structs.replace(plan("source", progress_s=0.0), outputs={})
    assert found_at(lambda t: page(busy=2.3, beat=2.2, alive=int(t)), until=3e3, clocks=Clocks(job)) is None
    assert found_at(lambda t: page(busy=2.3, beat=2.2, alive=5), until=3e3, clocks=Clocks(job)) is None, "it holds the lock for its work"
    at, why = found_at(lambda t: page(busy=2.3, beat=2.2, alive=min(20, int(t))), clocks=Clocks(job), stopped=lambda at: True)
    assert (at, "stopped" in why) == (pytest.approx(20 + STOPPED_S, abs=1), True)
    bounded = msgspec.structs.replace(job, progress_s=PROGRESS_S)
    at, why = found_at(lambda t: page(busy=2.3, beat=2.2, alive=int(t)), clocks=Clocks(bounded))
    assert (at, why) == (pytest.approx(2.3 + PROGRESS_S, abs=0.01), "run() has not ended for 5.0 s")


def test_of_a_source_it_is_the_next_packet_that_does_not_come():
    _, why = found_at(lambda t: page(busy=2.3, beat=2.2, alive=int(t)), role="source")
    assert why.startswith("run() has not given a packet for 5.0 s")


def test_one_packet_for_less_than_the_limit_is_slow_and_never_hung():
    # Packets of 4.9 s each, one after the other, for ever.
    def readings(t):
        begun = t - t % 4.9
        return page(busy=begun, beat=begun, alive=int(t), waiting=3)

    assert found_at(readings) is None


def test_the_lock_of_the_interpreter_held_within_a_packet_is_found_by_progress_and_named():
    at, why = found_at(lambda t: page(busy=2.0, beat=2.0, alive=2.0))
    assert at == pytest.approx(2.0 + PROGRESS_S, abs=0.01)
    assert "no" in why and "holds the interpreter's lock" in why


def test_work_that_holds_the_lock_for_less_than_the_limit_is_work():
    clocks = Clocks(plan(heartbeat_s=3.0, progress_s=30.0))
    assert found_at(lambda t: page(busy=2.0, beat=2.0, alive=2.0), until=30.0, clocks=clocks) is None


def test_waiting_for_credit_is_never_hung():
    assert found_at(lambda t: page(busy=2.0, beat=2.0, alive=int(t), in_credit=True, waiting=5)) is None


def test_after_a_long_wait_for_credit_the_time_of_the_packet_begins_anew():
    # process() began at 2, waited for credit until 50 and worked until 54: the work took 4 s.
    def readings(t):
        if t < 50:
            return page(busy=2.0, beat=2.0, alive=int(t), in_credit=True)
        return page(busy=2.0, beat=2.0, alive=int(t), credit_wait=48.0) if t < 54 else page(beat=54.0, alive=int(t))

    assert found_at(readings) is None


def test_a_hang_after_a_wait_for_credit_is_found_within_a_second_more():
    def readings(t):
        if t < 50:
            return page(busy=2.0, beat=2.0, alive=int(t), in_credit=True)
        return page(busy=2.0, beat=2.0, alive=int(t), credit_wait=48.0)

    at, _ = found_at(readings)
    assert 50 + PROGRESS_S - 1 <= at <= 50 + PROGRESS_S + 1


def test_a_short_wait_for_credit_between_two_readings_counts_as_getting_on():
    # Each output of one long call waits half a second; no reading ever falls into a wait.
    assert found_at(lambda t: page(busy=2.0, beat=2.0, alive=int(t), credit_wait=0.5 * int(t))) is None


def test_a_call_that_goes_on_giving_packets_gets_on():
    assert found_at(lambda t: page(busy=2.0, beat=2.0, alive=int(t), produced=int(t))) is None


def test_a_call_that_stops_giving_packets_is_found_within_a_second_more():
    at, _ = found_at(lambda t: page(busy=2.0, beat=2.0, alive=int(t), produced=int(min(t, 30))))
    assert 30 + PROGRESS_S <= at <= 30 + PROGRESS_S + 1


def test_packets_of_before_do_not_make_the_present_one_look_busy():
    # Between two readings hundreds of packets went through; the last of them hangs, and its own time counts.
    def readings(t):
        return page(beat=t, alive=int(t), produced=int(100 * t)) if t < 9 else page(busy=8.5, beat=8.5, alive=int(t), produced=850)

    at, _ = found_at(readings)
    assert at == pytest.approx(8.5 + PROGRESS_S, abs=0.01)


def test_an_idle_node_is_never_hung_and_need_not_be_looked_at_often():
    assert found_at(lambda t: page(beat=0.0, alive=int(t))) is None
    _, due = look(Clocks(plan()), page(beat=0.0, alive=50), 50.2)
    assert due == pytest.approx(50 + PROGRESS_S)


def test_packets_that_wait_while_the_main_loop_does_not_turn_are_a_hang():
    at, why = found_at(lambda t: page(beat=min(t, 7.0), alive=int(t), waiting=2 if t > 6 else 0))
    assert at == pytest.approx(7.0 + PROGRESS_S, abs=0.01)
    assert why == "2 packets wait and the node has not looked for 5.0 s"


def test_packets_that_wait_while_the_loop_turns_are_no_hang():
    assert found_at(lambda t: page(beat=t, alive=int(t), waiting=8)) is None


def test_a_stopped_process_is_found_although_it_is_idle():
    at, why = found_at(lambda t: page(beat=0.0, alive=min(int(t), 20)), stopped=lambda t: t >= 20.4)
    assert 20 + PROGRESS_S <= at <= 20.4 + PROGRESS_S + 1
    assert why.startswith("the process has been stopped for")


def test_a_process_stopped_while_it_waits_for_credit_is_found():
    at, _ = found_at(lambda t: page(busy=3.0, beat=3.0, alive=min(int(t), 20), in_credit=True), stopped=lambda t: t >= 20.4)
    assert 20 + PROGRESS_S <= at <= 20.4 + PROGRESS_S + 1


def test_a_process_stopped_within_a_packet_is_named_so():
    at, why = found_at(lambda t: page(busy=20.1, beat=20.1, alive=min(int(t), 20)), stopped=lambda t: t >= 20.4)
    assert 20 + PROGRESS_S <= at <= 20.4 + PROGRESS_S + 1
    assert "stopped" in why


def test_a_stop_that_is_short_is_forgiven():
    def readings(t):
        return page(beat=0.0, alive=20 if 20 <= t < 24 else int(t))

    assert found_at(readings, stopped=lambda t: 20.4 <= t < 24) is None


def test_a_lock_held_between_packets_is_found_by_the_heartbeat():
    at, why = found_at(lambda t: page(beat=3.0, alive=min(int(t), 20)))
    assert at == pytest.approx(20 + HEARTBEAT_S, abs=1.01)
    assert why.startswith("none of its threads has run for 10.0 s")


def test_without_a_helper_thread_there_is_no_heartbeat():
    assert found_at(lambda t: page(beat=0.0)) is None


def test_nobody_is_blamed_for_the_time_in_which_the_box_stood_still():
    clocks = Clocks(plan())
    before = page(busy=2.0, beat=2.0, alive=3.0, waiting=1)
    assert look(clocks, before, 3.0)[0] == ""
    clocks.excuse(ns(300))
    assert look(clocks, before, 300.0)[0] == ""
    assert look(clocks, before, 300 + PROGRESS_S)[0]


def test_a_successor_is_not_judged_by_what_its_predecessor_left():
    clocks = Clocks(plan())
    assert look(clocks, page(busy=2.0, beat=2.0, alive=7.0, produced=5), 7.1)[0]
    clocks.excuse(ns(8))
    left = page(beat=2.0, alive=7.0, waiting=3, produced=5, incarnation=2)
    assert look(clocks, left, 8.1) == ("", pytest.approx(8 + PROGRESS_S))


def test_a_process_that_is_stopped_before_it_is_ready_does_not_use_up_its_whole_start():
    clocks = Clocks(plan())
    assert clocks.look_at_start(ns(1), stopped=True) == ("", ns(1 + PROGRESS_S))
    assert clocks.look_at_start(ns(4), stopped=False) == ("", ns(4 + PROGRESS_S))
    assert clocks.look_at_start(ns(5), stopped=True) == ("", ns(5 + PROGRESS_S))
    assert clocks.look_at_start(ns(5 + PROGRESS_S), stopped=True)[0].startswith("the process has been stopped for 5.0 s")


def stalled_at(readings, until=PROGRESS_S, **options):
    """The first second by which a node is said to be stalled, and why; it is not hung by `until`."""
    clocks = Clocks(plan(**options))
    for tenth in range(round(until * 10)):
        assert look(clocks, readings(tenth / 10), tenth / 10)[0] == ""
        if clocks.stalled:
            return tenth / 10, clocks.stalled
    return None


def test_half_of_the_time_without_progress_is_a_stall():
    assert stalled_at(lambda t: page(busy=0.0, beat=0.0, alive=t)) == (2.5, "process() has not returned for 2.5 s")
    assert stalled_at(lambda t: page(beat=0.0, alive=t, waiting=3)) == (2.5, "3 packets wait and the node has not looked for 2.5 s")


def test_who_gets_on_waits_for_credit_or_is_idle_is_not_stalled():
    assert stalled_at(lambda t: page(busy=t // 2 * 2, beat=t // 2 * 2, alive=t), until=60) is None
    assert stalled_at(lambda t: page(busy=0.0, beat=0.0, alive=t, in_credit=True), until=60) is None
    assert stalled_at(lambda t: page(beat=0.0, alive=t), until=9) is None
    # A quiet helper thread alone is none: heartbeat_s may be much shorter than progress_s.
    assert stalled_at(lambda t: page(beat=t, alive=0.0), until=9, heartbeat_s=10.0, progress_s=30.0) is None


def test_a_stall_is_over_when_the_node_gets_on():
    clocks = Clocks(plan())
    look(clocks, page(busy=0.0, beat=0.0, alive=3.0), 3.0)
    assert clocks.stalled
    look(clocks, page(busy=3.5, beat=3.5, alive=4.0), 4.0)
    assert not clocks.stalled


def test_silence_is_what_lasts_longer_than_two_ticks():
    assert not silent(page(alive=10.0), ns(12.0))
    assert silent(page(alive=10.0), ns(12.1))
    assert not silent(page(alive=10.0, beat=12.0), ns(12.1))
    assert not silent(page(beat=1.0), ns(12.1))


def test_a_reading_is_judged_by_fields_that_a_page_really_has():
    assert {"busy_since_ns", "heartbeat_ns", "alive_ns", "waits_for_credit"} <= set(msgspec.structs.asdict(page()))
