"""Every check of a spec that needs its plugins' manifests but no running process. Pure: problems out, nothing raised."""

from __future__ import annotations

import os
from collections.abc import Mapping

from streamcore import limits
from streamcore.errors import Problem
from streamcore.graph.delivery import edges_delivered
from streamcore.graph.ends import carries, check_ends
from streamcore.graph.loops import check_cycles
from streamcore.graph.model import RestartPlan
from streamcore.graph.wiring import Graph, Manifests, WiredEdge, WiredNode, wire
from streamcore.packet import carrier_of
from streamcore.plugins.configs import Checked
from streamcore.plugins.naming import is_package
from streamcore.plugins.policy import A_PACKAGE
from streamcore.spec.model import COMPLETIONS, OUTBOX, POLICIES, SPILL, Spec, Where
from streamcore.spec.problems import names, show


def validate(spec: Spec, manifests: Manifests | None, checked: Mapping[int, Checked] = {}) -> list[Problem]:
    """All problems of a spec, in the order of the file; see `wire`."""
    return check(wire(spec, manifests, checked))


def check(graph: Graph) -> list[Problem]:
    """The problems of a wired spec, those found by wiring included."""
    _check_allow(graph)
    for index, edge in enumerate(graph.edges):
        where = edge.spec.where or ("edges", index)
        if not edge.producer.spec.hidden:
            _check_policy(graph, edge, where)
            _check_hidden(graph, edge, where)
        elif edge.producer.spec.hidden == OUTBOX:
            _check_outbox(graph, edge, (*where, OUTBOX))
        check_ends(graph, edge, where)
    for index, node in enumerate(graph.nodes.values()):
        where = node.spec.where or ("nodes", index)
        _check_numbers(graph, node, where)
        _check_backoff(graph, node, (*where, "restart"))
    check_cycles(graph)
    _check_stores(graph)
    _check_claims(graph)
    if not graph.loose:
        _check_connected(graph)
    return graph.problems.listed()


def _check_allow(graph: Graph) -> None:
    for index, package in enumerate(graph.spec.allow):
        if not is_package(package):
            graph.problems.add(("allow", index), show(package), A_PACKAGE)


def _check_policy(graph: Graph, edge: WiredEdge, where: Where) -> None:
    spec, problems = edge.spec.written or edge.spec, graph.problems
    if spec.policy not in POLICIES:
        problems.add((*where, "policy"), show(spec.policy), f"one of: {names(POLICIES)}", near=(spec.policy, POLICIES))
    if spec.completion not in COMPLETIONS:
        problems.add((*where, "completion"), show(spec.completion), f"one of: {names(COMPLETIONS)}")
    if spec.depth is not None and not 1 <= spec.depth <= limits.DEPTH_MAX:
        problems.add((*where, "depth"), show(spec.depth), f"an integer from 1 to {limits.DEPTH_MAX}")
    if problems.is_bad((*where, "policy")):
        return  # its depth and rate may be right for the one that was meant
    if spec.policy == "latest" and spec.depth not in (None, 1):
        found, hint = f"{spec.depth} with policy latest", "use drop_oldest to keep more"
        problems.add((*where, "depth"), found, "no depth: latest keeps one packet", hint)
    if spec.policy == "sample" and spec.rate is None:
        problems.add((*where, "rate"), "nothing", "packets per second that pass, as policy sample needs")
    if spec.policy != "sample" and spec.rate is not None:
        problems.add((*where, "rate"), f"{spec.rate:g} with policy {spec.policy}", "a rate only with policy sample")


def _check_hidden(graph: Graph, edge: WiredEdge, where: Where) -> None:
    """What `outbox` and `spill` go together with. Both halves of such an edge are planned as `block`."""
    spec, add = edge.spec.written or edge.spec, graph.problems.add
    hidden = edge.consumer.spec.hidden
    if hidden == OUTBOX and spec.policy != "block":
        add((*where, "policy"), f"{spec.policy} with an outbox", "block: an outbox takes what comes, and its `full` says what if it cannot")
    if hidden and spec.completion != "hop":
        add((*where, "completion"), f"{spec.completion} with {hidden}", "hop: a packet is completed when the disk has it")
    if spec.spill is not None and spec.policy != SPILL:
        add((*where, "spill"), f"spill with policy {spec.policy}", "spill only with policy spill")


