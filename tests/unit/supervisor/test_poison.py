"""Packets that kill: how many deaths in a row make a poisoned packet, and which deaths count against the node."""

import itertools

import pytest

from streamcore.graph.model import Poisoned, RestartPlan
from streamcore.supervisor import exits
from streamcore.supervisor.poison import KEPT_MAX, Poison, Verdict
from streamcore.supervisor.restarts import Again, Restarts

BAD, OTHER = (3, 17), (3, 18)


def test_a_packet_is_removed_at_the_limit_of_deaths_in_a_row():
    poison = Poison(3)
    assert [poison.on_death(BAD, 10).removed for _ in range(3)] == [False, False, True]
    assert poison.removed == (Poisoned(3, 17, 3),)


def test_a_death_over_another_packet_begins_a_new_count():
    poison = Poison(2)
    assert not any(poison.on_death(packet, 10).removed for packet in (BAD, OTHER, BAD, OTHER))


def test_the_same_sequence_on_another_edge_is_another_packet():
    poison = Poison(2)
    poison.on_death((1, 5), 0)
    assert not poison.on_death((2, 5), 0).removed


def test_a_death_over_no_packet_neither_counts_nor_forgives():
    poison = Poison(2)
    poison.on_death(BAD, 10)
    assert poison.on_death(None, 10) == Verdict()
    assert poison.on_death(BAD, 10).removed


def test_a_limit_of_0_removes_nothing():
    poison = Poison(0)
    assert not any(poison.on_death(BAD, 10).removed for _ in range(10))


def test_a_limit_of_1_removes_at_the_first_death():
    assert Poison(1).on_death(BAD, 0) == Verdict(removed=True, forgiven=True, deaths=1)


def test_after_a_removal_the_count_begins_anew():
    poison = Poison(2)
    for packet in (BAD, BAD):
        poison.on_death(packet, 10)
    assert not poison.on_death(OTHER, 11).removed


def test_a_node_that_works_between_its_bad_packets_is_forgiven_and_one_that_does_not_is_not():
    poison = Poison(1)
    assert poison.on_death((0, 1), consumed=100).forgiven
    assert poison.on_death((0, 5), consumed=103).forgiven
    assert poison.on_death((0, 6), consumed=103) == Verdict(removed=True, forgiven=False, deaths=1)


def test_the_incident_is_named_in_the_last_removed_packet():
    poison = Poison(1)
    poison.name_incident("nobody was removed yet")
    for sequence in (1, 2):
        poison.on_death((0, sequence), sequence)
        poison.name_incident(f"incidents/n.{sequence}.json")
    assert [packet.incident for packet in poison.removed] == ["incidents/n.1.json", "incidents/n.2.json"]


def test_only_the_last_removed_packets_are_kept():
    poison = Poison(1)
    for sequence in range(KEPT_MAX + 10):
        poison.on_death((0, sequence), sequence)
    assert [packet.sequence for packet in poison.removed] == list(range(10, KEPT_MAX + 10))


def deaths_until_given_up(bad, limit=2, max_restarts=5):
    """A stream of 200 packets of which some kill; how many deaths the node survives, and what it has processed. As recovery.py does it."""
    poison, history, consumed, deaths = Poison(limit), Restarts(RestartPlan(max_restarts=max_restarts), lambda: 0.0), 0, 0
    for sequence in range(200):
        while sequence in bad and not any(sequence == packet.sequence for packet in poison.removed):
            deaths += 1
            verdict = poison.on_death((0, sequence), consumed)
            if verdict.forgiven:
                history.strike_out(verdict.deaths - 1)
            if not isinstance(history.after(exits.SIGNAL, 0), Again):
                return deaths, consumed
            if verdict.forgiven:
                history.strike_out(1)
        consumed += sequence not in bad
    return deaths, consumed


@pytest.mark.parametrize(("limit", "every"), [*itertools.product((1, 2, 3), (2, 7, 50))])
def test_bad_packets_here_and_there_are_removed_for_ever(limit, every):
    bad = set(range(0, 200, every))
    assert deaths_until_given_up(bad, limit) == (len(bad) * limit, 200 - len(bad))


def test_a_few_bad_packets_side_by_side_are_removed():
    assert deaths_until_given_up({50, 51, 52}) == (6, 197)


def test_a_node_that_dies_of_every_packet_is_given_up_after_a_few():
    deaths, consumed = deaths_until_given_up(set(range(10, 200)))
    assert consumed == 10
    assert deaths <= 2 * 5


def test_with_a_single_restart_a_bad_packet_is_still_removed():
    assert deaths_until_given_up({50, 100}, limit=2, max_restarts=1) == (4, 198)
