"""What a node that is done has not completed well is told to its producers before they are told that it is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_runs import ORDERLY, chain

from streamcore.coordinator.course import READY
from streamcore.coordinator.recovery import OUTCOMES_MAX, Recovery
from streamcore.node import channel
from streamcore.supervisor import states
from streamcore.wire.messages import AWAY, FAILED


class Crew:
    """Members without processes; `told`: (node, word) in the order of sending."""

    def __init__(self, plan: Any):
        self.members = {
            node.id: SimpleNamespace(id=node.id, plan=node, state=states.READY, paused=False, incarnation=1) for node in plan.nodes
        }
        self.told: list[tuple[str, channel.Command]] = []

    def send(self, members: Any, command: channel.Command) -> None:
        self.told += [(member.id, command) for member in members]


@pytest.fixture
def told():
    """(crew of a -> b -> c, its recovery, outcomes by edge that the pages hold)."""
    plan = chain(ORDERLY, ORDERLY, ORDERLY)
    crew, outcomes = Crew(plan), dict[int, dict[int, list[int]]]()
    segments: Any = SimpleNamespace(not_well=lambda edge: outcomes.get(edge.id, {}))
    unused: Any = None
    recovery = Recovery(plan, crew, SimpleNamespace(phase=READY), segments, unused, unused, unused, unused)  # type: ignore[arg-type]
    return crew, recovery, outcomes


def test_a_producer_hears_of_what_failed_before_it_hears_of_the_end(told):
    crew, recovery, outcomes = told
    outcomes[0], outcomes[1] = {FAILED: [7]}, {AWAY: [3, 5], FAILED: [4]}
    crew.members["c"].state = states.DONE
    recovery.on_end(crew.members["c"])
    assert crew.told == [
        ("b", channel.Outcomes(1, AWAY, (3, 5))),
        ("b", channel.Outcomes(1, FAILED, (4,))),
        ("b", channel.PeerDone("c")),
    ]


def test_many_are_told_in_words_that_the_channel_takes(told):
    crew, recovery, outcomes = told
    sequences = [*range(2**62, 2**62 + 2 * OUTCOMES_MAX + 1)]
    outcomes[1] = {AWAY: sequences}
    crew.members["c"].state = states.DONE
    recovery.on_end(crew.members["c"])
    *words, last = [word for _, word in crew.told]
    assert last == channel.PeerDone("c")
    assert [sequence for word in words for sequence in word.sequences] == sequences
    assert max(len(channel.encode(word)) for word in words) < channel.DATAGRAM_BYTES_MAX


def test_a_new_process_hears_it_before_it_may_begin(told):
    crew, recovery, outcomes = told
    outcomes[1] = {AWAY: [3]}
    crew.members["c"].state = states.DONE
    recovery.rejoin(crew.members["b"])
    words = [word for node, word in crew.told if node == "b"]
    assert words[0] == channel.Outcomes(1, AWAY, (3,))
    assert isinstance(words[1], channel.Start) and words[1].done == ("c",)
    crew.told.clear()
    crew.members["c"].state = states.READY  # it lives: what it has to say it says itself
    recovery.rejoin(crew.members["b"])
    assert not [word for _, word in crew.told if isinstance(word, channel.Outcomes)]