def _check_outbox(graph: Graph, edge: WiredEdge, where: Where) -> None:
    consumer = edge.consumer
    if consumer.manifest is not None and consumer.manifest.outputs:
        found = f"an outbox for '{consumer.spec.id}', which has outputs"
        expected = "a consumer without outputs: what is behind an outbox completes on delivery, down to the last sink"
        graph.problems.add(where, found, expected, "draw it: a node with plugin durable.queue; or use policy spill")


def _check_stores(graph: Graph) -> None:
    """Each store has a folder of its own, and nothing spills behind a queue: it would acknowledge what no sink has delivered."""
    if not any(node.spec.hidden for node in graph.nodes.values()):
        return
    folders: dict[str, str] = {}
    for edge in edges_delivered(graph):
        if edge.consumer.spec.hidden == SPILL:
            found, expected = "spill behind a durable queue", "block: what waits in the queue is on the disk already"
            graph.problems.add((*edge.spec.where, "policy"), found, expected)
    for node in graph.nodes.values():
        folder = node.config.get("path")
        if not node.spec.hidden or not isinstance(folder, str):
            continue
        first = folders.setdefault(os.path.realpath(os.path.expanduser(folder)), node.spec.id)
        if first != node.spec.id:
            found = f"{show(folder)}, which is that of {first} too"
            graph.problems.add((*node.spec.where, "config", "path"), found, "a folder for each edge", "leave `path` out: each gets its own")


def _check_numbers(graph: Graph, node: WiredNode, where: Where) -> None:
    """retention and batch_max, where a config key holds them."""
    if node.manifest is None:
        return
    for attribute, least in (("retention", 0), ("batch_max", 1)):
        key = getattr(node.manifest, attribute)
        if not isinstance(key, str) or graph.problems.is_bad((*where, "config", key)) or graph.problems.is_bad((*where, "plugin")):
            continue
        value = node.config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            graph.problems.add((*where, "config", key), show(value), f"an integer of at least {least}: it is the node's {attribute}")


def _check_backoff(graph: Graph, node: WiredNode, where: Where) -> None:
    asked, defaults = node.spec.care.restart, RestartPlan()
    first_s = defaults.backoff_s if asked.backoff_s is None else asked.backoff_s
    most_s = defaults.backoff_max_s if asked.backoff_max_s is None else asked.backoff_max_s
    if first_s > most_s:
        key = "backoff_max_s" if asked.backoff_s is None else "backoff_s"
        bound = f"at least backoff_s, {first_s:g}" if asked.backoff_s is None else f"at most backoff_max_s, {most_s:g}"
        graph.problems.add((*where, key), f"{getattr(asked, key):g}", f"a number, {bound}")


def _check_claims(graph: Graph) -> None:
    """What a sub-graph says of its ports, against the ports behind them."""
    for claim, port in graph.shown:
        what = f"{claim.end}, which is {carries(port)}"
        if claim.kind and claim.kind != port.kind:
            graph.problems.add((*claim.where, "kind"), show(claim.kind), f"the kind of {what}")
        if claim.payload and claim.payload != carrier_of(port.profile):
            graph.problems.add((*claim.where, "payload"), show(claim.payload), f"the payload of {what}")


def _is_job(node: WiredNode) -> bool:
    """It has no ports: it runs to its end."""
    return node.manifest is not None and not node.manifest.inputs and not node.manifest.outputs


def _check_connected(graph: Graph) -> None:
    """Required inputs, and nodes that nothing connects."""
    fed = {(edge.consumer.spec.id, edge.to_port) for edge in graph.edges} | graph.open
    touched = {node_id for node_id, _ in graph.open} | {node.spec.id for edge in graph.edges for node in (edge.producer, edge.consumer)}
    for index, (node_id, node) in enumerate(graph.nodes.items()):
        where = node.spec.where or ("nodes", index)
        if node_id in graph.excused or (node.manifest is None and not graph.structure_only):
            continue
        inputs = node.manifest.inputs if node.manifest else {}
        missing = [name for name, port in inputs.items() if port.required and (node_id, name) not in fed]
        if missing:
            found = f"no edge to {names(f'{node_id}.{name}' for name in missing)}"
            graph.problems.add(where, found, "an edge to each required input")
        elif node_id not in touched and len(graph.nodes) > 1 and not _is_job(node):
            graph.problems.add(where, f"'{node_id}' without any edge", "an edge to or from it, or no such node")
