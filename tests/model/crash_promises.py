"""What must hold at the end of a run of the crash model, however many processes were killed in it."""

from __future__ import annotations

from typing import Any

from crash_process import Violation
from crash_world import World

from streamcore.graph.model import EdgePlan


def check_end(world: World) -> None:
    """Raises Violation for the first promise that was broken."""
    unfinished = set(world.graph.nodes) - world.done - world.gone
    if unfinished:
        where = [f"{name} {world.live[name].where}" if name in world.live else f"{name} down" for name in sorted(unfinished)]
        raise Violation(f"deadlock: {', '.join(where)}; {in_flight(world)}")
    strange = [line for line in world.logged if "ValueError: bad packet" not in line and "is not delivered" not in line]
    if strange:
        raise Violation(f"logged: {strange[0]}")
    for name in set(world.graph.nodes) - world.gone:
        check_node(world, name)
    if world.graph.completion == "delivered" and not world.gone:
        for name in filter(world.graph.is_source, world.graph.nodes):
            check_told(world, name)
    for edge in world.graph.edges:
        if edge.from_node not in world.gone:
            check_edge(world, edge)
        elif edge.to_node not in world.gone:
            check_last_words(world, edge)


def check_told(world: World, source: str) -> None:
    """What a source was told to be delivered, and all that was made of it, has been taken by every sink behind edges that lose nothing."""
    graph = world.graph
    policies = {(edge.from_node, edge.to_node): edge.policy for edge in graph.edges}
    for sink in (name for name, consumers in graph.consumers.items() if not consumers):
        for before in (name for name, to in policies if to == sink and policies[name, to] == "block"):
            made = {name for name in world.names_offered[before] if name.partition(".")[0] in world.told_ok[source]}
            missing = made - world.taken[sink] - set(world.failed[sink])
            if missing:
                raise Violation(f"source {source} was told that {sorted(missing)} were delivered, and {sink} has turned them away")


def in_flight(world: World) -> dict[str, Any]:
    return {e.name: books for e in world.graph.edges for books in [world.books(e.from_node).edges[e.id]] if books.in_flight}


def check_node(world: World, name: str) -> None:
    graph, does, books = world.graph, world.graph.nodes[name], world.books(name)
    if books.refused:
        raise Violation(f"{name} refused {books.refused} messages")
    if name in graph.rings and world.committed_rows(name):
        raise Violation(f"ring of {name}: rows {world.committed_rows(name)} are still COMMITTED")
    if graph.is_source(name):
        if does.positions and not world.stopped:
            missing = {f"{name}{i}" for i in range(graph.packets)} - set(world.names_offered[name])
            if missing:
                raise Violation(f"source {name} left out {sorted(missing)}")
            # What was completed out of order is not known to a successor that has nothing left to emit.
            told_of_all = graph.packets if does.is_told else 0
            if books.position > told_of_all or (books.position < told_of_all and not world.deaths[name]):
                raise Violation(f"source {name} ends at position {books.position - 1} of {told_of_all - 1}")
            untold = world.names_accepted[name] - world.told[name]
            if does.is_told and untold and name not in world.died_late:
                raise Violation(f"source {name} was never told of {sorted(untold)}")
            if books.position_emitted != graph.packets:
                raise Violation(f"source {name} ends, and emitted {books.position_emitted} of {graph.packets} positions")
    elif graph.consumers[name]:
        seen = {entry[0] for (_, to), entries in world.witness.items() if to == name for entry in entries}
        if does.on_error != "retry" and not does.retention and does.batch_max == 1:
            seen -= {each for each in seen if each.partition(".")[0] == world.bad.get(name)}
        seen -= set(world.failed[name])
        wanted = {f"{each}.{name}{k}" for each in seen for k in range(does.fan)}
        missing = wanted - set(world.names_offered[name])
        if missing and not world.gone:  # what a lost node had under way for it is lost with the next kill
            raise Violation(f"{name} took in {sorted(seen)} and never made {sorted(missing)}")


