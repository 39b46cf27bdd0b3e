"""Edges that bring a node with them: `outbox`, and the policy `spill`. Each becomes two edges with a hidden node between. Pure.

The hidden node is planned, started, supervised and shown by `ps` like any other; only who wrote the spec has not drawn it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamcore.spec.expand import heads
from streamcore.spec.model import HIDDEN_PLUGINS, OUTBOX, SPILL, EdgeSpec, NodeSpec, Place, Spec, Where


def reveal(spec: Spec, run: str | None = None) -> Spec:
    """The spec with its hidden nodes, behind all others. Of a spec that has none (any more) nothing is changed.

    An edge whose consumer does not exist is left as it is: that is reported, and nothing follows from the rest.

    Args:
      run: name of the run, by which stores without a `path` are told apart; by default the spec's name.
    """
    if not any(brings(edge) for edge in spec.edges):
        return spec
    ids = {node.id: node for node in spec.nodes}
    taken = {*ids, *(end for edge in spec.edges for end in (edge.from_, edge.to))}
    nodes = [replace(node, where=node.where or ("nodes", index)) for index, node in enumerate(spec.nodes)]
    edges: list[EdgeSpec] = []
    moved: dict[Where, Where] = {}
    for index, written in enumerate(spec.edges):
        edge = replace(written, where=written.where or ("edges", index))
        kind, consumer = brings(edge), next(iter(heads(edge.to, ids)), "")
        if not kind or not consumer:
            edges.append(edge)
            continue
        node = _hidden_node(edge, kind, _free(f"{consumer}.{kind}", taken), run or spec.name)
        config: Where = (*node.where, "config")
        moved[config] = node.where
        nodes.append(node)
        edges += [
            EdgeSpec(edge.from_, f"{node.id}.in", where=edge.where, written=edge),
            EdgeSpec(f"{node.id}.out", edge.to, depth=edge.depth, where=edge.where, written=edge),
        ]
    return replace(spec, nodes=tuple(nodes), edges=tuple(edges), places=_moved(spec.places, moved))


def brings(edge: EdgeSpec) -> str:
    """Which hidden node an edge as it is written asks for: outbox, spill or none, ""."""
    return OUTBOX if edge.outbox is not None else SPILL if edge.policy == SPILL else ""


def _hidden_node(edge: EdgeSpec, kind: str, node_id: str, run: str) -> NodeSpec:
    options: Mapping[str, Any] = (edge.outbox if kind == OUTBOX else edge.spill) or {}
    config = {"path": os.path.join(_state_folder(), run, f"{edge.from_}--{edge.to}"), **options}
    return NodeSpec(node_id, HIDDEN_PLUGINS[kind], config, where=(*edge.where, kind), hidden=kind)


def _state_folder() -> str:
    place = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(place if os.path.isabs(place) else os.path.expanduser("~/.local/state"), "streamcore")


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    taken.add(name)
    return name


def _moved(places: Place, moved: Mapping[Where, Where]) -> Place:
    """The same places, by whose root the config of a hidden node is found where the edge has it."""
    root = Place(places.line, places.column)
    root.file, root.key, root.written, root.children = places.file, places.key, places.written, places.children
    root.moved = {**places.moved, **moved}
    return root
