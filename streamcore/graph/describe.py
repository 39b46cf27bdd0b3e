"""A plan as people read it: every number with the terms it is the sum of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamcore.graph.fit import Box, Room
from streamcore.graph.model import EdgePlan, NodePlan, Plan, RingPlan, Term
from streamcore.graph.needs import Needs, RingNeed
from streamcore.spec.scalars import size_text


def describe(plan: Plan) -> list[str]:
    """Lines for `streamctl plan`: processes, edges, rings."""
    lines = [f"graph {plan.graph} {plan.graph_version}, run {plan.run}", "", f"processes ({len(plan.nodes)}, in the order of their start)"]
    width = max(len(node.id) for node in plan.nodes)
    by_id = {node.id: node for node in plan.nodes}
    for node_id in plan.start_order:
        lines += _node(by_id[node_id], plan, width)
    lines += ["", f"edges ({len(plan.edges)})"]
    for edge in plan.edges:
        lines += _edge(edge)
    lines += ["", f"rings ({len(plan.rings)}, one for each output port)"]
    for ring in plan.rings:
        lines += _ring(ring)
    return lines


def describe_needs(needs: Needs, box: Box) -> list[str]:
    """Lines for `streamctl plan`: memory of each node and ring and in all, other things that a box has few of, and what it has."""
    width = max(len(node.id) for node in needs.nodes)
    lines = ["memory (private: measured of nodes without OpenCV; what a plugin imports and keeps comes on top)"]
    for node in needs.nodes:
        lines.append(f"  {node.id:<{width}}  private {size_text(node.private)}")
        lines += [f"  {'':<{width}}  ring {ring.port}: {_ring_need(ring)}" for ring in node.rings]
    lines += [
        f"  in all: private {size_text(needs.private)}, {size_text(needs.own)} of it for streamctl's own processes; rings "
        f"{size_text(needs.certain)} at once, at most {size_text(needs.most)}. A slot that no packet has touched takes none.",
        f"  available: {_rooms(box.memory, size_text)}",
        "",
        f"processes: {needs.processes}, with their threads about {needs.tasks}; room for {_rooms(box.tasks, str)}",
        f"open files of the coordinator: at most {needs.descriptors}; allowed are {_rooms(box.descriptors, str)}",
    ]
    return lines


def _ring_need(ring: RingNeed) -> str:
    most = f"at most {size_text(ring.most)} = {size_text(ring.bare)} for metadata + {ring.slots} x {size_text(ring.slot_bytes)}"
    if ring.payload is None or ring.declared is None:
        return most
    return f"{most}; with declared payloads of {size_text(ring.payload)}: {size_text(ring.declared)}"


def _rooms(rooms: Iterable[Room], shown: Callable[[int], str]) -> str:
    return ", ".join(f"{shown(room.left)} ({room.whose})" for room in rooms) or "any number"


def _sum(total: int, terms: Iterable[Term]) -> str:
    return f"{total} = {' + '.join(f'{term.name} {term.value}' for term in terms)}"


def _node(node: NodePlan, plan: Plan, width: int) -> list[str]:
    ports = ", ".join(plan.rings[ring].port for ring in node.reads) or "none"
    batch = f", batches of up to {node.batch_max}" if node.batch_max > 1 else ""
    held = f", retains {node.retention}" if node.retention else ""
    held += f", hidden: the {node.hidden} of an edge, in {node.config['path']}" if node.hidden else ""
    return [
        f"  {node.id:<{width}}  {node.role:<6}  {node.plugin} ({node.target}){batch}{held}",
        f"  {'':<{width}}  inbox RUN_DIR/{node.id}.1; reads rings: {ports}",
        f"  {'':<{width}}  {_care(node)}",
    ]


def _care(node: NodePlan) -> str:
    """What becomes of a node that ends, hangs, grows or fails."""
    restart = node.restart
    parts = ["never restarted"]
    if restart.policy != "never":
        then = "the run stops" if restart.on_give_up == "stop_run" else "goes on without it"
        when = "always" if restart.policy == "always" else "on failure"
        parts = [f"restarted {when}, at most {restart.max_restarts} times in {restart.window_s:g} s, then {then}"]
    parts.append(f"hung after {node.progress_s:g} s" if node.progress_s else "may take as long as it takes")
    if node.role != "source":
        retried = f"is tried {node.retries} times more, then fails" if node.retries else "fails"
        parts.append("an exception stops it" if node.on_error == "stop" else f"a packet that raises {retried}")
        parts.append(f"one that kills it {node.poison_limit} times fails" if node.poison_limit else "one that kills it is tried again")
    if node.rss_bytes_max:
        parts.append(f"{'restarted' if node.on_exceed == 'restart' else 'warned of'} above {size_text(node.rss_bytes_max)}")
    return "; ".join(parts)


def _edge(edge: EdgePlan) -> list[str]:
    extra = f", {edge.rate:g} packets/s" if edge.policy == "sample" else f", keeps {edge.kept}" if edge.kept else ""
    completion = "" if edge.completion == "hop" else f", completion {edge.completion}"
    completion += ", feedback" if edge.feedback else ""
    return [
        f"  {edge.from_node}.{edge.from_port} -> {edge.to_node}.{edge.to_port}  {edge.policy}, depth {edge.depth}{extra}{completion}",
        f"      window {_sum(edge.window, edge.window_terms)}",
    ]


def _ring(ring: RingPlan) -> list[str]:
    return [
        f"  {ring.port}  slots of up to {size_text(ring.slot_bytes)}, metadata of up to {size_text(ring.meta_bytes)}",
        f"      slots {_sum(ring.slot_count, ring.slot_terms)}",
    ]
