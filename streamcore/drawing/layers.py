"""Places for the nodes of a graph, in columns from left to right, and ways for its edges that run through no node.

As Sugiyama, Tagawa and Toda draw graphs: edges that lead back are turned around, each node stands right of all that feed it, an edge over
several columns gets a bend in each, and columns are sorted by the mean place of the neighbours until that helps no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12  # the order of columns settles after a few


@dataclass(frozen=True)
class Layout:
    """`places`: (column, row) of each node, rows in parts. `ways`: for each edge the places from its first node to its last.

    `back`: edges that lead back, whose ways have no bends. `columns`, `rows`: how much room all take.
    """

    places: dict[str, tuple[int, float]]
    ways: list[list[tuple[int, float]]]
    back: list[bool]
    columns: int
    rows: int


def lay_out(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Edges whose ends are not among the nodes must not be given."""
    back = _back_edges(nodes, edges)
    forward = [edge for edge, leads_back in zip(edges, back, strict=True) if not leads_back]
    column = _columns(nodes, forward)
    # (node, 0) is a node; (edge number, column) a bend of an edge.
    members: list[list[tuple[str | int, int]]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for node in nodes:
        members[column[node]].append((node, 0))
    chains: list[list[tuple[str | int, int]]] = []
    for number, (first, last) in enumerate(edges):
        bends: list[tuple[str | int, int]] = []
        if not back[number]:
            bends = [(number, at) for at in range(column[first] + 1, column[last])]
            for bend in bends:
                members[bend[1]].append(bend)
        chains.append([(first, 0), *bends, (last, 0)])
    _sort(members, [chain for chain, leads_back in zip(chains, back, strict=True) if not leads_back])
    rows = max(map(len, members), default=0)
    place = {member: (at, row + (rows - len(found)) / 2) for at, found in enumerate(members) for row, member in enumerate(found)}
    return Layout({node: place[node, 0] for node in nodes}, [[place[item] for item in chain] for chain in chains], back, len(members), rows)


def _back_edges(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[bool]:
    """Those that close a cycle when the graph is walked in the order of its nodes. Without recursion: a graph may be a long chain."""
    out: dict[str, list[int]] = {node: [] for node in nodes}
    for number, (first, _) in enumerate(edges):
        out[first].append(number)
    fed = {last for _, last in edges}
    open_nodes, done, back = set[str](), set[str](), [False] * len(edges)
    for root in [*(node for node in nodes if node not in fed), *nodes]:
        if root in done:
            continue
        open_nodes.add(root)
        stack = [(root, iter(out[root]))]
        while stack:
            node, numbers = stack[-1]
            number = next(numbers, -1)
            if number < 0:
                open_nodes.discard(node)
                done.add(node)
                stack.pop()
                continue
            last = edges[number][1]
            if last in open_nodes:
                back[number] = True
            elif last not in done:
                open_nodes.add(last)
                stack.append((last, iter(out[last])))
    return back


def _columns(nodes: Sequence[str], forward: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way from a node that nothing feeds."""
    column = dict.fromkeys(nodes, 0)
    missing = dict.fromkeys(nodes, 0)
    out: dict[str, list[str]] = {node: [] for node in nodes}
    for first, last in forward:
        missing[last] += 1
        out[first].append(last)
    ready = [node for node in nodes if not missing[node]]
    for node in ready:  # grows
        for last in out[node]:
            column[last] = column[node] + 1  # nodes come column by column, so the one that counts comes last
            missing[last] -= 1
            if not missing[last]:
                ready.append(last)
    return column


def _sort(members: list[list[tuple[str | int, int]]], chains: list[list[tuple[str | int, int]]]) -> None:
    """Order each column by where its neighbours stand, to the right and back again."""
    before: dict[tuple[str | int, int], list[tuple[str | int, int]]] = {}
    after: dict[tuple[str | int, int], list[tuple[str | int, int]]] = {}
    for chain in chains:
        for first, second in pairwise(chain):
            before.setdefault(second, []).append(first)
            after.setdefault(first, []).append(second)
    place: dict[tuple[str | int, int], float] = {}
    for column in members:
        _number(column, place)
    for sweep in range(SWEEPS):
        rightwards = sweep % 2 == 0
        neighbours = before if rightwards else after
        for column in members if rightwards else reversed(members):
            mean = {member: _mean([place[near] for near in neighbours.get(member, [member])]) for member in column}
            column.sort(key=mean.__getitem__)
            _number(column, place)


def _number(column: list[tuple[str | int, int]], place: dict[tuple[str | int, int], float]) -> None:
    """From 0 at the top to 1 at the bottom, so that columns of different lengths compare."""
    place.update((member, index / max(1, len(column) - 1)) for index, member in enumerate(column))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