def check_edge(world: World, edge: EdgePlan) -> None:
    graph, source, target = world.graph, edge.from_node, edge.to_node
    books = world.books(source).edges[edge.id]
    if books.in_flight or books.sent != books.completed + books.dropped + books.failed:
        raise Violation(f"books of {edge.name}: {books}")
    entries = world.witness[source, target]
    seen = list(dict.fromkeys(name for name, _, _ in entries))
    offered = world.names_offered[source]
    sure = world.gone or (graph.is_source(source) and (world.stopped or not graph.nodes[source].positions))
    must = set(world.names_accepted[source] if sure else offered)
    given_up = {name for name in offered if name.rpartition(".")[0] in world.failed[source]}
    must -= given_up - world.names_accepted[source]  # an input that killed too often had not been finished
    world.counts["arrived"] += len(seen)
    world.counts["repeats"] += len(entries) - len(seen)
    if edge.policy == "block" and target not in world.gone:
        lost = must - set(seen) - set(world.failed[target])
        if lost:
            raise Violation(f"edge {edge.name} lost {sorted(lost)}")
        failed = len(world.failed[target]) + (world.bad.get(target) is not None) * 99
        handed_back = world.gone and graph.consumers[target]  # what was lost behind it was lost for it, too
        if edge.completion == "hop" and not handed_back and (books.dropped or books.failed > failed):
            raise Violation(f"books of {edge.name}: {books}")
    ghosts = set(seen) - set(offered)
    if ghosts:
        raise Violation(f"edge {edge.name} delivered {sorted(ghosts)}, which nobody sent")
    # What a lossy edge dropped may come later, flagged, when its source resumes before it.
    firsts = seen if edge.policy == "block" else list(dict.fromkeys(name for name, again, _ in entries if not again))
    firsts = [name for name in firsts if name not in given_up]  # a restarted source may try it once more
    if in_order(world, edge) and firsts != [name for name in offered if name in set(firsts)]:
        raise Violation(f"edge {edge.name}: {firsts} is not in the order of {offered}")
    repeats = edge.window + edge.kept
    if world.counts["turned away"]:  # what was derived from inputs that were under way in a process that died is sent as if it were new
        repeats += graph.nodes[source].fan * (graph.nodes[source].batch_max + graph.nodes[source].retention)
    if books.sent < len(seen) or books.sent - books.dropped > len(offered) + sum(world.deaths.values()) * repeats:
        raise Violation(f"books of {edge.name}: {len(offered)} offered, {len(seen)} seen, {books}")
    bound = sum(world.deaths.values()) * (edge.window + 1) * max(1, len(graph.nodes))
    if len(entries) - len(seen) > bound:
        raise Violation(f"edge {edge.name}: {len(entries) - len(seen)} repeats, at most {bound} after {dict(world.deaths)}")


def check_last_words(world: World, edge: EdgePlan) -> None:
    """What a node had committed before it went for good is processed, and its books balance although it keeps them no more."""
    source, target = edge.from_node, edge.to_node
    open_ = [sequence for sequence, mark in world.left_on(edge) if mark < 0]
    if open_:
        raise Violation(f"edge {edge.name}: {open_}, left behind by {source}, were not processed")
    entries = world.witness[source, target]
    seen = list(dict.fromkeys(name for name, _, _ in entries))
    world.counts["last words"] += len(world.left_on(edge))
    lost = world.names_accepted[source] - set(seen) - set(world.failed[target])
    if edge.policy == "block" and lost:
        raise Violation(f"edge {edge.name} lost {sorted(lost)} with {source}")
    if set(seen) - set(world.names_offered[source]):
        raise Violation(f"edge {edge.name} delivered {sorted(set(seen) - set(world.names_offered[source]))}, which nobody sent")
    firsts = seen if edge.policy == "block" else list(dict.fromkeys(name for name, again, _ in entries if not again))
    if in_order(world, edge) and firsts != [name for name in world.names_offered[source] if name in set(firsts)]:
        raise Violation(f"edge {edge.name}: {firsts} is not in the order of {world.names_offered[source]}")


def in_order(world: World, edge: EdgePlan) -> bool:
    """Whether what the producer emits has one order: it does not keep inputs, and does not merge streams."""
    graph = world.graph
    name = edge.from_node
    while not graph.is_source(name):
        before = [each.from_node for each in graph.edges if each.to_node == name]
        if len(before) > 1:
            return False
        name = before[0]
    return True
