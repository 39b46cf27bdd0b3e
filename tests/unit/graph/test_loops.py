"""Cycles: which are allowed, and how a stream ends in one. Small random graphs against what the words mean."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import pytest

from streamcore.graph.loops import DROPPING, check_cycles, feedback_edges, producers_first
from streamcore.graph.plan import make_plan
from streamcore.graph.wiring import Graph, wire
from streamcore.manifest import Manifest
from streamcore.spec.model import EdgeSpec, NodeSpec, Spec

PATIENCE = 4  # packets that a source of the credit simulation gives


def manifests() -> dict[str, Manifest]:
    import graph_plugins as plugins  # the fixture of this folder puts it where it can be found

    return {name: Manifest.of(cls) for name, cls in (("source", plugins.Camera), ("node", plugins.Anything), ("later", plugins.Later))}


def wired(nodes: dict[str, str], edges: list[tuple[str, str, str]]) -> Graph:
    """Nodes by id with their plugin; edges as (from, to, policy)."""
    specs = tuple(NodeSpec(node_id, plugin) for node_id, plugin in nodes.items())
    rate = {"sample": 10.0}
    return wire(Spec("x.yaml", "x", specs, tuple(EdgeSpec(a, b, policy, rate=rate.get(policy)) for a, b, policy in edges)), manifests())


def problems(graph: Graph) -> list[str]:
    check_cycles(graph)
    return [problem.found for problem in graph.problems.listed()]


def random_graph(chance: random.Random) -> Graph:
    count = chance.randrange(1, 6)
    nodes = {"s": "source"} | {f"n{i}": chance.choice(["node", "later"]) for i in range(count)}
    pairs = {(chance.choice(list(nodes)), f"n{chance.randrange(count)}") for _ in range(chance.randrange(1, 2 * count + 2))}
    return wired(nodes, [(*pair, chance.choice(["block", "block", "latest", "drop_new"])) for pair in sorted(pairs)])


def simple_cycles(graph: Graph) -> Iterator[list[int]]:
    """All cycles that meet no node twice, as edge indexes: the definition, not an algorithm."""
    ends = [(edge.producer.spec.id, edge.consumer.spec.id) for edge in graph.edges]

    def walk(start: str, path: list[int], seen: set[str]) -> Iterator[list[int]]:
        here = ends[path[-1]][1] if path else start
        for index, (producer, consumer) in enumerate(ends):
            if producer == here and consumer == start:
                yield [*path, index]
            elif producer == here and consumer not in seen and consumer > start:
                yield from walk(start, [*path, index], seen | {consumer})

    for node_id in graph.nodes:
        yield from walk(node_id, [], {node_id})


def is_way_out(graph: Graph, index: int) -> bool:
    edge = graph.edges[index]
    return edge.producer.spec.plugin == "later" and edge.spec.policy in DROPPING


def reached(graph: Graph, edges: set[int]) -> set[str]:
    found, todo = {"s"}, ["s"]
    while todo:
        here = todo.pop()
        for index in edges:
            edge = graph.edges[index]
            if edge.producer.spec.id == here and edge.consumer.spec.id not in found:
                found.add(edge.consumer.spec.id)
                todo.append(edge.consumer.spec.id)
    return found


def test_a_cycle_that_something_feeds_is_allowed_exactly_if_it_has_a_way_out():
    chance, seen = random.Random(20261126), {True: 0, False: 0}
    for _ in range(2000):
        graph = random_graph(chance)
        loops = list(simple_cycles(graph))
        fed = reached(graph, set(range(len(graph.edges))))
        unfed = any(graph.edges[index].consumer.spec.id not in fed for loop in loops for index in loop)
        allowed = all(any(is_way_out(graph, index) for index in loop) for loop in loops)
        found = problems(graph)
        if loops and not unfed:
            assert bool(found) is not allowed
            seen[allowed] += 1
    assert min(seen.values()) > 100  # both kinds were met often


def test_the_end_of_the_stream_runs_through_every_allowed_graph():
    chance, met = random.Random(7), 0
    for _ in range(4000):
        graph = random_graph(chance)
        everything = set(range(len(graph.edges)))
        if reached(graph, everything) != set(graph.nodes) or problems(graph):
            continue
        feedback = feedback_edges(graph)
        in_a_loop = {index for loop in simple_cycles(graph) for index in loop}
        assert feedback <= in_a_loop  # nothing else is ended early
        met += bool(feedback)
        ended: set[str] = set()
        while True:  # END goes on from whoever has ended
            waits = {graph.edges[i].consumer.spec.id for i in everything - feedback if graph.edges[i].producer.spec.id not in ended}
            if set(graph.nodes) - waits == ended:
                break
            ended = set(graph.nodes) - waits
        assert ended == set(graph.nodes)
        assert all(any(graph.edges[i].consumer.spec.id == node for i in everything - feedback) for node in graph.nodes if node != "s")
        # What comes from a source without passing a way out is never cut off.
        plain = {index for index in everything if not is_way_out(graph, index)}
        early = reached(graph, plain)
        assert not {i for i in plain & feedback if graph.edges[i].producer.spec.id in early}
    assert met > 100


def test_an_allowed_graph_never_stands_still_while_packets_wait():
    # Edges of one packet, every node gives one packet for one on each of its edges: the tightest that a plan could be.
    chance, met = random.Random(11), 0
    for _ in range(1500):
        graph = random_graph(chance)
        if reached(graph, set(range(len(graph.edges)))) != set(graph.nodes) or problems(graph):
            continue
        met += any(True for _ in simple_cycles(graph))
        _run_credits(graph, chance)
    assert met > 40


def _run_credits(graph: Graph, chance: random.Random) -> None:
    """A few hundred random steps; after each, somebody can move or nothing is under way."""
    outgoing = {node: [i for i, edge in enumerate(graph.edges) if edge.producer.spec.id == node] for node in graph.nodes}
    incoming = {node: [i for i, edge in enumerate(graph.edges) if edge.consumer.spec.id == node] for node in graph.nodes}
    queues: list[deque[int]] = [deque() for _ in graph.edges]
    owed: dict[str, list[int]] = {node: [] for node in graph.nodes}  # edges on which a node still has to send what it works on
    left = PATIENCE
    for _ in range(300):
        moves = []
        for node in graph.nodes:
            if owed[node]:
                index = owed[node][0]
                if not queues[index] or graph.edges[index].spec.policy != "block":
                    moves.append((node, -1))
            elif node == "s" and left:
                moves.append((node, -2))
            else:
                moves += [(node, index) for index in incoming[node] if queues[index]]
        if not moves:
            assert not any(queues), "packets wait and nobody can move"
            assert not any(owed.values()), "a node waits for credit for ever"
            return
        node, what = chance.choice(moves)
        if what == -1:
            index = owed[node].pop(0)
            if not queues[index]:
                queues[index].append(1)
        else:
            left -= what == -2
            if what >= 0:
                queues[what].popleft()
            owed[node] = list(outgoing[node])


@pytest.mark.parametrize(
    ("edges", "feedback"),
    [
        # Fed at `a`; `b` leads back by a delay.
        ([("s", "a", "block"), ("a", "b", "block"), ("b", "d", "block"), ("d", "a", "latest")], {3}),
        # A node behind the delay that only the delay feeds is still waited for; what it sends on is not.
        ([("s", "a", "block"), ("a", "d", "block"), ("d", "b", "latest"), ("b", "a", "block")], {3}),
        # Fed at the delay itself.
        ([("s", "d", "block"), ("d", "a", "latest"), ("a", "d", "block")], {2}),
        # Two entries: the edge from one to the other carries the stream, not only what comes round.
        ([("s", "a", "block"), ("s", "b", "block"), ("a", "b", "block"), ("b", "d", "block"), ("d", "a", "drop_new")], {4}),
        # A sink behind the delay waits for all of it.
        ([("s", "a", "block"), ("a", "d", "block"), ("d", "a", "latest"), ("d", "b", "block"), ("a", "b", "block")], {2}),
    ],
)
def test_the_edges_for_whose_end_nobody_waits(edges, feedback):
    graph = wired({"s": "source", "a": "node", "b": "node", "d": "later"}, edges)
    assert problems(graph) == []
    assert feedback_edges(graph) == feedback


def test_a_plan_names_them_and_keeps_memory_for_no_round():
    edges = [("s", "a", "block"), ("a", "b", "block"), ("b", "d", "block"), ("d", "a", "latest")]
    nodes = {"s": "source", "a": "node", "b": "node", "d": "later"}
    graph = wired(nodes, edges)
    order = [node.spec.id for node in producers_first(graph)]
    assert order.index("d") < order.index("a") < order.index("b")
    plan = make_plan(graph.spec, manifests())
    assert [edge.feedback for edge in plan.edges] == [False, False, False, True]
    # b holds its input until d has taken it, and a until b's is completed: d copies, so that is all.
    assert [edge.window for edge in plan.edges] == [27, 18, 9, 20]
    rings = {ring.port: ring.id for ring in plan.rings}
    assert plan.node("d").reads == tuple(sorted(rings[port] for port in ("s.out", "a.out", "b.out", "d.out")))


def test_a_plugin_that_is_not_known_is_not_blamed_for_its_cycle():
    graph = wired({"s": "source", "a": "node", "x": "missing"}, [("s", "a", "block"), ("a", "x", "block"), ("x", "a", "block")])
    assert problems(graph) == ["'missing'"]


def test_a_hopeless_tangle_is_told_in_a_few_problems():
    names = [f"n{i}" for i in range(60)]
    nodes = {"s": "source"} | dict.fromkeys(names, "node")
    graph = wired(nodes, [("s", "n0", "block"), *((a, b, "block") for a in names for b in names)])
    assert 1 <= len(problems(graph)) <= 100
