"""Behind a durable queue every edge completes on delivery, so that the queue acknowledges what the sinks have really done."""

from __future__ import annotations

import dataclasses

from streamcore.graph.wiring import Graph, WiredEdge, WiredNode


def plan_delivery(graph: Graph) -> None:
    """Make them `completion: delivered`."""
    for edge in edges_delivered(graph):
        edge.spec = dataclasses.replace(edge.spec, completion="delivered")


def edges_delivered(graph: Graph) -> list[WiredEdge]:
    """All edges that a node which stores its input leads to, up to the next such node.

    It ends where copies begin a life of their own, at nodes that break cycles: through them a packet could wait for itself.
    """
    found: list[WiredEdge] = []
    outgoing: dict[str, list[WiredEdge]] = {}
    for edge in graph.edges:
        outgoing.setdefault(edge.producer.spec.id, []).append(edge)
    to_do = [node_id for node_id, node in graph.nodes.items() if _stores(node)]
    seen = set(to_do)
    while to_do:
        for edge in outgoing.get(to_do.pop(), ()):
            consumer = edge.consumer
            if consumer.manifest is None or consumer.manifest.breaks_cycles or _stores(consumer):
                continue
            found.append(edge)
            if consumer.spec.id not in seen:
                seen.add(consumer.spec.id)
                to_do.append(consumer.spec.id)
    return found


def _stores(node: WiredNode) -> bool:
    """Its inputs are completed once they are on the disk; what it emits is derived from none of them."""
    manifest = node.manifest
    return manifest is not None and bool(manifest.outputs) and any(port.transport == "durable" for port in manifest.inputs.values())
