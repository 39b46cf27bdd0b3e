"""Edges that drop: one event when it begins, one when it is over, however many packets; and never a loop of events about events."""

import dataclasses

import msgspec
import pytest
from fake_runs import ORDERLY, chain

from streamcore.coordinator.edge_watch import CALM_S, EdgeWatch
from streamcore.coordinator.observer import Observer
from streamcore.shm.status import EdgeCounters, NodeStatus

S = 1_000_000_000
BLANK = {**dict.fromkeys(NodeStatus.__struct_fields__, 0), "state": "ready", "metrics": {}}
del BLANK["edges"]


@dataclasses.dataclass
class Told(Observer):
    told: list = dataclasses.field(default_factory=list)

    def dropping(self, edge, policy):
        self.told.append(("dropping", edge, policy))

    def flowing(self, edge, dropped):
        self.told.append(("flowing", edge, dropped))


def plan_of(policy):
    plan = chain(ORDERLY, ORDERLY)
    return msgspec.structs.replace(plan, edges=(msgspec.structs.replace(plan.edges[0], policy=policy),))


class Bench:
    def __init__(self, policy="drop_new"):
        self.observer = Told()
        self.watch = EdgeWatch(plan_of(policy), self.observer)

    def look(self, at_s, dropped, waiting=0):
        """Nodes a and b as their pages say."""
        pages = {
            "a": NodeStatus(**BLANK, edges={0: EdgeCounters(dropped=dropped)}),
            "b": NodeStatus(**BLANK, edges={0: EdgeCounters(waiting=waiting)}),
        }
        self.watch.look(pages, round(at_s * S))
        return self.observer.told


EDGE = "a.out->b.in"
BEGINS = ("dropping", EDGE, "drop_new")


def test_an_episode_is_told_when_it_begins_and_with_its_count_when_it_is_over():
    bench = Bench()
    for second in range(100):
        bench.look(second, dropped=7 * second)
    assert bench.observer.told == [BEGINS]
    assert bench.look(99 + CALM_S - 0.1, dropped=693) == [BEGINS]
    assert bench.look(99 + CALM_S, dropped=693) == [BEGINS, ("flowing", EDGE, 693)]
    assert bench.look(200, dropped=700)[2:] == [BEGINS]
    assert bench.look(300, dropped=700)[3:] == [("flowing", EDGE, 7)]


def test_a_full_edge_is_not_over_it():
    # The next packet would be dropped: what is told as over would begin again at once.
    bench = Bench()
    bench.look(0, dropped=1, waiting=2)
    assert bench.look(1000, dropped=1, waiting=2) == [BEGINS]
    assert bench.look(1001, dropped=1, waiting=1) == [BEGINS, ("flowing", EDGE, 1)]


@pytest.mark.parametrize("policy", ["block", "sample"])
def test_an_edge_that_never_drops_or_always_does_is_no_news(policy):
    bench = Bench(policy)
    assert [bench.look(second, dropped=second) for second in range(5)][-1] == []


def test_nothing_is_told_of_a_node_that_has_no_page_yet():
    bench = Bench()
    bench.watch.look({}, S)
    assert bench.observer.told == []


@pytest.mark.parametrize("takes_every_s", [0, 3, 30])
def test_events_about_an_edge_that_carries_the_events_come_to_rest(takes_every_s):
    # What core.health gives travels on edges that may drop it, which is an event. It must not go round for ever.
    bench, dropped, waiting, given = Bench(), 5, 2, 0
    for second in range(10_000):
        if takes_every_s and second % takes_every_s == 0:
            waiting = max(0, waiting - 1)
        bench.look(second, dropped, waiting)
        while given < len(bench.observer.told):
            given += 1
            if waiting < 2:
                waiting += 1
            else:
                dropped += 1
    expected = 1 if not takes_every_s else 2
    assert len(bench.observer.told) == expected
