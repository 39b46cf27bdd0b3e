"""The restart policy: what is retried, after how long, and when it is enough. Clock and random numbers are the test's."""

import itertools

import pytest

from streamcore.graph.model import RestartPlan
from streamcore.supervisor import exits
from streamcore.supervisor.restarts import Again, GiveUp, Restarts

S = 1_000_000_000
KINDS = (
    exits.IMPORT,
    exits.CONFIG,
    exits.STOPPED,
    exits.RAISED,
    exits.MEMORY,
    exits.SIGNAL,
    exits.EXIT,
    exits.HUNG,
    exits.HALTED,
    exits.NOT_READY,
    exits.NONSENSE,
    exits.NO_PROCESS,
    exits.NO_COMMAND,
)
HOPELESS = {exits.IMPORT, exits.STOPPED, exits.NO_COMMAND}


def restarts(draw=lambda: 0.0, **plan):
    return Restarts(RestartPlan(**plan), draw)


def delays(history, count, every_s=0.0):
    return [history.after(exits.SIGNAL, round(i * every_s * S)).delay_s for i in range(count)]


@pytest.mark.parametrize(("policy", "kind"), [*itertools.product(("never", "on_failure", "always"), KINDS)])
def test_what_cannot_heal_by_another_try_is_not_tried_again(policy, kind):
    retried = isinstance(restarts(policy=policy).after(kind, 0), Again)
    expected = policy != "never" and kind not in HOPELESS and (kind != exits.CONFIG or policy == "always")
    assert retried == expected


def test_a_refusal_by_policy_adds_nothing_to_the_cause():
    assert restarts(policy="never").after(exits.SIGNAL, 0) == GiveUp("")


def test_the_delay_doubles_up_to_its_maximum():
    history = restarts(max_restarts=100, backoff_s=0.1, backoff_max_s=1.0)
    assert delays(history, 6) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("draw", [0.0, 0.3, 1.0])
def test_chance_takes_up_to_half_of_the_delay(draw):
    # Nodes that died of one cause must not come back in step, and none must come back at once.
    history = restarts(lambda: draw, max_restarts=100, backoff_s=0.1, backoff_max_s=1.0)
    assert delays(history, 5) == pytest.approx([full * (1 - draw / 2) for full in (0.1, 0.2, 0.4, 0.8, 1.0)])


def test_thousands_of_restarts_do_not_overflow_the_delay():
    history = restarts(max_restarts=10_000, backoff_max_s=5.0)
    assert delays(history, 5000)[-1] == 5.0


def test_a_delay_of_nothing_stays_nothing():
    assert delays(restarts(max_restarts=100, backoff_s=0.0), 20) == [0.0] * 20


@pytest.mark.parametrize("count", [0, 1, 5])
def test_more_than_max_restarts_within_the_window_is_enough(count):
    history = restarts(max_restarts=count, window_s=60)
    for _ in range(count):
        assert isinstance(history.after(exits.SIGNAL, 59 * S), Again)
    noun = "restart" if count == 1 else "restarts"
    assert history.after(exits.SIGNAL, 60 * S) == GiveUp(f"given up after {count} {noun} within 60 s")


def test_restarts_older_than_the_window_are_forgotten_one_by_one():
    history = restarts(max_restarts=2, window_s=10)
    assert isinstance(history.after(exits.SIGNAL, 0), Again)
    assert isinstance(history.after(exits.SIGNAL, 4 * S), Again)
    assert isinstance(history.after(exits.SIGNAL, 10 * S), Again)  # the first is out of the window, the second is not
    assert isinstance(history.after(exits.SIGNAL, 13 * S), GiveUp)
    assert isinstance(history.after(exits.SIGNAL, 14 * S), Again)


def test_a_node_that_fails_seldom_is_restarted_for_ever_and_without_growing_delays():
    history = restarts(max_restarts=1, window_s=10, backoff_s=0.1)
    assert delays(history, 1000, every_s=10) == [0.1] * 1000


def test_what_is_not_retried_does_not_use_up_a_restart():
    history = restarts(max_restarts=1)
    history.after(exits.IMPORT, 0)
    assert isinstance(history.after(exits.SIGNAL, 0), Again)


def test_restarts_that_were_struck_out_do_not_count():
    history = restarts(max_restarts=2, backoff_s=0.1)
    delays(history, 2)
    history.strike_out(1)
    assert history.after(exits.SIGNAL, 0) == Again(0.2)
    history.strike_out(99)
    assert history.after(exits.SIGNAL, 0) == Again(0.1)
