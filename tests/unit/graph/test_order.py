"""Order and cycles of large graphs."""

from __future__ import annotations

import random

from streamcore.graph.order import cycles, topological


def test_producers_come_before_their_consumers():
    graph = {"sink": [], "a": ["b", "c"], "b": ["sink"], "c": ["b"], "lone": []}
    order = topological(graph)
    assert sorted(order) == sorted(graph)
    for key, targets in graph.items():
        assert all(order.index(key) < order.index(target) for target in targets)


def test_a_graph_without_cycles_has_none():
    assert cycles({}) == []
    assert cycles({"a": ["b", "b"], "b": ["c"], "c": []}) == []


def test_a_cycle_is_given_as_its_shortest_path_from_its_first_member():
    assert cycles({"x": ["b"], "c": ["a"], "a": ["b"], "b": ["c"]}) == [["c", "a", "b"]]
    assert cycles({"a": ["b", "c"], "b": ["c"], "c": ["a"]}) == [["a", "c"]]
    assert cycles({"a": ["a"], "b": []}) == [["a"]]


def test_separate_knots_are_all_found():
    found = cycles({"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"], "e": ["e"]})
    assert sorted(map(sorted, found)) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_chain_of_100_000_nodes_is_no_problem_with_or_without_a_cycle():
    count = 100_000
    chain = {i: [i + 1] for i in range(count - 1)} | {count - 1: []}
    assert topological(chain) == list(range(count))
    assert cycles(chain) == []
    chain[count - 1] = [0]
    assert cycles(chain) == [list(range(count))]
    assert topological(chain) == []


def test_random_graphs_agree_with_the_definition():
    chance = random.Random(20261123)
    for _ in range(500):
        count = chance.randrange(1, 9)
        graph = {i: sorted({chance.randrange(count) for _ in range(chance.randrange(0, 3))}) for i in range(count)}
        found = cycles(graph)
        for cycle in found:
            assert len(set(cycle)) == len(cycle)
            for here, there in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                assert there in graph[here]
        reach = {i: _reachable(graph, i) for i in graph}
        knots = {frozenset(j for j in reach[i] if i in reach[j]) for i in graph if i in reach[i]}
        assert {next(knot for knot in knots if cycle[0] in knot) for cycle in found} == knots
        assert (len(topological(graph)) == count) == (not knots)


def _reachable(graph, start):
    seen, todo = set(), list(graph[start])
    while todo:
        key = todo.pop()
        if key not in seen:
            seen.add(key)
            todo += graph[key]
    return seen
