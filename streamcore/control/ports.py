"""Which output port of a live run is meant by NODE or NODE.port: looked up in the plan that `info` gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streamcore.errors import ConfigError
from streamcore.graph.model import RingPlan

NAMED_MAX = 40  # ports in one message


class OutputPort(NamedTuple):
    """`ring`: in whose slots its frames lie, unless it forwards them."""

    node: str
    name: str
    ring: RingPlan

    @property
    def full_name(self) -> str:
        return f"{self.node}.{self.name}"


def find(plan: Mapping[str, Any], wanted: str) -> OutputPort:
    """Raises ConfigError, which names the ports that could be meant."""
    nodes = {node["id"]: node for node in plan["nodes"]}
    node_id, _, name = (wanted, "", "") if wanted in nodes else wanted.rpartition(".")
    node = nodes.get(node_id)
    if node is None:
        raise ConfigError(f"port: found '{wanted}', expected one of: {_listed(names(plan))}")
    outputs = node["outputs"]
    if not outputs:
        raise ConfigError(_without_outputs(plan, node))
    if not name and len(outputs) > 1:
        raise ConfigError(f"node '{node_id}' has several output ports, say which: {_listed(f'{node_id}.{port}' for port in outputs)}")
    name = name or next(iter(outputs))
    if name not in outputs:
        fed = _feeding(plan, node_id, name)
        hint = f"; what reaches its input {name} leaves at {_listed(fed)}" if fed else ""
        raise ConfigError(f"node '{node_id}' has no output port '{name}', it has {_listed(outputs)}{hint}")
    return OutputPort(node_id, name, msgspec.convert(plan["rings"][outputs[name]], RingPlan))


def names(plan: Mapping[str, Any]) -> list[str]:
    """Of all output ports, in the order of the spec."""
    return [f"{node['id']}.{port}" for node in plan["nodes"] for port in node["outputs"]]


def _without_outputs(plan: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if not node["in_edges"]:
        there = names(plan)
        also = f"; the ports of this run: {_listed(there)}" if there else ", and this run has no other nodes that do"
        return f"node '{node['id']}' is a job and gives no packets{also}"
    return f"node '{node['id']}' is a sink and has no output port; what reaches it leaves at {_listed(_feeding(plan, node['id'], ''))}"


def _feeding(plan: Mapping[str, Any], node: str, port: str) -> list[str]:
    edges = (edge for edge in plan["edges"] if edge["to_node"] == node and port in ("", edge["to_port"]))
    return list(dict.fromkeys(f"{edge['from_node']}.{edge['from_port']}" for edge in edges))


def _listed(found: Any) -> str:
    words = list(found)
    more = f" and {len(words) - NAMED_MAX} more" if len(words) > NAMED_MAX else ""
    return ", ".join(words[:NAMED_MAX]) + more
