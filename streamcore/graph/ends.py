"""Do the two ports of an edge fit: kind, payload, and how the consumer carries on what it is given. Pure."""

from __future__ import annotations

from streamcore.graph.wiring import Graph, WiredEdge
from streamcore.node.api import Port, takes_arrays
from streamcore.packet import Array, Profile, carrier_of, profile_accepts, profile_differs
from streamcore.spec.model import Where

_DOES = {"durable": "stores its packets", "network": "sends its packets away"}
_WORDS = {"array": "arrays", "json": "JSON", "bytes": "bytes"}


def check_ends(graph: Graph, edge: WiredEdge, where: Where) -> None:
    """Add the first thing in which the producer's port differs from what the consumer's takes; both are named."""
    ports = edge.ports()
    if ports is None:
        return
    out, into = ports
    gives = f"{'.'.join(graph.fed.get(edge.producer.spec.id, (edge.producer.spec.id, edge.from_port)))} gives {carries(out)}"
    takes = f"{edge.consumer.spec.id}.{edge.to_port} takes {carries(into)}"
    if out.kind != into.kind and "any" not in (out.kind, into.kind):
        graph.problems.add(where, gives, f"{takes}: the kinds differ")
    elif found := profile_differs(into.profile, out.profile):
        graph.problems.add(where, gives, f"{takes}: the payloads differ ({found})", _converter(graph, out.profile, into.profile))
    elif isinstance(out.profile, Array) and not takes_arrays(into, edge.consumer.config):
        does = f"{edge.consumer.spec.id}.{edge.to_port} {_DOES[into.transport]}: JSON and bytes, arrays only with a codec"
        graph.problems.add(where, gives, does, _codec(graph, edge, out.profile))


def carries(port: Port) -> str:
    return f"kind '{port.kind}' as {port.profile}"


def _codec(graph: Graph, edge: WiredEdge, offered: Profile) -> str:
    manifest = edge.consumer.manifest
    hidden = edge.consumer.spec.hidden
    if hidden:
        return f"name one at the edge: {hidden}: {{codec: raw}}, or png, jpeg"
    if manifest is not None and "codec" in manifest.config:
        return f"name a codec in the config of '{edge.consumer.spec.id}'"
    return _converter(graph, offered, "json") or _converter(graph, offered, "bytes")


def _converter(graph: Graph, offered: Profile, wanted: Profile) -> str:
    """Which node makes one of the other: one of this spec if there is one."""
    if carrier_of(offered) == carrier_of(wanted):
        return ""
    for node_id, node in graph.nodes.items():
        inputs, outputs = (node.manifest.inputs, node.manifest.outputs) if node.manifest else ({}, {})
        into = [name for name, port in inputs.items() if port.profile != "any" and profile_accepts(port.profile, offered)]
        out = [name for name, port in outputs.items() if port.profile != "any" and profile_accepts(wanted, port.profile)]
        if into and out:
            return f"put a node between; {node_id}.{into[0]} takes the one and {node_id}.{out[0]} gives the other"
    example = ", as vision.motion does" if (carrier_of(offered), carrier_of(wanted)) == ("array", "json") else ""
    return f"put a node between that makes {_WORDS[carrier_of(wanted)]} of {_WORDS[carrier_of(offered)]}{example}"
