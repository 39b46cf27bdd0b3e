"""Cycles: which are allowed, and how a stream comes to its end in one. Pure.

    knot           nodes that reach each other: a strongly connected component with an edge in it
    loop edge      an edge between two nodes of a knot
    way out        a loop edge that leaves a node with `breaks_cycles` and drops when it is full, so that nobody waits for it
    feedback edge  a loop edge for whose END its consumer does not wait

A cycle is allowed if it has a way out. Then no ring of processes can wait for each other: take the ways out away and the graph has an
order. Nothing weaker is accepted: that a loop of `block` edges never fills needs a bound on what every node makes of a packet.

A knot ends from where it is fed. The level of a node is the least number of ways out between there and it, and END runs along the edges
that do not go back to a lower level: each node has one, and they form no cycle. The others are the feedback edges. docs/adr/0013 has
the proof.
"""

from __future__ import annotations

from collections import deque

from streamcore.graph.order import cycles, knots, topological
from streamcore.graph.wiring import Graph, WiredEdge, WiredNode
from streamcore.spec.model import Where
from streamcore.spec.problems import names

DROPPING = ("latest", "drop_oldest", "drop_new", "sample")
_CYCLE_SHOWN_MAX = 12  # nodes of a cycle that are named
_ROUNDS_MAX = 8  # of one knot: who has so many cycles to mend mends some first


def check_cycles(graph: Graph) -> None:
    """Add what is wrong with each cycle, at the edge that has to change."""
    inner = _loop_edges(graph)
    if not inner:
        return
    bad = _check_ways_out(graph, inner)
    for index in inner:
        edge = graph.edges[index]
        if _breaks(edge.consumer) and edge.spec.completion == "delivered":
            found = f"delivered into '{edge.consumer.spec.id}', by which the cycle leads back: packets would wait for themselves"
            graph.problems.add((*_where(graph, index), "completion"), found, "hop there")
    if not graph.loose:
        _check_fed(graph, inner, bad)


def _check_ways_out(graph: Graph, inner: list[int]) -> set[str]:
    """Report cycles without a way out until none is left, each as if those before it were mended. The nodes of those found."""
    left = [index for index in inner if not _is_way_out(graph.edges[index])]
    bad: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        successors: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
        for index in left:
            successors[graph.edges[index].producer.spec.id].append(graph.edges[index].consumer.spec.id)
        found = cycles(successors)
        for cycle in found:
            bad |= set(cycle)
            breaker = next((place for place, node in enumerate(cycle) if _breaks(graph.nodes[node])), None)
            last = len(cycle) - 1 if breaker is None else breaker
            ends = cycle[last], cycle[(last + 1) % len(cycle)]
            closing = next(index for index in left if _ends(graph.edges[index]) == ends)
            left.remove(closing)
            if all(graph.nodes[node].manifest for node in cycle):  # else nobody knows whether the cycle may pass there
                _report(graph, closing, cycle, breaks=breaker is not None)
        if not found:
            break
    return bad


def _report(graph: Graph, closing: int, cycle: list[str], *, breaks: bool) -> None:
    edge, where = graph.edges[closing], _where(graph, closing)
    shown = [*cycle, cycle[0]]
    if len(shown) > _CYCLE_SHOWN_MAX:
        half = _CYCLE_SHOWN_MAX // 2
        shown = [*shown[:half], f"({len(shown) - 2 * half} more)", *shown[-half:]]
    path, (producer, consumer) = " -> ".join(shown), _ends(edge)
    if breaks:
        found = f"{edge.spec.policy}, which waits when it is full, in the cycle {path}"
        hint = f"with {edge.spec.policy} all of them may wait for each other; latest gives '{consumer}' the freshest packet"
        graph.problems.add((*where, "policy"), found, f"one that drops, from '{producer}' into the cycle: {names(DROPPING)}", hint)
    else:
        hint = f"put flow.delay between '{producer}' and '{consumer}', with policy: latest on its edge to '{consumer}'"
        graph.problems.add(where, f"the cycle {path}", "a cycle only through flow.delay or flow.initial", hint)


def _check_fed(graph: Graph, inner: list[int], bad: set[str]) -> None:
    """A cycle into which no edge leads would never end, and never begin without flow.initial."""
    entries = set(_entries(graph, inner))
    for knot in knots(graph.successors()):
        touched = set(knot)
        closing = next((index for index in inner if _ends(graph.edges[index])[0] in touched), None)
        if closing is not None and not touched & (entries | bad | graph.excused):
            found = f"a cycle of {names(sorted(touched))} that nothing outside feeds"
            graph.problems.add(_where(graph, closing), found, "an edge into the cycle from a node that is not in it")


def feedback_edges(graph: Graph) -> frozenset[int]:
    """Indexes of the edges for whose END their consumers do not wait; of a graph without problems."""
    inner = _loop_edges(graph)
    level = dict.fromkeys(_entries(graph, inner), 0)
    outgoing: dict[str, list[int]] = {}
    for index in inner:
        outgoing.setdefault(_ends(graph.edges[index])[0], []).append(index)
    queue = deque(level)
    while queue:  # breadth first, where plain edges cost nothing and go first
        node = queue.popleft()
        for index in outgoing.get(node, ()):
            target, cost = _ends(graph.edges[index])[1], int(_is_way_out(graph.edges[index]))
            if target not in level or level[node] + cost < level[target]:
                level[target] = level[node] + cost
                (queue.append if cost else queue.appendleft)(target)
    edges = [(index, *_ends(graph.edges[index]), int(_is_way_out(graph.edges[index]))) for index in inner]
    return frozenset(index for index, producer, consumer, cost in edges if level[producer] + cost > level[consumer])


def producers_first(graph: Graph) -> list[WiredNode]:
    """An order for everything that follows payloads: they do not pass a node with `breaks_cycles`, so loop edges into one do not count."""
    cut = {index for index in _loop_edges(graph) if _breaks(graph.edges[index].consumer)}
    successors: dict[str, list[str]] = {node_id: [] for node_id in graph.nodes}
    for index, edge in enumerate(graph.edges):
        if index not in cut:
            successors[_ends(edge)[0]].append(_ends(edge)[1])
    return [graph.nodes[node_id] for node_id in topological(successors)]


def _loop_edges(graph: Graph) -> list[int]:
    knot_of = {node: number for number, knot in enumerate(knots(graph.successors())) for node in knot}
    return [index for index, edge in enumerate(graph.edges) if knot_of[_ends(edge)[0]] == knot_of[_ends(edge)[1]]]


def _entries(graph: Graph, inner: list[int]) -> list[str]:
    """The nodes of knots that an edge from outside leads to."""
    within, loop = {_ends(graph.edges[index])[1] for index in inner}, set(inner)
    outside = (_ends(edge)[1] for index, edge in enumerate(graph.edges) if index not in loop)
    return list(dict.fromkeys(node for node in outside if node in within))


def _ends(edge: WiredEdge) -> tuple[str, str]:
    return edge.producer.spec.id, edge.consumer.spec.id


def _breaks(node: WiredNode) -> bool:
    return node.manifest is not None and node.manifest.breaks_cycles


def _is_way_out(edge: WiredEdge) -> bool:
    return _breaks(edge.producer) and edge.spec.policy in DROPPING


def _where(graph: Graph, index: int) -> Where:
    return graph.edges[index].spec.where or ("edges", index)
