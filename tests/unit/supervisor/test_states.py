"""The table of a node's life: what is in it, what is not, and what is drawn from it."""

from itertools import product

import pytest

from streamcore.errors import InvalidTransition
from streamcore.supervisor import states

PAIRS = list(product(states.STATES, states.EVENTS))


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in states.TRANSITIONS])
def test_a_pair_that_is_not_in_the_table_raises_and_names_everything(state, event):
    with pytest.raises(InvalidTransition) as caught:
        states.step(state, event, "motion", 3)
    assert str(caught.value) == f"{event} is not allowed in state {state} (node 'motion', incarnation 3)"


@pytest.mark.parametrize(("state", "event"), states.TRANSITIONS)
def test_a_pair_of_the_table_leads_to_a_known_state(state, event):
    assert (state, event) in PAIRS
    assert states.step(state, event, "motion", 1) in states.STATES


def walk(*events, start=states.PLANNED):
    state = start
    for event in events:
        state = states.step(state, event, "n", 1)
    return state


def test_an_orderly_life_ends_done():
    said = (states.SPAWNED, states.SAID_READY, states.SAID_DRAINING, states.SAID_DONE, states.GONE)
    assert walk(*said) == states.DONE


def test_every_state_with_a_process_leads_to_exited_when_the_process_is_gone():
    # A process can die at any time: a state that cannot take this would crash the coordinator.
    assert {state for state in states.STATES if states.TRANSITIONS.get((state, states.GONE)) == states.EXITED} == states.LIVE


def test_a_failed_node_does_not_become_done_by_a_late_report():
    assert walk(states.SPAWNED, states.SAID_READY, states.SAID_DRAINING, states.SAID_FAILED, states.SAID_DONE, states.GONE) == states.EXITED


def test_a_node_that_exited_is_tried_again_or_given_up():
    assert walk(states.RETRY, states.SPAWNED, start=states.EXITED) == states.STARTING
    assert walk(states.GIVE_UP, start=states.EXITED) == states.FAILED


def test_every_state_can_be_reached():
    reached, frontier = {states.PLANNED}, [states.PLANNED]
    while frontier:
        here = frontier.pop()
        new = {after for (before, _), after in states.TRANSITIONS.items() if before == here} - reached
        reached |= new
        frontier.extend(new)
    assert reached == set(states.STATES)


def test_the_documentation_is_drawn_from_the_table():
    table, picture = states.as_markdown(), states.as_mermaid()
    for (before, event), after in states.TRANSITIONS.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| {before} |"))
        assert event in row
        assert f"{before} --> {after}: {event}" in picture
    assert "| FAILED | final |" in table
