"""Order and cycles of a directed graph, without recursion: a chain of 100,000 nodes is as good as one of three."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def topological(successors: Mapping[Key, Sequence[Key]]) -> list[Key]:
    """Producers before their consumers, otherwise in the order given. Members of cycles, and what follows from them, are left out.

    Kahn's algorithm.
    """
    waiting = dict.fromkeys(successors, 0)
    for targets in successors.values():
        for target in targets:
            waiting[target] += 1
    ready = deque(key for key, count in waiting.items() if count == 0)
    order = []
    while ready:
        key = ready.popleft()
        order.append(key)
        for target in successors[key]:
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    return order


def cycles(successors: Mapping[Key, Sequence[Key]]) -> list[list[Key]]:
    """One shortest cycle of every knot of cycles, each as its members in order; [] if there is none."""
    rank = {key: index for index, key in enumerate(successors)}
    found = []
    for group in knots(successors):
        start = min(group, key=rank.__getitem__)
        if len(group) > 1 or start in successors[start]:
            found.append(_shortest_cycle(start, set(group), successors))
    return found


def knots(successors: Mapping[Key, Sequence[Key]]) -> list[list[Key]]:
    """Strongly connected components, those of a single node included: Tarjan's algorithm with an explicit stack."""
    index: dict[Key, int] = {}
    low: dict[Key, int] = {}
    on_path: dict[Key, None] = {}
    groups = []
    for root in successors:
        if root in index:
            continue
        work = [(root, iter(successors[root]))]
        index[root] = low[root] = len(index)
        on_path[root] = None
        while work:
            key, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    on_path[target] = None
                    work.append((target, iter(successors[target])))
                    break
                if target in on_path:
                    low[key] = min(low[key], index[target])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[key])
                if low[key] == index[key]:
                    group: list[Key] = []
                    while not group or group[-1] != key:
                        group.append(on_path.popitem()[0])
                    groups.append(group)
    return groups


def _shortest_cycle(start: Key, members: set[Key], successors: Mapping[Key, Sequence[Key]]) -> list[Key]:
    """Breadth first from `start`, within a knot, until it is met again."""
    came_from: dict[Key, Key] = {}
    queue = deque([start])
    while queue:
        key = queue.popleft()
        for target in successors[key]:
            if target == start:
                path = [key]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if target in members and target not in came_from:
                came_from[target] = key
                queue.append(target)
    raise AssertionError(f"{start!r} is in no cycle")  # not reached: every member of a knot is
